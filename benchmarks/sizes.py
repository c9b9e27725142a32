"""Four sizes of model, from 23 to 568 million parameters, and how much of each is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkpoints import bert, mpnet, prepare_model, xlm_roberta
from benchmarks.downloads import DownloadFailedError
from benchmarks.progress import say


@dataclass(frozen=True)
class Found:
    """A model that is there.

    Attributes:
        title: What it is called in tables.
        real: Whether its weights are trained ones. Random ones have a speed, but no quality.
    """

    folder: Path
    title: str
    real: bool


@dataclass(frozen=True)
class Size:
    """One size of model.

    Attributes:
        weights: Gigabytes of its weights in float32.
        texts: How many texts of each length are embedded in a round.
        keeps_files: Whether its files stay on disk. Those of the large ones are removed once they
            were measured: all files of the largest are 35 GB.
        pairs: How many pairs of texts with a human judgment are compared; None for all.
        queries: How many queries are searched with; None for all.
    """

    name: str
    weights: float
    find: Callable[[], Found]
    texts: Mapping[str, int]
    keeps_files: bool = True
    pairs: int | None = None
    queries: int | None = None


def _base() -> Found:
    try:
        return Found(mpnet(), "all-mpnet-base-v2, 109M", real=True)
    except DownloadFailedError as error:
        say("all-mpnet-base-v2 cannot be had, random weights take its place:", error)
        return Found(bert(12, 768, 512, head=64), "BERT-base, 109M, random weights", real=False)


def _large() -> Found:
    found = bert(24, 1_024, 512, head=64)
    return Found(found, "BERT-large, 335M, random weights", real=False)


def _multilingual() -> Found:
    # The shape of bge-m3.
    found = xlm_roberta(24, 1_024, 8_193, 250_002, head=64)
    return Found(found, "XLM-R-large, 568M, random weights", real=False)


#: A text of 9,589 characters is cut at 256, 384 and 512 tokens, and not at all by the last.
SIZES = {
    size.name: size
    for size in (
        Size(
            "minilm",
            0.09,
            lambda: Found(prepare_model(), "all-MiniLM-L6-v2, 23M", real=True),
            {"short": 400, "middle": 64, "long": 24},
        ),
        Size(
            "base",
            0.44,
            _base,
            {"short": 160, "middle": 24, "long": 8},
            pairs=500,
            queries=15,
        ),
        Size("large", 1.34, _large, {"short": 48, "middle": 6, "long": 3}, keeps_files=False),
        Size(
            "xlm-r", 2.27, _multilingual, {"short": 48, "middle": 6, "long": 1}, keeps_files=False
        ),
    )
}
