"""A sparse encoder's files: SPLADE, a sparse autoencoder (CSR), or a Router with static queries."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from core.architecture.architecture import Architecture
from core.architecture.chain import Chain
from core.architecture.entries import (
    module_types,
    read_entries,
    router_config,
    router_types,
)
from core.architecture.heads import MaskedLanguageHead
from core.architecture.limits import hidden_size, vocabulary_size
from core.architecture.module_files import read_module
from core.architecture.modules import Pooling
from core.architecture.routes import Routes
from core.architecture.settings import stated_size
from core.architecture.sparse_modules import SparseAutoEncoder, SpladePooling
from core.architecture.transformer_files import (
    check_adapter,
    read_config,
    read_limits,
    read_settings,
    read_transformer,
    transformer_task,
)
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.source import Source

MODULE_CLASSES = (
    "Transformer",
    "MLMTransformer",
    "SpladePooling",
    "Pooling",
    "Normalize",
    "Dense",
    "LayerNorm",
    "SparseAutoEncoder",
    "Dropout",
)

#: The modules of a Router here: queries looked up, documents through SPLADE.
ROUTED_CLASSES = ("SparseStaticEmbedding", "Transformer", "MLMTransformer", "SpladePooling")

_TRANSFORMERS = ("Transformer", "MLMTransformer")
_TASK = MaskedLanguageHead.task
_SETTINGS = "config_sentence_transformers.json"
#: The usual one first.
_SIMILARITIES = ("dot", "cosine", "euclidean", "manhattan")


def read_sparse(source: Source, weights: bool) -> Architecture:
    """The architecture of a sparse encoder.

    Raises:
        ModelFormatError: A file is missing or damaged, or its modules do not fit together.
        UnsupportedOperation: It is built of other modules than those that are run here.
    """
    if not source.has("modules.json"):  # *ForMaskedLM and nothing else
        return _splade(source, [("MLMTransformer", ""), ("SpladePooling", "")], SpladePooling())
    if module_types(source)[0][1] == "Router":
        return _read_router(source)
    entries = read_entries(source, MODULE_CLASSES)
    if entries[0][0] not in _TRANSFORMERS:
        raise ModelFormatError(
            f"{source}: the first module of modules.json is {entries[0][0]}; it must be a "
            "Transformer."
        )
    names = [name for name, _ in entries if name != "Dropout"]
    if "SpladePooling" in names:
        return _read_splade(source, entries)
    if "SparseAutoEncoder" in names:
        return _read_autoencoder(source, entries, weights)
    raise UnsupportedOperation(
        f"{source}: modules.json has neither a SpladePooling nor a SparseAutoEncoder: nothing "
        "makes its embeddings sparse."
    )


def _read_splade(source: Source, entries: list[tuple[str, str]]) -> Architecture:
    names = [name for name, _ in entries if name != "Dropout"]
    if len(names) != 2 or names[1] != "SpladePooling":
        raise UnsupportedOperation(
            f"{source}: modules.json lists {', '.join(names)}; of SPLADE, core runs a Transformer "
            "with a SpladePooling after it."
        )
    folder = next(folder for name, folder in entries if name == "SpladePooling")
    pooling = read_module(source, "SpladePooling", folder, weights=False)
    assert isinstance(pooling, SpladePooling)
    return _splade(source, entries, pooling)


def _splade(
    source: Source, entries: Sequence[tuple[str, str]], pooling: SpladePooling
) -> Architecture:
    """A masked language model, whose logits are pooled."""
    name, path = next(entry for entry in entries if entry[0] in _TRANSFORMERS)
    prefix = f"{path}/" if path else ""
    check_adapter(source, prefix)
    config = read_config(source, prefix)
    transformer = read_transformer(source, prefix)
    task = transformer_task(source, prefix)
    if source.has("modules.json") and name == "Transformer" and task != _TASK:
        raise UnsupportedOperation(
            f"{source}: its SpladePooling reads the logits of a masked language model, and "
            f"sentence_bert_config.json builds the transformer for {task!r}. Its transformer_task "
            f"must be {_TASK!r}."
        )
    width = vocabulary_size(config) or 0
    return Architecture(
        path=path,
        is_static=False,
        entries=tuple(entries),
        modules=(pooling,),
        config=config,
        hidden_size=width,
        dimension=width,
        kind="sparse",
        head=MaskedLanguageHead(),
        max_active_dims=_max_active_dims(source),
        **read_limits(source, prefix, transformer, config),
        **read_settings(source, similarities=_SIMILARITIES),
    )


def _read_autoencoder(
    source: Source, entries: list[tuple[str, str]], weights: bool
) -> Architecture:
    path = entries[0][1]
    prefix = f"{path}/" if path else ""
    check_adapter(source, prefix)
    config = read_config(source, prefix)
    transformer = read_transformer(source, prefix)
    chain = Chain(source, hidden_size(config), static=False, own_code="auto_map" in config)
    for name, folder in entries[1:]:
        module = read_module(source, name, folder, weights)
        if module is not None:
            chain.add(module, folder)
    last = chain.modules[-1]
    pools = any(isinstance(module, Pooling) for module in chain.modules)
    if not isinstance(last, SparseAutoEncoder) or not pools:
        raise UnsupportedOperation(
            f"{source}: modules.json lists {', '.join(name for name, _ in entries)}; of sparse "
            "autoencoders, core runs those that come last, after a Pooling."
        )
    return Architecture(
        path=path,
        is_static=False,
        entries=tuple(entries),
        modules=tuple(chain.modules),
        config=config,
        hidden_size=chain.hidden,
        dimension=chain.dimension,
        kind="sparse",
        max_active_dims=_max_active_dims(source) or last.k,
        **read_limits(source, prefix, transformer, config),
        **read_settings(source, similarities=_SIMILARITIES),
    )


def _read_router(source: Source) -> Architecture:
    """Routes to a table of weights, or to one SPLADE model."""
    listed = module_types(source)
    folder = listed[0][2]
    if len(listed) != 1:
        raise UnsupportedOperation(
            f"{source}: modules.json lists {', '.join(name for _, name, _ in listed)}; core runs a "
            "Router that is the only module."
        )
    config = router_config(source, folder)
    kinds = {}
    for package, name, path in router_types(source, folder):
        if package.split(".")[0] != "sentence_transformers" or name not in ROUTED_CLASSES:
            raise UnsupportedOperation(
                f"{source}: its Router has a module of type {package}.{name}, which core does not "
                f"run there. It runs {', '.join(ROUTED_CLASSES)}."
            )
        kinds[path] = name
    computed: list[tuple[str, str]] | None = None
    folders: dict[str, str | None] = {}
    for route, names in config["structure"].items():
        paths = [f"{folder}/{name}" if folder else name for name in names]
        classes = [kinds[path] for path in paths]
        if classes == ["SparseStaticEmbedding"]:
            folders[route] = paths[0]
            continue
        entries = list(zip(classes, paths, strict=True))
        if computed not in (None, entries) or "SparseStaticEmbedding" in classes:
            raise UnsupportedOperation(
                f"{source}: its Router leads to {', '.join(classes)} by the route {route!r}. core "
                "runs Routers to a SparseStaticEmbedding and to one transformer with a "
                "SpladePooling."
            )
        computed, folders[route] = entries, None
    if computed is None:
        raise UnsupportedOperation(
            f"{source}: no route of its Router leads to a transformer, only to tables of weights "
            "(SparseStaticEmbedding), which count words without a model."
        )
    found = _read_splade(source, computed)
    return replace(found, routes=_read_routes(source, config, folders))


def _read_routes(source: Source, config: dict[str, Any], folders: dict[str, str | None]) -> Routes:
    parameters = config.get("parameters") or {}
    default = parameters.get("default_route")
    if default is None and parameters.get("allow_empty_key", True):
        default = next(iter(folders))
    tasks: dict[str | None, str] = {}
    # What is said of texts goes before what is said of anything.
    for modality in (None, "text"):
        for key, route in (parameters.get("route_mappings") or {}).items():
            task, applies = _mapping_key(source, key)
            if applies == modality:
                tasks[task] = route
    for route in [*tasks.values(), *([] if default is None else [default])]:
        if route not in folders:
            raise ModelFormatError(
                f"{source}: the Router's parameters name the route {route!r}; it has "
                f"{', '.join(folders)}."
            )
    return Routes(folders, default, tasks)


def _mapping_key(source: Source, key: Any) -> tuple[str | None, Any]:
    """Task and modality of a key of `route_mappings`, a pair in Python's spelling."""
    try:
        task, modality = ast.literal_eval(key)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ModelFormatError(
            f"{source}: the Router's route_mappings have the key {key!r:.80}; keys are pairs of a "
            "task and a modality, as \"('query', None)\"."
        ) from error
    if not isinstance(task, str | None):
        raise ModelFormatError(f"{source}: the Router's route_mappings name the task {task!r:.80}.")
    return task, modality


def _max_active_dims(source: Source) -> int | None:
    if not source.has(_SETTINGS) or not source.has("modules.json"):
        return None
    return stated_size(source.read_json(_SETTINGS), f"{source}: {_SETTINGS}", "max_active_dims")
