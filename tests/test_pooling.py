"""Every pooling mode, Dense, LayerNorm and Normalize against their definitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import core
from tests.conftest import copy_model

TEXTS = ["", "fox", "The quick brown fox jumps over the lazy dog.", "one two three " * 20]

DEFINITIONS: dict[str, Callable[[Any], Any]] = {
    "cls_token": lambda rows: rows[0],
    "max_tokens": lambda rows: rows.max(axis=0),
    "mean_tokens": lambda rows: rows.mean(axis=0),
    "mean_sqrt_len_tokens": lambda rows: rows.sum(axis=0) / np.sqrt(len(rows)),
    "weightedmean_tokens": lambda rows: np.average(
        rows, axis=0, weights=np.arange(1, len(rows) + 1)
    ),
    "lasttoken": lambda rows: rows[-1],
}


@pytest.fixture
def model_with(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> Callable[..., core.EmbeddingModel]:
    """A tiny model with other modules after its transformer."""

    def make(
        pooling: dict[str, Any],
        extra: list[tuple[str, dict[str, Any], dict[str, Any]]] | None = None,
        padding_side: str = "right",
    ) -> core.EmbeddingModel:
        path = copy_model(
            tiny_model("bert-mean"), tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        )
        (path / "1_Pooling/config.json").write_text(
            json.dumps({"word_embedding_dimension": 32, **pooling})
        )
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        for kind, config, weights in extra or []:
            folder = f"{len(modules)}_{kind}"
            modules.append((folder, kind))
            (path / folder).mkdir()
            (path / folder / "config.json").write_text(json.dumps(config))
            if weights:
                save_file(weights, path / folder / "model.safetensors")
        entries = [
            {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{kind}"}
            for i, (p, kind) in enumerate(modules)
        ]
        (path / "modules.json").write_text(json.dumps(entries))
        tokenizer = json.loads((path / "tokenizer_config.json").read_text())
        tokenizer["padding_side"] = padding_side
        (path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        return core.load(path, backend="torch", device="cpu")

    return make


@pytest.mark.parametrize("mode", sorted(DEFINITIONS))
def test_modes_match_their_definition(
    model_with: Callable[..., core.EmbeddingModel], mode: str
) -> None:
    model = model_with(
        {f"pooling_mode_{mode}": True, "pooling_mode_mean_tokens": mode == "mean_tokens"}
    )
    rows = model.encode(TEXTS, output_value="token_embeddings")
    expected = np.stack([DEFINITIONS[mode](row) for row in rows])
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=2e-5)


@pytest.mark.parametrize("mode", sorted(DEFINITIONS))
def test_modes_respect_left_padding(
    model_with: Callable[..., core.EmbeddingModel], mode: str
) -> None:
    flags = {f"pooling_mode_{name}": name == mode for name in DEFINITIONS}
    model = model_with(flags, padding_side="left")
    rows = model.encode(TEXTS, output_value="token_embeddings")
    expected = np.stack([DEFINITIONS[mode](row) for row in rows])
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=2e-5)


def test_several_modes_are_concatenated_in_a_fixed_order(
    model_with: Callable[..., core.EmbeddingModel],
) -> None:
    model = model_with({"pooling_mode": ["mean", "cls"]})
    assert model.dimension == 64
    listed = model.encode(TEXTS)
    legacy = model_with({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True})
    rows = model.encode(TEXTS, output_value="token_embeddings")
    mean = np.stack([row.mean(axis=0) for row in rows])
    first = np.stack([row[0] for row in rows])
    np.testing.assert_allclose(listed, np.hstack([mean, first]), atol=2e-5)
    np.testing.assert_allclose(legacy.encode(TEXTS), np.hstack([first, mean]), atol=2e-5)


def test_a_partial_legacy_configuration_means_what_it_says(
    model_with: Callable[..., core.EmbeddingModel],
) -> None:
    assert model_with({"pooling_mode_cls_token": True}).dimension == 32


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("torch.nn.modules.activation.Tanh", np.tanh),
        ("torch.nn.modules.linear.Identity", lambda x: x),
        ("torch.nn.modules.activation.ReLU", lambda x: np.maximum(x, 0)),
        ("torch.nn.modules.activation.Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ],
)
@pytest.mark.parametrize("residual", [False, True])
def test_dense(
    model_with: Callable[..., core.EmbeddingModel],
    activation: str,
    function: Callable[[Any], Any],
    residual: bool,
) -> None:
    generator = np.random.default_rng(0)
    weights = {
        "linear.weight": generator.normal(0, 0.2, (16, 32)).astype(np.float32),
        "linear.bias": generator.normal(0, 0.2, 16).astype(np.float32),
    }
    if residual:
        weights["residual.weight"] = generator.normal(0, 0.2, (16, 32)).astype(np.float32)
    config = {
        "in_features": 32,
        "out_features": 16,
        "bias": True,
        "activation_function": activation,
        "use_residual": residual,
    }
    pooled = model_with({"pooling_mode": "mean"}).encode(TEXTS)
    model = model_with({"pooling_mode": "mean"}, [("Dense", config, weights)])
    expected = function(pooled @ weights["linear.weight"].T + weights["linear.bias"])
    if residual:
        expected = expected + pooled @ weights["residual.weight"].T
    assert model.dimension == 16
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=2e-5)


def test_layer_norm_and_normalize(model_with: Callable[..., core.EmbeddingModel]) -> None:
    weights = {
        "norm.weight": np.linspace(0.5, 1.5, 32, dtype=np.float32),
        "norm.bias": np.linspace(-0.1, 0.1, 32, dtype=np.float32),
    }
    pooled = model_with({"pooling_mode": "mean"}).encode(TEXTS)
    model = model_with(
        {"pooling_mode": "mean"},
        [
            ("LayerNorm", {"dimension": 32}, weights),
            ("Dropout", {"dropout": 0.5}, {}),
            ("Normalize", {}, {}),
        ],
    )
    centered = pooled - pooled.mean(axis=1, keepdims=True)
    expected = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + 1e-5)
    expected = expected * weights["norm.weight"] + weights["norm.bias"]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=2e-5)
