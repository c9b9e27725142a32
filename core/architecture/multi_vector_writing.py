"""Writing a multi-vector model's configuration as sentence-transformers 6 does.

What was loaded in the layout of PyLate or of Stanford's ColBERT is written so, too: every setting
then stands where one reader looks for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from core.architecture.architecture import TRANSFORMER_CONFIGS, Architecture
from core.architecture.late_interaction import LateInteraction
from core.architecture.modules import Dense
from core.architecture.multi_vector_files import PYLATE_SETTINGS
from core.architecture.staged import read_staged, write_length, write_staged
from core.files.weights import WEIGHT_FILES, write_safetensors
from core.version import __version__

_PACKAGES = {
    "Transformer": "sentence_transformers.base.modules.transformer.",
    "Dense": "sentence_transformers.base.modules.dense.",
    "MultiVectorMask": ("sentence_transformers.multi_vector_encoder.modules.multi_vector_mask."),
    "Normalize": "sentence_transformers.base.modules.normalize.",
    "HierarchicalTokenPooling": (
        "sentence_transformers.multi_vector_encoder.modules.token_pooling."
    ),
}
#: The first version with this layout; a higher number would make older ones warn.
_LAYOUT_VERSION = "6.0.0"
_SETTINGS = "config_sentence_transformers.json"
_OF_TOKENS = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}


def write_multi_vector(tree: Path, architecture: Architecture, settings: Any) -> None:
    """Rewrite the configuration of a staged copy whose transformer lies at the top.

    Args:
        settings: `core.architecture.writing.ModelSettings`.
    """
    rules = architecture.late_interaction
    assert rules is not None
    entries = [(name, path) for name, path in architecture.entries if name in _PACKAGES]
    folders = [
        "" if index == 0 else path or f"{index}_{name}"
        for index, (name, path) in enumerate(entries)
    ]
    write_staged(
        tree / "modules.json",
        [
            {"idx": i, "name": str(i), "path": folder, "type": _PACKAGES[name] + name}
            for i, ((name, _), folder) in enumerate(zip(entries, folders, strict=True))
        ],
    )
    projections = (module for module in architecture.modules if isinstance(module, Dense))
    for (name, _), folder in zip(entries[1:], folders[1:], strict=True):
        place = tree / folder / "config.json"
        if name == "Dense":
            _write_projection(place.parent, next(projections))
        elif name == "MultiVectorMask":
            write_staged(place, _mask(rules))
        elif name == "Normalize":
            write_staged(place, _OF_TOKENS)
        else:
            write_staged(place, {**read_staged(place), **_pooling(rules)})
    _write_transformer(tree, architecture, rules, settings)
    _write_settings(tree, settings)


def _mask(rules: LateInteraction) -> dict[str, Any]:
    ids = rules.keep_only_token_ids
    return {
        "skiplist_words": list(rules.skiplist_words),
        "skiplist_tasks": list(rules.skiplist_tasks),
        "keep_only_token_ids": None if ids is None else list(ids),
    }


def _pooling(rules: LateInteraction) -> dict[str, Any]:
    pooling = rules.pooling
    assert pooling is not None
    return {
        "pool_factor": pooling.pool_factor,
        "num_protected_tokens": pooling.num_protected_tokens,
        "normalize_embeddings": pooling.normalize_embeddings,
        "tasks": list(pooling.tasks),
    }


def _write_projection(folder: Path, dense: Dense) -> None:
    place = folder / "config.json"
    given = read_staged(place)
    outputs, inputs = dense.weight.shape
    identity = "torch.nn.modules.linear.Identity"
    config: dict[str, Any] = {
        "in_features": int(inputs),
        "out_features": int(outputs),
        "bias": dense.bias is not None,
        "activation_function": given.get("activation_function", identity if not given else None),
        **_OF_TOKENS,
    }
    if config["activation_function"] is None:  # the default of what was read
        config["activation_function"] = "torch.nn.modules.activation.Tanh"
    if dense.use_residual:
        config["use_residual"] = True
    write_staged(place, config)
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        weight = np.ascontiguousarray(dense.weight, dtype=np.float32)
        write_safetensors(folder / "model.safetensors", {"linear.weight": weight})


def _write_transformer(
    tree: Path, architecture: Architecture, rules: LateInteraction, settings: Any
) -> None:
    length = settings.max_seq_length
    if length is not None and length != architecture.max_seq_length:
        write_length(tree, length)
    config: dict[str, Any] = {}
    for name in reversed(TRANSFORMER_CONFIGS):
        config = read_staged(tree / name) or config
        (tree / name).unlink(missing_ok=True)
    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    config = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": forward},
        "module_output_name": "token_embeddings",
        **config,
    }
    expansion = rules.expansion
    stated = {
        "query_length": settings.query_length,
        "document_length": settings.document_length,
        "query_expansion": None,
    }
    if expansion is not None:
        stated["query_expansion"] = {
            "strategy": expansion.strategy,
            "attend": expansion.attend,
            "token": expansion.token,
            "length": expansion.length,
        }
        if expansion.strategy == "fixed":  # which is the length
            stated["query_length"] = None
    for name, value in stated.items():
        config.pop(name, None)
        if value is not None:
            config[name] = value
    write_staged(tree / TRANSFORMER_CONFIGS[0], config)


def _write_settings(tree: Path, settings: Any) -> None:
    place = tree / _SETTINGS
    config = {n: value for n, value in read_staged(place).items() if n not in PYLATE_SETTINGS}
    versions = config.get("__version__")
    versions = dict(versions) if isinstance(versions, dict) else {}
    native = config.get("model_type") == "MultiVectorEncoder"
    if not native or "sentence_transformers" not in versions:
        versions["sentence_transformers"] = _LAYOUT_VERSION
    config.update(
        {
            "__version__": {**versions, "core": __version__},
            "model_type": "MultiVectorEncoder",
            "prompts": dict(settings.prompts),
            "default_prompt_name": settings.default_prompt_name,
            "similarity_fn_name": settings.similarity_fn_name,
        }
    )
    write_staged(place, config)
