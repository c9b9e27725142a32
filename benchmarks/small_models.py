"""Models of random weights behind MiniLM's tokenizer, for what MiniLM itself cannot show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.systems import WORK, exported, prepare_model


def bert(
    layers: int,
    hidden: int,
    positions: int,
    backends: Sequence[str],
    *,
    special_tokens: bool = True,
) -> Path:
    """A BERT of this size, with files for these backends; made once.

    Args:
        special_tokens: False leaves out [CLS] and [SEP], so that a text may have a single token.
    """
    folder = WORK / f"bert-{layers}x{hidden}-{positions}{'' if special_tokens else '-plain'}"
    if not (folder / "model.safetensors").exists():
        _make(folder, layers, hidden, positions, special_tokens)
    for backend in backends:
        if backend != "torch":
            exported(folder, backend)
    return folder


def _make(folder: Path, layers: int, hidden: int, positions: int, special_tokens: bool) -> None:
    import torch
    import transformers

    staging = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    ignored = shutil.ignore_patterns(
        "onnx", "openvino", "torch", "model*.safetensors*", "quantized*"
    )
    shutil.copytree(prepare_model(), staging, ignore=ignored)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=max(hidden // 32, 1),
        intermediate_size=4 * hidden,
        max_position_embeddings=positions,
    )
    transformers.BertModel(config).save_pretrained(staging)
    changes: dict[str, dict[str, object]] = {
        "sentence_bert_config.json": {"max_seq_length": positions},
        "tokenizer_config.json": {"model_max_length": positions},
        "1_Pooling/config.json": {"word_embedding_dimension": hidden},
    }
    if not special_tokens:
        changes["tokenizer.json"] = {"post_processor": None}
    for name, change in changes.items():
        content = json.loads((staging / name).read_text())
        (staging / name).write_text(json.dumps(content | change))
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
