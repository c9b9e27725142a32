"""A tiny model of bge-m3's construction, and what FlagEmbedding's formulas make of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import core
from tests.conftest import build_tiny_model

BACKENDS = ("torch", "onnx", "openvino")
OUTPUTS = ("dense", "sparse", "multi_vector")
#: Width of a token's vector; bge-m3 has its hidden size there.
WIDTH = 24

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "fox fox fox",
    "",
    "A retrieval system ranks documents by how close they are to the query in vector space.",
    "naïve café Zürich 机器学习",
    "fox fox fox",
    " ".join(["Embeddings turn sentences into vectors, and vectors can be compared."] * 9),
]


def build_m3(folder: Path) -> Path:
    """XLM-RoBERTa with cls pooling, Normalize and both heads, as BAAI/bge-m3 has them."""
    import torch

    shutil.copytree(build_tiny_model("xlm-roberta"), folder)
    pooling = folder / "1_Pooling/config.json"
    content = json.loads(pooling.read_text())
    content.update(pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    pooling.write_text(json.dumps(content))
    modules = json.loads((folder / "modules.json").read_text())
    kind = "sentence_transformers.models.Normalize"
    modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules))
    torch.manual_seed(3)
    for name, rows in (("sparse_linear", 1), ("colbert_linear", WIDTH)):
        layer = torch.nn.Linear(32, rows)
        torch.nn.init.normal_(layer.weight, 0.0, 0.3)
        torch.save(layer.state_dict(), folder / f"{name}.pt")
    return folder


@pytest.fixture(scope="session")
def m3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with the files of every backend. Read only: copy it to write."""
    folder = build_m3(tmp_path_factory.mktemp("m3") / "model")
    for backend in BACKENDS[1:]:
        core.export(folder, backend=backend)
    return folder


@pytest.fixture(scope="session")
def models(m3: Path) -> Iterator[dict[str, core.EmbeddingModel]]:
    """The model on every backend, on the CPU; shared, so leave it as it is."""
    loaded = {name: core.load(m3, backend=name, device="cpu", export=False) for name in BACKENDS}
    yield loaded
    for model in loaded.values():
        model.close()


@pytest.fixture(scope="session")
def expected(m3: Path) -> list[dict[str, Any]]:
    """FlagEmbedding's results for `TEXTS`, one by one, by its published formulas.

    BGEM3FlagModel: `relu` of a linear layer is a token's weight, of which each word keeps the
    largest, but for cls, eos, pad and unk; another linear layer is the vector of each token after
    the first, scaled to length 1; the first token's hidden state, scaled, is the dense embedding.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    tokenizer = Tokenizer.from_file(str(m3 / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    unused = {tokenizer.token_to_id(t) for t in ("<s>", "</s>", "<pad>", "<unk>")}
    model = AutoModel.from_pretrained(m3, dtype=torch.float32).eval()
    heads = {
        name: torch.load(m3 / f"{name}_linear.pt", weights_only=True)
        for name in ("sparse", "colbert")
    }
    results = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        with torch.inference_mode():
            hidden = model(torch.tensor([ids])).last_hidden_state[0]
            weights = torch.relu(_linear(hidden, heads["sparse"]))[:, 0]
            vectors = torch.nn.functional.normalize(_linear(hidden[1:], heads["colbert"]), dim=-1)
            dense = torch.nn.functional.normalize(hidden[0], dim=-1)
        words: dict[int, float] = {}
        for number, weight in zip(ids, weights.tolist(), strict=True):
            if weight > 0 and number not in unused:
                words[number] = max(weight, words.get(number, 0.0))
        results.append({"dense": dense.numpy(), "sparse": words, "multi_vector": vectors.numpy()})
    return results


def _linear(x: Any, state: dict[str, Any]) -> Any:
    return x @ state["weight"].T + state["bias"]


def assert_alike(
    found: dict[str, Any], expected: list[dict[str, Any]], tolerance: float = 1e-4
) -> None:
    """All three kinds of embeddings are those expected, text by text."""
    dense: NDArray[np.float32] = found["dense"]
    assert dense.dtype == np.float32
    np.testing.assert_allclose(dense, [e["dense"] for e in expected], atol=tolerance)
    rows = found["sparse"].to_dicts()
    for row, vectors, text in zip(rows, found["multi_vector"], expected, strict=True):
        assert row.keys() == text["sparse"].keys()
        for word, weight in row.items():
            assert abs(weight - text["sparse"][word]) < tolerance
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, text["multi_vector"], atol=tolerance)
