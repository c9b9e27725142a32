"""config.json for transformers: without what would send it to other files, or only stop it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.files.source import Source

#: Settings by which transformers reads other files than those it is given.
LEADING_ELSEWHERE = (
    "transformers_weights",
    "configuration_files",
    "gguf_file",
    "backbone",
    "use_pretrained_backbone",
    "use_timm_backbone",
)

#: Settings of classification heads and of training. They change no embedding, and some values stop
#: a load: a name is made up for each of `num_labels`.
SETTINGS_WITHOUT_EFFECT = (
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "task_specific_params",
    "finetuning_task",
    "chunk_size_feed_forward",
)


@contextmanager
def clean_configuration(
    source: Source, name: str, folder: Path, without: Collection[str] = ()
) -> Iterator[Path]:
    """A folder with a config.json that names no other files, in UTF-8.

    Args:
        name: Of the checkpoint's config.json.
        folder: Where it lies; the result where nothing needs to be changed.
        without: What is left out besides.
    """
    content = source.read_json(name)
    left_out = {*LEADING_ELSEWHERE, *without}
    kept = {key: value for key, value in content.items() if key not in left_out}
    with source.path(name).open("rb") as file:
        encoding = json.detect_encoding(file.read(4))
    # transformers reads nothing but UTF-8, without a mark at its start.
    if len(kept) == len(content) and encoding == "utf-8":
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="core-config-") as place:
        Path(place, "config.json").write_text(json.dumps(kept), encoding="utf-8")
        yield Path(place)
