"""Writing a reranker's configuration as every sentence-transformers with its layout reads it.

A classification head alone is written as versions before 5.4 have it: config.json names the
activation function, and there is no modules.json. Prompts and `LogitScore` exist since 5.4 only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.architecture.architecture import TRANSFORMER_CONFIGS, Architecture
from core.architecture.heads import LogitScore
from core.architecture.staged import read_staged, write_length, write_staged
from core.version import __version__

_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
_LOGIT_SCORE = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
#: The first version with this layout; a higher number would make older ones warn.
_LAYOUT_VERSION = "5.4.0"
_SETTINGS = "config_sentence_transformers.json"


def write_reranker(tree: Path, architecture: Architecture, settings: Any) -> None:
    """Rewrite the configuration of a staged copy whose transformer lies at the top.

    Args:
        settings: `core.architecture.writing.ModelSettings`.
    """
    _write_activation(tree, settings.activation)
    length = settings.max_seq_length
    if length is not None and length != architecture.max_seq_length:
        write_length(tree, length)
    listed = (tree / "modules.json").is_file()
    scores = isinstance(architecture.head, LogitScore)
    if listed or scores or settings.prompts:
        _write_layout(tree, architecture, settings)


def _write_activation(tree: Path, activation: str | None) -> None:
    place = tree / "config.json"
    config = read_staged(place)
    if not config or activation is None:
        return
    stated = config.get("sentence_transformers")
    config["sentence_transformers"] = {
        **(stated if isinstance(stated, dict) else {"version": _LAYOUT_VERSION}),
        "activation_fn": activation,
    }
    config.pop("sbert_ce_default_activation_function", None)
    write_staged(place, config)


def _write_layout(tree: Path, architecture: Architecture, settings: Any) -> None:
    modules = [("", _TRANSFORMER)]
    head = architecture.head
    if isinstance(head, LogitScore):
        folder = next((f for name, f in architecture.entries if name == "LogitScore"), "")
        folder = folder or "1_LogitScore"
        modules.append((folder, _LOGIT_SCORE))
        place = tree / folder / "config.json"
        tokens = {"true_token_id": head.true_token, "false_token_id": head.false_token}
        write_staged(place, {"module_input_name": "causal_logits", **read_staged(place), **tokens})
    write_staged(
        tree / "modules.json",
        [
            {"idx": i, "name": str(i), "path": folder, "type": kind}
            for i, (folder, kind) in enumerate(modules)
        ],
    )
    if not any((tree / name).is_file() for name in TRANSFORMER_CONFIGS):
        write_staged(tree / TRANSFORMER_CONFIGS[0], _transformer(architecture))
    config = read_staged(tree / _SETTINGS)
    versions = config.get("__version__")
    versions = dict(versions) if isinstance(versions, dict) else {}
    versions.setdefault("sentence_transformers", _LAYOUT_VERSION)
    config.update(
        {
            "__version__": {**versions, "core": __version__},
            "model_type": "CrossEncoder",
            "activation_fn": settings.activation or config.get("activation_fn"),
            "prompts": dict(settings.prompts),
            "default_prompt_name": settings.default_prompt_name,
        }
    )
    write_staged(tree / _SETTINGS, config)


def _transformer(architecture: Architecture) -> dict[str, Any]:
    head, template = architecture.head, architecture.chat_template
    assert head is not None
    entry = {"method": "forward", "method_output_name": "logits"}
    modalities: dict[str, Any] = {"text": entry}
    if template is not None:
        form = "structured" if template.structured else "flat"
        modalities["message"] = {**entry, "format": form}
    causal = isinstance(head, LogitScore)
    return {
        "transformer_task": head.task,
        "modality_config": modalities,
        "module_output_name": "causal_logits" if causal else "scores",
    }
