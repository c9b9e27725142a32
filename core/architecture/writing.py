"""Writing a model's configuration in the dialect every sentence-transformers from 2 on reads.

What version 6 writes does not load in 5.3; the older dialect loads in all. docs/model-format.md
has both.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.architecture.architecture import TRANSFORMER_CONFIGS, Architecture
from core.architecture.kinds import KINDS, MULTI_VECTOR, RERANKER
from core.architecture.module_files import POOLING_FLAGS
from core.architecture.modules import POOLING_MODES, Dense, LayerNorm, Module, Pooling
from core.architecture.multi_vector_writing import write_multi_vector
from core.architecture.reranker_writing import write_reranker
from core.architecture.sparse_modules import SpladePooling
from core.architecture.staged import read_staged, write_staged
from core.architecture.table import is_plain_table, read_table
from core.files.source import Source
from core.files.weights import WEIGHT_FILES, write_safetensors
from core.version import __version__

_PACKAGE = "sentence_transformers.models."
_SPARSE_PACKAGE = "sentence_transformers.sparse_encoder.models."
_SPARSE_CLASSES = ("MLMTransformer", "SpladePooling", "SparseAutoEncoder")

#: The last version that wrote this dialect; a higher number would make older ones warn.
_DIALECT_VERSION = "5.3.0"


@dataclass(frozen=True)
class ModelSettings:
    """What a user can change on a loaded model, as it will be saved."""

    max_seq_length: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str = "cosine"
    truncate_dim: int | None = None
    activation: str | None = None
    query_length: int | None = None
    document_length: int | None = None
    max_active_dims: int | None = None

    @classmethod
    def of(cls, stated: Any) -> ModelSettings:
        """Those of a model or of an architecture, as far as its kind has them."""
        names = cls.__dataclass_fields__
        return cls(**{name: getattr(stated, name) for name in names if hasattr(stated, name)})


def write_configuration(
    tree: Path,
    source: Source,
    architecture: Architecture,
    settings: ModelSettings,
    ignored_token: int | None = None,
) -> None:
    """Rewrite the configuration of a staged copy of `source` in the old dialect.

    A transformer in a folder of its own moves to the top, where every tool looks for it.

    Args:
        ignored_token: A static embedding's token that the mean leaves out; its row becomes zeros.
    """
    if architecture.routes is not None:  # whose folders hold what the Router names
        _write_settings(tree, settings, architecture.kind)
        _write_length(tree, architecture, settings)
        return
    if architecture.path and not architecture.is_static:
        _flatten(tree, architecture.path)
    if architecture.kind == RERANKER:
        write_reranker(tree, architecture, settings)
        _write_tokenizer_class(tree)
        return
    if architecture.kind == MULTI_VECTOR:
        write_multi_vector(tree, architecture, settings)
        _write_tokenizer_class(tree)
        return
    if architecture.is_static:
        _write_table(tree, source, architecture, ignored_token)
    folders = module_folders(architecture)
    write_staged(
        tree / "modules.json",
        [
            {"idx": i, "name": str(i), "path": folder, "type": _package(name) + name}
            for i, (name, folder) in enumerate(folders)
        ],
    )
    modules = iter(architecture.modules)
    for name, folder in folders[1:]:
        if name != "Dropout":  # it does nothing here, so the chain does not hold it
            _write_module(tree, folder, next(modules), architecture)
    _write_settings(tree, settings, architecture.kind)
    _write_tokenizer_class(tree)
    if not architecture.is_static:
        _write_transformer(tree, architecture, settings)


def module_folders(architecture: Architecture) -> list[tuple[str, str]]:
    """(class, folder) of every module as they are written, the transformer first."""
    first, *others = architecture.entries
    path = first[1] if architecture.is_static else ""
    pools = any(name == "SpladePooling" for name, _ in others)
    folders = [("MLMTransformer" if pools else first[0], path)]
    for index, (name, folder) in enumerate(others, start=1):
        folders.append((name, folder or f"{index}_{name}"))
    return folders


def _package(name: str) -> str:
    return _SPARSE_PACKAGE if name in _SPARSE_CLASSES else _PACKAGE


def _flatten(tree: Path, path: str) -> None:
    folder = tree / path
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            place = tree / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
    shutil.rmtree(folder, ignore_errors=True)


def _write_table(
    tree: Path, source: Source, architecture: Architecture, ignored: int | None
) -> None:
    """model2vec's rows and weights become the one table sentence-transformers reads."""
    if is_plain_table(source, architecture):
        return
    table = read_table(source, architecture)
    if ignored is not None and ignored < len(table):
        table[ignored] = 0.0  # it counts in what is written; at least it adds nothing
    for name in WEIGHT_FILES:
        (tree / architecture.file(name)).unlink(missing_ok=True)
    write_safetensors(
        tree / architecture.file("model.safetensors"),
        {"embedding.weight": np.ascontiguousarray(table, dtype=np.float32)},
    )


