"""Two variants on the same texts: `core similarity` for each, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import OptionError
from core_ui.jobs import Job
from core_ui.sessions import Variant

#: A reranker reads each text with each, so that time grows with the square.
_MOST_PAIRED = 50


@dataclass(frozen=True)
class Similarities:
    """How alike texts are by one variant.

    Attributes:
        scores: float32 [texts, texts], the larger the more alike.
        measure: What the scores are: "cosine", "dot", "maxsim", "score", ...
        has_roles: Whether each row is a query and each column a document.
    """

    scores: NDArray[np.float32]
    measure: str
    has_roles: bool


def check_count(texts: Sequence[str], pair: Sequence[Variant], most: int) -> None:
    """Whether so many texts can be compared.

    Raises:
        OptionError: Too few or too many.
    """
    if any(variant.kind == "reranker" for variant in pair):
        most = min(most, _MOST_PAIRED)
    if not 2 <= len(texts) <= most:
        raise OptionError(f"Give 2 to {most} texts, one a line, not {len(texts)}.")


def compare_steps(pair: Sequence[Variant], folder: Path, texts: str) -> list[list[str]]:
    """A command line for each."""
    return [
        ["similarity", *variant.words(), "--input", str(folder / texts), "--json"]
        for variant in pair
    ]


def similarities_of(job: Job) -> list[Similarities]:
    """By each variant, of a job that is done."""
    return [
        Similarities(
            np.array(result["scores"], dtype=np.float32),
            result["similarity"],
            has_roles=result["kind"] != "embedding",
        )
        for result in job.results()
    ]
