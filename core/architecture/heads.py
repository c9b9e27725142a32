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

    @property
    def mend(self) -> str:
        """What to do where a file of weights has another number of scores than of labels."""
        return "One of the two files belongs to another model: download or copy both again."


@dataclass(frozen=True)
class ClassificationHead(Scoring):
    """The classification layer of a `*ForSequenceClassification` architecture.

    Attributes:
        names_labels: Whether config.json names the labels; if not, there are as many as is usual.
    """

    task: ClassVar[str] = "sequence-classification"

    names_labels: bool = True

    @property
    def mend(self) -> str:
        """What to do where a file of weights has another number of scores than of labels."""
        if self.names_labels:
            return super().mend
        return (
            f"config.json has no id2label, and {len(self.labels)} are usual: name each score in "
            'it, as {"0": "no", "1": "maybe", "2": "yes"}.'
        )


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
