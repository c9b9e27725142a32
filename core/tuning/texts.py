"""The user's texts: read, and divided into those that calibrate and those that judge."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.arguments import check_path
from core.errors import OptionError
from core.texts.inputs import check_texts
from core.texts.text_files import read_text_file

#: Fewer different texts than this have no neighbours worth the name.
LEAST_TEXTS = 20

#: Texts that judge, at most: more would take time from the rounds and change no figure.
MOST_HELD_OUT = 2_000
_MOST_CALIBRATION = 256
_CALIBRATION_SHARE = 0.2

_SEED = 11


@dataclass(frozen=True)
class TuningTexts:
    """Texts in a random order that is always the same.

    Attributes:
        calibration: For the ranges of static quantization; never judged with.
        held_out: What every variant is measured with.
        given: How many texts the user gave.
    """

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    given: int


def read_tuning_texts(texts: Any, field: str | None = None) -> TuningTexts:
    """Texts as `core.tune` was given them; blank ones and repeats are left out.

    Args:
        texts: A sequence of texts, or a `.txt` or `.jsonl` file.
        field: Of each line of a `.jsonl` file; None for "text".

    Raises:
        OptionError: They cannot be read, or there are too few different ones.
    """
    found = _read(texts, field)
    kept = list(dict.fromkeys(text for text in found if text.strip()))
    if len(kept) < LEAST_TEXTS:
        what = f"{len(found)} texts" if len(found) != 1 else "one text"
        differ = f", {len(kept)} of them different and not blank" if len(kept) != len(found) else ""
        raise OptionError(
            f"{_shown(texts)} holds {what}{differ}: a choice needs at least {LEAST_TEXTS} "
            "different texts, better some hundreds, like those that will be embedded."
        )
    random.Random(_SEED).shuffle(kept)
    count = min(_MOST_CALIBRATION, int(len(kept) * _CALIBRATION_SHARE))
    return TuningTexts(tuple(kept[:count]), tuple(kept[count : count + MOST_HELD_OUT]), len(found))


def _read(texts: Any, field: str | None) -> Sequence[str]:
    if isinstance(texts, str | os.PathLike):
        path = check_path("texts", texts)
        if isinstance(texts, str) and not path.suffix and not path.is_file():
            raise OptionError(
                f"texts is {texts!r}: give a sequence of texts, or a .txt or .jsonl file."
            )
        return list(read_text_file(path, field or "text"))
    if field is not None:
        raise OptionError(f"field={field!r} belongs to a .jsonl file, not to a sequence of texts.")
    if not isinstance(texts, Iterable):
        raise OptionError(
            f"texts is {texts!r}: give a sequence of texts, or a .txt or .jsonl file."
        )
    return list(check_texts(texts))


def chunks_of(texts: Sequence[str], size: int) -> list[list[str]]:
    """Texts divided into chunks of equal numbers, none larger than `size`."""
    count = -(-len(texts) // size)
    bounds = [round(number * len(texts) / count) for number in range(count + 1)]
    return [list(texts[start:end]) for start, end in itertools.pairwise(bounds)]


def _shown(texts: Any) -> str:
    if isinstance(texts, str | os.PathLike):
        return repr(str(Path(os.fspath(texts))))
    return f"the {type(texts).__name__} given as texts"
