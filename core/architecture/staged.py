"""JSON files of a staged copy of a model: read, and written as people read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.architecture.architecture import TRANSFORMER_CONFIGS
from core.files.source import read_json_file


def read_staged(path: Path) -> dict[str, Any]:
    """What a JSON file holds; empty where there is none, or it holds no object.

    Raises:
        ModelFormatError: It is not JSON: of some files nothing is read to load a model.
    """
    found: Any = read_json_file(path, path.name, kind=object) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def write_staged(path: Path, content: Any) -> None:
    """Write a JSON file, and the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_length(tree: Path, length: int) -> None:
    """State where texts are cut, wherever a reader looks for it.

    Versions since 5.4 read it from tokenizer_config.json, where no other file states one.
    """
    place = tree / "tokenizer_config.json"
    write_staged(place, {**read_staged(place), "model_max_length": length})
    for name in TRANSFORMER_CONFIGS:
        config = read_staged(tree / name)
        changed = False
        if config.get("max_seq_length") is not None:
            config["max_seq_length"], changed = length, True
        for arguments in ("processor_kwargs", "tokenizer_args"):  # which come before the others
            if "model_max_length" in (config.get(arguments) or {}):
                config[arguments]["model_max_length"], changed = length, True
        if changed:
            write_staged(tree / name, config)
