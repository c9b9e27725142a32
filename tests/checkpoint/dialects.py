"""Directories in the dialects that published models use, built from the tiny models.

Each keeps its meaning: the directory of a dialect embeds like the tiny model it was made from,
unless its docstring says otherwise.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core.files.weights import write_safetensors
from tests.conftest import build_tiny_model

OLD = "sentence_transformers.models."
_NEW = "sentence_transformers.sentence_transformer.modules."


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def chain(folder: Path, *modules: tuple[str, str]) -> None:
    """modules.json of (type, path)."""
    write(
        folder,
        "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": kind}
            for i, (kind, path) in enumerate(modules)
        ],
    )


def transformer_in_a_folder(folder: Path) -> None:
    """The layout of versions 0 and 1: the transformer in 0_Transformer."""
    shutil.copytree(build_tiny_model("bert-cls"), folder, dirs_exist_ok=True)
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in [f for f in folder.iterdir() if f.is_file() and "modules" not in f.name]:
        if file.name != "config_sentence_transformers.json":
            file.rename(inner / file.name)
    chain(
        folder,
        (OLD + "Transformer", "0_Transformer"),
        (OLD + "Pooling", "1_Pooling"),
        (OLD + "Normalize", "2_Normalize"),
    )


def new_modules(folder: Path) -> None:
    """What 6.x writes: new class paths, new Pooling keys, the length in the tokenizer only."""
    shutil.copytree(build_tiny_model("bert-cls"), folder, dirs_exist_ok=True)
    chain(
        folder,
        ("sentence_transformers.base.modules.transformer.Transformer", ""),
        (_NEW + "pooling.Pooling", "1_Pooling"),
        ("sentence_transformers.base.modules.normalize.Normalize", "2_Normalize"),
    )
    write(
        folder,
        "1_Pooling/config.json",
        {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True},
    )
    write(
        folder,
        "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "last_hidden_state"}
            },
            "module_output_name": "token_embeddings",
        },
    )


def old_length_name(folder: Path) -> None:
    """sentence_roberta_config.json in the place of sentence_bert_config.json."""
    shutil.copytree(build_tiny_model("roberta"), folder, dirs_exist_ok=True)
    (folder / "sentence_bert_config.json").rename(folder / "sentence_roberta_config.json")


def several_modes(folder: Path) -> None:
    """cls, max and mean side by side: 96 dimensions of 32 each."""
    shutil.copytree(build_tiny_model("bert-mean"), folder, dirs_exist_ok=True)
    config = read(folder, "1_Pooling/config.json")
    for mode in ("cls_token", "max_tokens", "mean_tokens"):
        config[f"pooling_mode_{mode}"] = True
    write(folder, "1_Pooling/config.json", config)


def dense_in_pickle(folder: Path) -> None:
    """A Dense layer whose weights are in pytorch_model.bin."""
    import torch

    shutil.copytree(build_tiny_model("bert-mean"), folder, dirs_exist_ok=True)
    torch.manual_seed(1)
    state = {"linear.weight": torch.randn(16, 32) * 0.2, "linear.bias": torch.randn(16) * 0.1}
    (folder / "2_Dense").mkdir()
    torch.save(state, folder / "2_Dense/pytorch_model.bin")
    write(
        folder,
        "2_Dense/config.json",
        {
            "in_features": 32,
            "out_features": 16,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
    )
    chain(
        folder,
        (OLD + "Transformer", ""),
        (OLD + "Pooling", "1_Pooling"),
        (OLD + "Dense", "2_Dense"),
    )


def layer_norm(folder: Path) -> None:
    """A LayerNorm after pooling."""
    shutil.copytree(build_tiny_model("bert-mean"), folder, dirs_exist_ok=True)
    random = np.random.default_rng(2)
    write_safetensors(
        folder / "2_LayerNorm/model.safetensors",
        {
            "norm.weight": random.normal(1, 0.1, 32).astype(np.float32),
            "norm.bias": random.normal(0, 0.1, 32).astype(np.float32),
        },
    )
    write(folder, "2_LayerNorm/config.json", {"dimension": 32})
    chain(
        folder,
        (OLD + "Transformer", ""),
        (OLD + "Pooling", "1_Pooling"),
        (OLD + "LayerNorm", "2_LayerNorm"),
    )


def static_table(folder: Path) -> None:
    """sentence-transformers' static embedding: a table and a tokenizer."""
    tokenizer = build_tiny_model("bert-mean") / "tokenizer.json"
    table = np.random.default_rng(3).normal(size=(400, 24)).astype(np.float32)
    write_safetensors(folder / "0_StaticEmbedding/model.safetensors", {"embedding.weight": table})
    shutil.copyfile(tokenizer, folder / "0_StaticEmbedding/tokenizer.json")
    chain(
        folder, (OLD + "StaticEmbedding", "0_StaticEmbedding"), (OLD + "Normalize", "1_Normalize")
    )
    write(folder, "config_sentence_transformers.json", {"__version__": {}, "prompts": {}})


def no_modules_json(folder: Path) -> None:
    """A bare transformer: mean pooling."""
    source = build_tiny_model("bert-mean")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)


#: Name to what writes it; all of them load in every sentence-transformers since 5.3, except
#: `new-modules`, which 6.x writes and older ones cannot read.
DIALECTS: dict[str, Callable[[Path], None]] = {
    "transformer-in-a-folder": transformer_in_a_folder,
    "old-length-name": old_length_name,
    "several-modes": several_modes,
    "dense-in-pickle": dense_in_pickle,
    "layer-norm": layer_norm,
    "static-table": static_table,
    "no-modules-json": no_modules_json,
}


def build_dialect(name: str, folder: Path) -> Path:
    """Write a dialect's directory."""
    folder.mkdir(parents=True)
    DIALECTS[name](folder)
    return folder