def _write_module(tree: Path, folder: str, module: Module, architecture: Architecture) -> None:
    place = tree / folder / "config.json"
    given: dict[str, Any] = read_staged(place)
    config: dict[str, Any]
    if isinstance(module, Pooling):
        width = given.get("embedding_dimension") or given.get("word_embedding_dimension")
        config = _pooling_config(module, width or architecture.hidden_size)
    elif isinstance(module, Dense):
        config = _dense_config(module, given)
    elif isinstance(module, LayerNorm):
        config = {"dimension": int(module.weight.shape[0])}
    elif isinstance(module, SpladePooling):
        config = {
            "pooling_strategy": module.strategy,
            "activation_function": module.activation,
            "word_embedding_dimension": architecture.dimension,
        }
    else:
        return
    write_staged(place, config)


def _pooling_config(module: Pooling, width: int) -> dict[str, Any]:
    config: dict[str, Any] = {"include_prompt": module.include_prompt}
    if list(module.modes) != [mode for mode in POOLING_MODES if mode in module.modes]:
        # Flags have one order; versions since 5.4 read any other from a list.
        return {"embedding_dimension": width, "pooling_mode": list(module.modes), **config}
    flags = {flag: mode in module.modes for mode, flag in POOLING_FLAGS.items()}
    return {"word_embedding_dimension": width, **flags, **config}


def _dense_config(module: Dense, given: Mapping[str, Any]) -> dict[str, Any]:
    outputs, inputs = module.weight.shape
    default = "torch.nn.modules.activation.Tanh"
    config: dict[str, Any] = {
        "in_features": int(inputs),
        "out_features": int(outputs),
        "bias": module.bias is not None,
        "activation_function": given.get("activation_function", default),
    }
    # Versions before 5.4 refuse these keys, so they are written only where they say something.
    if module.use_residual:
        config["use_residual"] = True
    if (module.input_name, module.output_name) != ("sentence_embedding",) * 2:
        config["module_input_name"] = module.input_name
        config["module_output_name"] = module.output_name
    return config


def _write_settings(tree: Path, settings: ModelSettings, kind: str) -> None:
    place = tree / "config_sentence_transformers.json"
    config: dict[str, Any] = read_staged(place)
    versions = config.get("__version__")
    versions = dict(versions) if isinstance(versions, dict) else {}
    written = str(versions.get("sentence_transformers", _DIALECT_VERSION))
    versions["sentence_transformers"] = min(written, _DIALECT_VERSION, key=_version_key)
    versions["core"] = __version__
    config.update(
        {
            "__version__": versions,
            "model_type": KINDS[kind].reference,
            "prompts": dict(settings.prompts),
            "default_prompt_name": settings.default_prompt_name,
            "similarity_fn_name": settings.similarity_fn_name,
        }
    )
    config.pop("truncate_dim", None)
    if settings.truncate_dim is not None:
        config["truncate_dim"] = settings.truncate_dim
    config.pop("max_active_dims", None)
    if settings.max_active_dims is not None:
        config["max_active_dims"] = settings.max_active_dims
    write_staged(place, config)


def _write_tokenizer_class(tree: Path) -> None:
    """transformers 5 names a class that 4 does not know; both know this one, and mean the same."""
    place = tree / "tokenizer_config.json"
    if not place.is_file():
        return
    config = read_staged(place)
    if config.get("tokenizer_class") == "TokenizersBackend":
        # Similarly, 4 expects names for the extra tokens, which tokenizer.json holds anyway.
        if isinstance(config.get("extra_special_tokens"), list):
            config["additional_special_tokens"] = config.pop("extra_special_tokens")
        write_staged(place, {**config, "tokenizer_class": "PreTrainedTokenizerFast"})


def _write_length(tree: Path, architecture: Architecture, settings: ModelSettings) -> None:
    """A changed length of the documents' transformer, where its tokenizer states it."""
    length = settings.max_seq_length
    if length is None or length == architecture.max_seq_length:
        return
    place = tree / architecture.file("tokenizer_config.json")
    config: dict[str, Any] = read_staged(place)
    write_staged(place, {**config, "model_max_length": length})
    for name in TRANSFORMER_CONFIGS:
        place = tree / architecture.file(name)
        if place.is_file():
            config = read_staged(place)
            if config.get("max_seq_length") is not None:
                write_staged(place, {**config, "max_seq_length": length})


def _write_transformer(tree: Path, architecture: Architecture, settings: ModelSettings) -> None:
    for name in TRANSFORMER_CONFIGS:
        (tree / name).unlink(missing_ok=True)
    config: dict[str, Any] = {
        "max_seq_length": settings.max_seq_length,
        "do_lower_case": architecture.do_lower_case,
    }
    stored = {
        "model_args": architecture.model_kwargs,
        "tokenizer_args": architecture.tokenizer_kwargs,
        "config_args": architecture.config_kwargs,
    }
    config.update({name: dict(value) for name, value in stored.items() if value})
    write_staged(tree / TRANSFORMER_CONFIGS[0], config)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part[:9]) for part in version.split(".") if part.isdecimal())
