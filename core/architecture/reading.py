"""The module chain of a checkpoint, from every dialect of its configuration files.

Formats are those of sentence-transformers 2 to 6 and of model2vec; docs/model-format.md lists
what is read and what is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from core.architecture.architecture import Architecture
from core.architecture.chain import Chain
from core.architecture.chat_template import chat_template
from core.architecture.entries import read_entries, unknown_module
from core.architecture.kinds import EMBEDDING, MULTI_VECTOR, RERANKER, SPARSE, choose_kind
from core.architecture.limits import hidden_size
from core.architecture.module_files import read_module
from core.architecture.modules import Pooling
from core.architecture.multi_vector_files import read_multi_vector
from core.architecture.reranker_files import read_reranker
from core.architecture.sparse_files import read_sparse
from core.architecture.token_heads import read_token_heads
from core.architecture.transformer_files import (
    check_adapter,
    is_first,
    is_model2vec,
    model2vec_normalize,
    read_config,
    read_limits,
    read_settings,
    read_transformer,
)
from core.errors import ModelFormatError
from core.files.source import Source

logger = logging.getLogger("core")

MODULE_CLASSES = (
    "Transformer",
    "StaticEmbedding",
    "Pooling",
    "Normalize",
    "Dense",
    "LayerNorm",
    "Dropout",
)


def read_architecture(
    source: Source, *, kind: str | None = None, weights: bool = True
) -> Architecture:
    """Parse the configuration files of a checkpoint.

    Without `weights` no weight file is opened (or downloaded): the small modules' tensors have
    their shapes and hold zeros.

    Args:
        kind: Of `core.architecture.kinds.KINDS`, what to read it as; None for its own kind.

    Raises:
        ModelFormatError: Missing or unreadable files, or a path out of the directory.
        UnsupportedOperation: Modules that are not run here, by name; or another kind of model.
    """
    chosen = choose_kind(source, kind)
    return _READERS[chosen](source, weights)


def _read_embedding(source: Source, weights: bool) -> Architecture:
    settings = read_settings(source)
    entries = _read_entries(source)
    first_class, first_path = entries[0]
    if first_class not in ("Transformer", "StaticEmbedding"):
        raise ModelFormatError(
            f"{source}: the first module of modules.json is {first_class}; it must be a "
            "Transformer or a StaticEmbedding."
        )
    static = first_class == "StaticEmbedding"
    prefix = f"{first_path}/" if first_path else ""
    if not static:
        check_adapter(source, prefix)
    config = {} if static else read_config(source, prefix)
    transformer = {} if static else read_transformer(source, prefix)
    width, own_code = hidden_size(config), "auto_map" in config
    heads = None
    if not static:
        heads = read_token_heads(source, prefix, 0 if own_code else width, weights)
    chain = Chain(source, width, static, own_code)
    for name, path in entries[1:]:
        module = read_module(source, name, path, weights)
        if module is not None:
            chain.add(module, path)
    modules, hidden, dimension = chain.modules, chain.hidden, chain.dimension
    if not static and not any(isinstance(m, Pooling) for m in modules):
        modules.insert(0, Pooling(modes=(_default_pooling(config),)))
        entries.insert(1, ("Pooling", ""))
        dimension = dimension or hidden
    return Architecture(
        path=first_path,
        is_static=static,
        entries=tuple(entries),
        modules=tuple(modules),
        config=config,
        hidden_size=hidden,
        dimension=dimension,
        token_heads=heads,
        **read_limits(source, prefix, transformer, config, static=static),
        **settings,
    )


def _read_entries(source: Source) -> list[tuple[str, str]]:
    """(class name, path) of every module; a bare transformer counts as one without pooling."""
    if not source.has("modules.json"):
        if not source.has("config.json") and source.has("router_config.json"):
            raise unknown_module(source, "Router", MODULE_CLASSES)
        if is_model2vec(source):
            return [("StaticEmbedding", ""), *model2vec_normalize(source)]
        _check_plain(source)
        return [("Transformer", "")]
    return read_entries(source, MODULE_CLASSES)


def _check_plain(source: Source) -> None:
    """A directory without a module chain: its pooling is a guess."""
    config = read_config(source, "")
    if config:
        logger.warning(
            "%s has no modules.json, so nothing says how its token embeddings become one vector: "
            "%s pooling is assumed.",
            source,
            _default_pooling(config),
        )
    if config and chat_template(source, "") is not None:
        logger.warning(
            "%s has a chat template and no modules.json: newer versions of sentence-transformers "
            "put each text into such a template, core embeds texts as they are.",
            source,
        )


def _default_pooling(config: Mapping[str, Any]) -> str:
    causal = is_first(config, "ForCausalLM") and config.get("is_causal") is not False
    return "lasttoken" if causal else "mean"


#: Each kind's reader of a checkpoint's files: `read(source, weights)`.
_READERS: Mapping[str, Callable[[Source, bool], Architecture]] = {
    EMBEDDING: _read_embedding,
    RERANKER: read_reranker,
    MULTI_VECTOR: read_multi_vector,
    SPARSE: read_sparse,
}
