"""Texts to calibrate quantization with: a sequence, a file, or a dataset of the Hub."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import OptionError
from core.machine.surroundings import expand_home
from core.texts.inputs import check_texts, refuse_containers
from core.texts.samples import default_texts, varied_texts
from core.texts.text_files import TEXT_SUFFIXES, read_text_file

logger = logging.getLogger("core")

#: With fewer different texts than this a warning says that they are few: torch's int8 of
#: all-MiniLM-L6-v2 lost 0.0035 of the mean cosine with 1 text, 0.0019 with 8, 0.0014 with 16 and
#: 0.0012 with 32 and with 64 (docs/performance.md).
FEWEST_TEXTS = 16

#: What a named dataset needs besides its name; all of them or, for a known dataset, none.
DATASET_ARGUMENTS = ("dataset_config_name", "dataset_split", "column_name")

#: Configuration, split and text column of datasets that may be named alone.
KNOWN_DATASETS = {
    "glue": ("sst2", "train", "sentence"),
    "nyu-mll/glue": ("sst2", "train", "sentence"),
}

#: A dataset is not read further than this unless `num_samples` asks for more.
DATASET_TEXTS = 1_000

_SHUFFLE_SEED = 42


def read_calibration(calibration: Any, given: dict[str, Any]) -> list[str]:
    """The calibration texts that `core.quantize` was given.

    Args:
        calibration: A sequence of texts; a `.txt` file (one text a line, blank lines skipped) or
            a `.jsonl` file; or the name of a dataset, which needs the library `datasets`. Blank
            texts are left out.
        given: The operation's other options. What belongs to reading is taken out of it: `field`
            (of each `.jsonl` line, "text" by default), and `dataset_config_name`, `dataset_split`
            and `column_name`. `num_samples` is read and stays: it bounds how much of a dataset
            is loaded.

    Raises:
        OptionError: No texts, an unreadable file, or a dataset that cannot be loaded.
    """
    field = given.pop("field", None)
    dataset = [given.pop(name, None) for name in DATASET_ARGUMENTS]
    num_samples = given.get("num_samples") or _configured_samples(given.get("config"))
    path = _as_path(calibration)
    if path is not None:
        _refuse(dataset, "a dataset", f"the file {str(path)!r}")
        texts = [text for text in read_text_file(path, field or "text") if text.strip()]
    elif isinstance(calibration, str):
        if field is not None:
            raise OptionError(f"field={field!r} belongs to a .jsonl file, not to a dataset.")
        texts = _read_dataset(calibration, dataset, num_samples or DATASET_TEXTS)
    else:
        _refuse([*dataset, field], "a dataset or file", "a sequence of texts")
        if not isinstance(calibration, Iterable):
            raise OptionError(
                f"calibration is {calibration!r}: give a sequence of texts, a .txt or .jsonl file, "
                "or the name of a dataset."
            )
        refuse_containers(calibration, "calibration takes a sequence of texts")
        try:
            texts = [text for text in check_texts(calibration) if text.strip()]
        except OptionError as error:
            raise OptionError(f"calibration: {error}") from error
    if not texts:
        raise OptionError(f"No calibration texts in {_shown(calibration)}: give a few hundred.")
    return texts


def check_calibration(calibration: str, given: Mapping[str, Any]) -> None:
    """Refuse calibration texts that cannot be read, before a model is loaded for them.

    Args:
        given: The operation's other options, as for `read_calibration`.

    Raises:
        OptionError: No such file, or a dataset that is not described in full.
    """
    path = _as_path(calibration)
    if path is None:
        _describe_dataset(calibration, [given.get(name) for name in DATASET_ARGUMENTS])
        return
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise OptionError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error


def choose_varied_samples(given: Sequence[Any] | None, count: int) -> list[Any]:
    """As `choose_samples`, with `varied_texts` where none are given."""
    return varied_texts(count) if given is None else choose_samples(given, count)


def choose_samples(given: Sequence[Any] | None, count: int) -> list[Any]:
    """At most `count` of the texts given, evenly spread over them; or the default ones.

    Files are often sorted by source or length: the first ones would stand for a part only. A
    warning says where those that are given are few.

    Raises:
        OptionError: An empty sequence.
    """
    if given is None:
        return default_texts(count)
    if not len(given):
        raise OptionError(
            "calibration holds no texts: give a few hundred like those to be embedded, or None "
            "for the default ones."
        )
    most = min(count, len(given))
    last = len(given) - 1
    chosen = [given[round(i * last / max(most - 1, 1))] for i in range(most)]
    different = len(set(map(repr, chosen)))
    if different < FEWEST_TEXTS:
        logger.warning(
            "Calibration has %d different %s only: embeddings of others may drift more than these "
            "show. Give a few hundred like those to be embedded, or none for core's own.",
            different,
            "text" if different == 1 else "texts",
        )
    return chosen


def _configured_samples(config: Any) -> int | None:
    """`num_samples` of a quantization's configuration, a mapping or an object."""
    if isinstance(config, Mapping):
        return config.get("num_samples")
    found = getattr(config, "num_samples", None)
    return found if isinstance(found, int) else None


def _as_path(calibration: Any) -> Path | None:
    """A file the caller means; anything else that is text names a dataset."""
    if not isinstance(calibration, str | os.PathLike):
        return None
    path = expand_home(calibration)
    if isinstance(calibration, os.PathLike) or path.suffix in TEXT_SUFFIXES or path.is_file():
        return path
    return None


def _refuse(arguments: list[Any], belongs: str, given: str) -> None:
    if any(value is not None for value in arguments):
        names = ", ".join((*DATASET_ARGUMENTS, "field")[: len(arguments)])
        raise OptionError(f"{names} describe {belongs}; calibration is {given}.")


def _describe_dataset(name: str, arguments: list[Any]) -> list[Any]:
    """Configuration, split and column of a dataset."""
    missing = [n for n, v in zip(DATASET_ARGUMENTS, arguments, strict=True) if v is None]
    if len(missing) == len(DATASET_ARGUMENTS) and name in KNOWN_DATASETS:
        return list(KNOWN_DATASETS[name])
    if missing:
        raise OptionError(
            f"calibration={name!r} is not a file here, so it names a dataset, which also needs "
            f"{', '.join(missing)} (not needed for {', '.join(KNOWN_DATASETS)}). For a file, give "
            "the path of a .txt or .jsonl file that exists."
        )
    return arguments


def _read_dataset(name: str, arguments: list[Any], count: int) -> list[str]:
    config, split, column = _describe_dataset(name, arguments)
    try:
        import datasets
    except ImportError as error:
        raise OptionError(
            f"calibration={name!r} names a dataset, which needs `pip install datasets`. Or give "
            "texts as a list, a .txt or a .jsonl file."
        ) from error
    try:
        rows = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # a library of many layers: any of them can fail
        raise OptionError(
            f"The dataset {name!r} ({config!r}, split {split!r}) could not be loaded: {error}"
        ) from error
    if column not in rows.column_names:
        raise OptionError(
            f"The dataset {name!r} has no column {column!r}; it has {', '.join(rows.column_names)}."
        )
    # Datasets are often sorted by label or source: a seeded sample stands for all of it.
    sample = rows.shuffle(seed=_SHUFFLE_SEED).select(range(min(count, len(rows))))
    return list(check_texts(list(sample[column])))


def _shown(calibration: Any) -> str:
    if isinstance(calibration, str | os.PathLike):
        return repr(os.fspath(calibration))
    return f"the {type(calibration).__name__} given"
