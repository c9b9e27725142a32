"""Which of a model's files are weights, and which are the configuration it cannot do without."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import tokenizers

from core.architecture.architecture import TRANSFORMER_CONFIGS, Architecture
from core.architecture.token_heads import HEAD_FILES
from core.architecture.writing import ModelSettings, write_configuration
from core.artifacts.artifact import SIDECAR_SUFFIX
from core.artifacts.tuned import LOCK_NAME
from core.checkpoint.checkpoint import Checkpoint
from core.checkpoint.resolve import MODEL_MARKERS
from core.errors import ModelFormatError
from core.files.source import read_json_file
from core.files.staging import copy_file
from core.files.weights import WEIGHT_FILES
from core.plugin.known_backends import FOREIGN_WEIGHTS, KNOWN_FILES, OTHER_WEIGHTS
from core.plugin.registry import registry
from core.tokenizer.reading import read_tokenizer
from core.tokenizer.tokenizer import Tokenizer

#: Configuration that `core` reads and that decides a model's results, in its transformer's folder
#: and at its top. The folders of further modules count whole.
DECIDING_FILES = (
    "modules.json", "config_sentence_transformers.json", *TRANSFORMER_CONFIGS, "config.json",
    "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "*.model", "*.vocab",
    "tekken.json", "entity_vocab.json", "bpe.codes",
)  # fmt: skip

#: What a transformers model states in config.json, and other programs in theirs do not.
_OF_A_MODEL = ("model_type", "architectures")
_MODULE_FOLDER = re.compile(r"\d{1,2}_[A-Z]\w*/")


def is_weights(name: str) -> bool:
    """Whether a file holds weights or a compiled model, in any framework's format.

    The sidecar of such a file counts as well.
    """
    file = name.removesuffix(SIDECAR_SUFFIX)
    return any(fnmatchcase(n, pattern) for n in (name, file) for pattern in _PATTERNS)


def is_foreign(name: str) -> bool:
    """Whether a file holds weights of a framework that no backend of this repository runs."""
    return any(fnmatchcase(name, pattern) for pattern in FOREIGN_WEIGHTS)


def holds_model(folder: Path) -> bool:
    """Whether a directory holds a model at its top; other programs have a config.json, too."""
    if any((folder / name).is_file() for name in MODEL_MARKERS if name != "config.json"):
        return True
    config = folder / "config.json"
    try:
        stated = read_json_file(config, str(config)) if config.is_file() else {}
    except ModelFormatError:
        return False
    return any(key in stated for key in _OF_A_MODEL)


def model_parts() -> Callable[[str], bool]:
    """Tells whether a file of a model's directory is a part of the model, by its name.

    The others are what users put beside it: notes, results, other models in folders of their own.
    """
    stated = {name for files in KNOWN_FILES.values() for name in files}
    for _, found in registry.working():
        stated |= {*found.capabilities.file_names, *found.capabilities.file_patterns}
    folders = {name.rpartition("/")[0] for name in stated}

    def is_part(name: str) -> bool:
        if _MODULE_FOLDER.match(name):
            return True
        folder, _, file = name.rpartition("/")
        known = any(fnmatchcase(file, pattern) for pattern in (*DECIDING_FILES, "*_config.json"))
        return folder in folders and (known or is_weights(name))

    return is_part


def configuration_names(source: Checkpoint) -> list[str]:
    """What a directory needs beside a backend's file: configuration, tokenizer, small modules."""
    architecture = source.architecture
    if architecture.is_static:
        own = {architecture.file(name) for name in WEIGHT_FILES}
        return [n for n in source.names if n in own or not is_weights(n)]
    modules = [folder for _, folder in architecture.entries[1:]]
    looked_up = architecture.routes.folders.values() if architecture.routes else ()
    folders = [f"{folder}/" for folder in (*modules, *looked_up) if folder]
    beside = architecture.file("")
    heads = {architecture.file(name) for name in HEAD_FILES.values()}
    kept = []
    for name in source.names:
        in_module = any(name.startswith(folder) for folder in folders)
        at_top = "/" not in name or "/" not in name.removeprefix(beside)
        if in_module or name in heads or (at_top and not is_weights(name)):
            kept.append(name)
    return kept


def stage_configuration(source: Checkpoint, tree: Path) -> None:
    """Put into `tree` what a directory needs beside a backend's file to load on its own."""
    for name in filter(source.available, configuration_names(source)):
        if not name.startswith(".") and name not in ("README.md", LOCK_NAME):
            copy_file(source.path(name), tree / name)
    architecture = source.architecture
    write_configuration(tree, source, architecture, ModelSettings.of(architecture))
    if has_marks(architecture):
        write_tokenizer(tree, read_tokenizer(source, architecture))


def has_marks(architecture: Architecture) -> bool:
    """Whether the tokenizer finds marks of queries and documents whole that its files would cut
    up: the layouts that state them are not written."""
    rules = architecture.late_interaction
    return rules is not None and bool(rules.prefixes)


def write_tokenizer(tree: Path, tokenizer: Tokenizer) -> None:
    """Write tokenizer.json as the tokenizer is now, but for where it cuts texts."""
    copy = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    copy.no_truncation()
    copy.save(str(tree / "tokenizer.json"))


def _patterns() -> tuple[str, ...]:
    """Of every weight file, at the top and in any folder."""
    found = {*OTHER_WEIGHTS, *FOREIGN_WEIGHTS}
    for files in KNOWN_FILES.values():
        for pattern, companions in files.items():
            folder, slash, name = pattern.rpartition("/")
            stem = name.rpartition(".")[0]
            beside = (c.format(file=name, stem=stem) for c in companions)
            found |= {pattern, *(f"{folder}{slash}{companion}" for companion in beside)}
    return tuple(sorted(found | {f"*/{pattern}" for pattern in found}))


_PATTERNS = _patterns()
