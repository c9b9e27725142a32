"""What stands on a transformer in the place of a module chain, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Head:
    """A head that the transformer is loaded with.

    Attributes:
        task: What the transformer is built for; names are sentence-transformers'
            `transformer_task`.
    """

    task: ClassVar[str]


@dataclass(frozen=True)
class Scoring(Head):
    """A reranker's head: scores of a pair of texts.

    Attributes:
        labels: A name for each score.
        activation: What is applied to the scores, as the files state it: a dotted path; None
            where they leave it open.
    """

    labels: tuple[str, ...]
    activation: str | None = None


@dataclass(frozen=True)
class ClassificationHead(Scoring):
    """The classification layer of a `*ForSequenceClassification` architecture."""

    task: ClassVar[str] = "sequence-classification"


@dataclass(frozen=True)
class LogitScore(Scoring):
    """The logit of one token after the last one, less that of another.

    Attributes:
        true_token: The id of the token that says yes.
        false_token: The id of the one that says no; None to leave out the difference.
    """

    task: ClassVar[str] = "text-generation"

    true_token: int = 0
    false_token: int | None = None


@dataclass(frozen=True)
class MaskedLanguageHead(Head):
    """The output layer of a `*ForMaskedLM` architecture: a logit for each word of the vocabulary at
    each token, which a `SpladePooling` makes weights of.
    """

    task: ClassVar[str] = "fill-mask"
