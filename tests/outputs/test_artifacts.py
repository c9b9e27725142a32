"""What export, optimize, quantize and save make of a model with heads."""

from __future__ import annotations

import json
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import core
from core.cli import main
from tests.conftest import copy_model
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub
from tests.outputs.conftest import OUTPUTS, TEXTS, WIDTH, assert_alike


def test_an_export_is_verified_in_every_kind(m3: Path) -> None:
    for name in ("onnx/model.onnx", "openvino/openvino_model.xml"):
        record = json.loads((m3 / f"{name}.json").read_text())["verification"]
        assert record["min_cosine"] > 0.9999
        assert record["sparse_min_cosine"] > 0.9999
        assert record["sparse_mean_overlap"] > 0.99
        assert record["multi_vector_min_cosine"] > 0.9999


def test_the_graph_holds_the_heads(m3: Path) -> None:
    graph = onnx.load(m3 / "onnx/model.onnx").graph
    sizes = {
        output.name: [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim]
        for output in graph.output
    }
    # The first is what other programs look for.
    assert list(sizes) == ["last_hidden_state", "token_weights", "token_vectors"]
    assert sizes["token_weights"] == ["batch", "tokens"]
    assert sizes["token_vectors"] == ["batch", "tokens", WIDTH]


@pytest.mark.parametrize(
    ("backend", "operation", "config", "options"),
    [
        ("torch", "optimize", "fp16", {}),
        pytest.param("torch", "quantize", "int8", {}, marks=pytest.mark.slow),
        ("onnx", "optimize", "O2", {}),
        pytest.param("onnx", "optimize", "O3", {}, marks=pytest.mark.slow),
        ("onnx", "optimize", "fp16", {}),
        ("onnx", "quantize", "avx2", {}),
        pytest.param("onnx", "quantize", "static", {"num_samples": 8}, marks=pytest.mark.slow),
        ("openvino", "optimize", "fp16", {}),
        ("openvino", "optimize", "fused", {}),
        pytest.param("openvino", "quantize", None, {"num_samples": 8}, marks=pytest.mark.slow),
        pytest.param("openvino", "quantize", "int8-weights", {}, marks=pytest.mark.slow),
    ],
)
def test_made_files_keep_the_heads(
    m3: Path,
    models: dict[str, core.EmbeddingModel],
    tmp_path: Path,
    backend: str,
    operation: str,
    config: str | None,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They drift as little as the embeddings do, and run without anything after the graph."""
    make = getattr(models[backend], operation)
    artifact = make(config=config, target=tmp_path / "made", min_cosine=-1.0, **options)
    found = artifact.verification
    assert isinstance(found, core.OutputsVerification)
    assert found.sparse_mean_cosine is not None
    assert found.multi_vector_mean_cosine is not None
    # A text of one word has all of its weight, or none: the mean of few texts falls by whole ones.
    assert found.sparse_mean_cosine > 0.85
    assert found.multi_vector_mean_cosine > found.mean_cosine - 0.05
    if (backend, config) == ("onnx", "avx2"):
        # A few thousandths of the arithmetic, and one number a token loses much: left in float32.
        weights = onnx.load(artifact.path).graph.initializer
        sizes = [tuple(w.dims) for w in weights if w.data_type == onnx.TensorProto.FLOAT]
        assert (32, 1) in sizes
        assert (32, WIDTH) in sizes
    with artifact.load() as model, caplog.at_level(logging.WARNING, "core"):
        result = model.encode(TEXTS, outputs=OUTPUTS)
    assert "heads" not in caplog.text
    assert tuple(result) == OUTPUTS
    assert [len(vectors) for vectors in result["multi_vector"]] == [
        len(ids) - 1 for ids in (models["torch"].tokenizer.encode([text]).ids for text in TEXTS)
    ]


@pytest.mark.parametrize("keep_source", [True, False])
def test_saving_keeps_the_heads(
    models: dict[str, core.EmbeddingModel],
    expected: list[dict[str, Any]],
    tmp_path: Path,
    keep_source: bool,
) -> None:
    options = core.SaveOptions(keep_source=keep_source)
    core.hooks("onnx").save(models["onnx"], tmp_path / "saved", options)
    with core.load(tmp_path / "saved", backend="onnx", export=False) as again:
        assert again.outputs == OUTPUTS
        assert_alike(again.encode(TEXTS, outputs=OUTPUTS), expected)


def test_an_artifact_elsewhere_has_the_heads_beside_it(
    models: dict[str, core.EmbeddingModel], tmp_path: Path
) -> None:
    artifact = models["onnx"].optimize("O1", target=tmp_path / "elsewhere")
    with core.load(tmp_path / "elsewhere", backend="onnx", file_name=artifact.file_name) as model:
        assert model.outputs == OUTPUTS


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_graph_without_the_heads_says_what_to_do(
    m3: Path,
    expected: list[dict[str, Any]],
    tmp_path: Path,
    backend: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It runs, the heads after it."""
    folder = copy_model(m3, tmp_path / "model")
    for name in ("onnx", "openvino"):
        for file in (folder / name).iterdir():
            file.unlink()
    heads = {
        name: (folder / name).read_bytes() for name in ("sparse_linear.pt", "colbert_linear.pt")
    }
    for name in heads:
        (folder / name).unlink()
    core.export(folder, backend=backend)
    for name, content in heads.items():
        (folder / name).write_bytes(content)
    with core.load(folder, backend=backend, export=False) as model:
        with caplog.at_level(logging.WARNING, "core"):
            for _ in range(2):
                assert_alike(model.encode(TEXTS, outputs=OUTPUTS), expected)
        (record,) = [r for r in caplog.records if "heads" in r.getMessage()]
        assert "sparse and multi_vector" in record.getMessage()
        assert "core.export" in record.getMessage()


def test_a_graph_of_sentence_embeddings_alone_says_what_to_do(m3: Path, tmp_path: Path) -> None:
    folder = copy_model(m3, tmp_path / "model")
    graph = onnx.load(folder / "onnx/model.onnx")
    kept = [output for output in graph.graph.output if output.name == "last_hidden_state"]
    del graph.graph.output[:]
    pooled = onnx.helper.make_node(
        "ReduceMean", [kept[0].name], ["sentence_embedding"], axes=[1], keepdims=0
    )
    graph.graph.node.append(pooled)
    graph.graph.output.append(
        onnx.helper.make_tensor_value_info("sentence_embedding", 1, ["batch", 32])
    )
    graph.opset_import[0].version = 17
    (folder / "onnx/model.onnx").unlink()
    onnx.save(graph, folder / "onnx/model.onnx")
    with core.load(folder, backend="onnx", export=False) as model:
        assert model.encode(TEXTS).shape == (len(TEXTS), 32)
        with pytest.raises(
            core.UnsupportedOperation, match=r"without the model's heads.*core\.export"
        ):
            model.encode(TEXTS, outputs=OUTPUTS)


def test_pooling_on_a_device_takes_the_heads_along(
    m3: Path, models: dict[str, core.EmbeddingModel], expected: list[dict[str, Any]]
) -> None:
    """As on a GPU: token embeddings stay there."""
    from onnx_backend.modules import DevicePooler

    with core.load(m3, backend="onnx", export=False) as model:
        runtime = model.runtime
        runtime._pooler = DevicePooler(runtime.architecture.modules, runtime._sessions.open_bytes)
        assert_alike(model.encode(TEXTS, outputs=OUTPUTS), expected)
        np.testing.assert_allclose(model.encode(TEXTS), models["onnx"].encode(TEXTS), atol=1e-5)


def test_info_lists_the_outputs(m3: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(m3)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"outputs +dense, sparse, multi_vector", shown)
    assert "sparse 1.000000; multi-vector 1.000000" in shown
    assert main(["info", str(m3), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == list(OUTPUTS)


def test_a_pickled_model_has_them_again(
    models: dict[str, core.EmbeddingModel], expected: list[dict[str, Any]]
) -> None:
    with pickle.loads(pickle.dumps(models["onnx"])) as again:
        assert_alike(again.encode(TEXTS, outputs=OUTPUTS), expected)


def test_only_the_heads_files_are_fetched_along(
    m3: Path, expected: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a repository, weights of other backends stay where they are."""
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.create("acme/m3").add(folder_files(m3))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        with core.load("acme/m3", backend="onnx", export=False) as model:
            assert_alike(model.encode(TEXTS, outputs=OUTPUTS), expected)
    fetched = {path.name for path in (tmp_path / "cache").rglob("*") if not path.is_dir()}
    assert {"sparse_linear.pt", "colbert_linear.pt", "model.onnx"} <= fetched
    assert "model.safetensors" not in fetched
