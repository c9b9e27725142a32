"""The operations that write files: artifacts verified by vectors, and whole models saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import OptionError, UnsupportedOperation, VerificationError
from core.operations.vector_agreement import compare_vectors
from scripts.kinds_parity import differences
from tests.conftest import copy_model
from tests.kinds.test_recorded import recorded
from tests.kinds.texts import SHORT_TEXTS
from tests.multi_vector.conftest import BACKENDS
from tests.multi_vector.test_vectors import assert_close, results_of

Make = Callable[[str], Path]


def test_an_export_holds_projection_and_norm(exported: Make) -> None:
    import onnx
    import onnxruntime

    folder = exported("colbert")
    graph = onnx.load(folder / "onnx/model.onnx").graph
    # The first is what sentence-transformers reads.
    assert [output.name for output in graph.output] == ["last_hidden_state", "token_vectors"]
    shape = graph.output[1].type.tensor_type.shape.dim
    assert [d.dim_param for d in shape[:2]] == ["batch", "tokens"]
    session = onnxruntime.InferenceSession(str(folder / "onnx/model.onnx"))
    with core.load_multi_vector(folder, backend="torch") as model:
        batch = model.tokenize(["a cat", "a dog that sleeps"])
        expected = model.encode("a cat", prompt="")
    feed = {entry.name: batch[entry.name] for entry in session.get_inputs()}
    (vectors,) = session.run(["token_vectors"], feed)
    np.testing.assert_allclose(vectors[0, : len(expected)], expected, atol=1e-5)
    record = json.loads((folder / "onnx/model.onnx.json").read_text())
    assert record["kind"] == "multi_vector"
    assert record["verification"]["min_cosine"] > 0.99999
    assert record["verification"]["max_maxsim_difference"] < 1e-4
    # Queries are compared as they are filled up, too.
    assert record["verification"]["texts"] > 60


@pytest.mark.parametrize(
    ("backend", "operation", "config"),
    [
        ("torch", "quantize", None),
        ("onnx", "optimize", "O3"),
        ("onnx", "quantize", "avx2"),
        pytest.param("openvino", "quantize", "int8-weights", marks=pytest.mark.slow),
    ],
)
def test_artifacts_are_verified_by_their_vectors(
    writable: Make, backend: str, operation: str, config: str | None
) -> None:
    with core.load_multi_vector(writable("colbert"), backend=backend) as model:
        queries, documents = model.encode_query(SHORT_TEXTS), model.encode_document(SHORT_TEXTS)
        expected = model.similarity(queries, documents)
        few = {"num_samples": 8} if (operation, config) == ("quantize", None) else {}
        artifact = getattr(core, operation)(model, config, **few)
    found = artifact.verification
    assert isinstance(found, core.VectorVerification)
    assert found.vectors > 1000
    assert found.min_cosine <= found.p1_cosine <= 1
    assert 0.99 < found.mean_cosine <= 1
    assert found.mean_maxsim_difference <= found.max_maxsim_difference
    assert found.rank_correlation > 0.8
    with artifact.load() as made:
        assert isinstance(made, core.MultiVectorEncoder)
        scores = made.similarity(made.encode_query(SHORT_TEXTS), made.encode_document(SHORT_TEXTS))
    # Of 32 vectors of a query.
    assert np.abs(scores - expected).max() <= 32 * 3 * found.max_maxsim_difference + 1e-4


def test_thresholds(writable: Make, caplog: pytest.LogCaptureFixture) -> None:
    with core.load_multi_vector(writable("colbert"), backend="torch") as model:
        with pytest.raises(OptionError, match=r"max_score_difference is for another kind"):
            core.quantize(model, max_score_difference=0.1)
        core.quantize(model, min_cosine=0.99999, num_samples=8)
        assert "under the mean of 0.99999 asked for (min_cosine)" in caplog.text
        folder = model.source.directory
        assert folder is not None
        shutil.rmtree(folder / "onnx")
        with pytest.raises(VerificationError, match="Nothing was published"):
            core.export(str(folder), backend="onnx", min_cosine=1)
        assert not (folder / "onnx").exists()


def test_vectors_are_compared_by_direction_and_by_order() -> None:
    random = np.random.RandomState(3)
    expected = [random.standard_normal((n, 8)).astype(np.float32) for n in (3, 5, 2)]
    expected = [row / np.linalg.norm(row, axis=1, keepdims=True) for row in expected]
    same = compare_vectors(expected, expected)
    assert (same.texts, same.vectors) == (3, 10)
    assert same.min_cosine == pytest.approx(1)
    assert (same.max_maxsim_difference, same.rank_correlation) == (0, 1)
    turned = compare_vectors(expected, [-row for row in expected])
    assert turned.mean_cosine == pytest.approx(-1)
    assert turned.max_maxsim_difference == 0
    for wrong, says in (
        ([row[:1] for row in expected], "shape"),
        ([row * np.nan for row in expected], "finite"),
    ):
        with pytest.raises(VerificationError, match=says):
            compare_vectors(expected, wrong)


@pytest.mark.parametrize(
    ("name", "backend"),
    [("stanford", "torch"), ("pylate", "torch"), *(("colbert", b) for b in BACKENDS)],
)
def test_a_saved_model_is_the_same(
    exported: Make, tiny_kind: Make, name: str, backend: str, tmp_path: Path
) -> None:
    path = tiny_kind(name) if backend == "torch" else exported(name)
    with core.load_multi_vector(path, backend=backend) as model:
        model.save(tmp_path / "plain")
        model.document_length, model.max_seq_length = 20, 40
        model.prompts, model.similarity_fn_name = {"query": "find: "}, "meanmaxsim"
        core.save(model, tmp_path / "changed")
        changed = [model.encode_query(SHORT_TEXTS), model.encode_document(SHORT_TEXTS)]
    with core.load_multi_vector(tmp_path / "plain", backend=backend, export=False) as again:
        assert not differences(results_of(again), recorded(name))
    with core.load_multi_vector(tmp_path / "changed", backend=backend, export=False) as again:
        assert (again.document_length, again.max_seq_length) == (20, 40)
        assert again.prompts == {"query": "find: ", "document": ""}
        assert again.similarity_fn_name == "meanmaxsim"
        assert_close(again.encode_query(SHORT_TEXTS), changed[0])
        assert_close(again.encode_document(SHORT_TEXTS, prompt=""), changed[1])
    settings = json.loads((tmp_path / "plain/config_sentence_transformers.json").read_text())
    assert settings["model_type"] == "MultiVectorEncoder"
    assert not {"query_prefix", "document_prefix", "skiplist_words"} & set(settings)
    card = (tmp_path / "plain/README.md").read_text()
    assert "core.load_multi_vector(" in card
    assert "MultiVectorEncoder(" in card


def test_an_export_elsewhere_loads_on_its_own(tiny_kind: Make, tmp_path: Path) -> None:
    """Stanford's projection lies among weights that are not copied along."""
    core.export(tiny_kind("stanford"), tmp_path / "made", backend="onnx")
    assert not (tmp_path / "made/model.safetensors").exists()
    with core.load_multi_vector(tmp_path / "made", backend="onnx") as model:
        assert not differences(results_of(model), recorded("stanford"))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_tokens_that_see_no_other_are_exported(
    tiny_kind: Make, tmp_path: Path, backend: str
) -> None:
    """What a query is filled up with, further from it than a ModernBERT's windows reach."""
    folder = copy_model(tiny_kind("colbert-plain"), tmp_path / "model")
    place = folder / "sentence_bert_config.json"
    config = json.loads(place.read_text())
    config["query_expansion"] = {"strategy": "fixed", "attend": False, "length": 40}
    place.unlink()
    place.write_text(json.dumps(config))
    with core.load_multi_vector(folder, backend="torch") as model:
        expected = model.encode_query(SHORT_TEXTS)
    with core.export(folder, tmp_path / "made", backend=backend).load() as model:
        assert_close(model.encode_query(SHORT_TEXTS), expected)


def test_graphs_without_the_projection_run(writable: Make, tmp_path: Path) -> None:
    """As sentence-transformers writes them, with Optimum."""
    import onnx
    import openvino

    path = writable("colbert")
    model = onnx.load(path / "onnx/model.onnx")
    del model.graph.output[1:]
    onnx.save(model, path / "onnx/model.onnx")
    graph = openvino.Core().read_model(path / "openvino/openvino_model.xml")
    alone = openvino.Model([graph.outputs[0].get_node().input_value(0)], graph.get_parameters())
    alone.outputs[0].get_tensor().set_names({"last_hidden_state"})
    openvino.save_model(alone, tmp_path / "alone.xml", compress_to_fp16=False)
    for ending in ("xml", "bin"):
        shutil.copyfile(tmp_path / f"alone.{ending}", path / f"openvino/openvino_model.{ending}")
    for backend in BACKENDS[1:]:
        with core.load_multi_vector(path, backend=backend, export=False) as loaded:
            assert not differences(results_of(loaded), recorded("colbert"))
            if backend == "openvino":
                fused = loaded.optimize("fused")
    with fused.load() as loaded:
        assert not differences(results_of(loaded), recorded("colbert"))


def test_vectors_are_known_by_name_or_by_width(writable: Make) -> None:
    """Other tools name them otherwise."""
    import onnx

    path = writable("colbert")
    for names in (("x", "contextual"), ("last_hidden_state", "y")):
        model = onnx.load(path / "onnx/model.onnx")
        for output, name in zip(model.graph.output, names, strict=True):
            for node in model.graph.node:
                for values in (node.output, node.input):
                    for place, value in enumerate(values):
                        if value == output.name:
                            values[place] = name
            output.name = name
        del model.graph.output[:1]
        model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 16
        onnx.save(model, path / "onnx/other.onnx")
        with core.load_multi_vector(path, backend="onnx", file_name="onnx/other.onnx") as loaded:
            assert not differences(results_of(loaded), recorded("colbert"))


def test_files_of_other_models_are_refused(writable: Make, exports: Callable[..., Path]) -> None:
    path = writable("colbert")
    embedding = exports("bert-mean", "onnx")
    place = path / "1_Dense/config.json"
    config = json.loads(place.read_text())
    place.write_text(json.dumps({**config, "in_features": 48}))
    with pytest.raises(core.ModelFormatError, match=r"linear\.weight.*1_Dense|takes token"):
        core.load_multi_vector(path, backend="onnx")
    place.write_text(json.dumps(config))
    with pytest.raises(
        UnsupportedOperation, match=r"an embedding model.*load it with core\.load\."
    ):
        core.load_multi_vector(embedding, backend="onnx")


def test_what_measures_sentences_is_refused(writable: Make) -> None:
    with core.load_multi_vector(writable("colbert"), backend="openvino") as model:
        with pytest.raises(UnsupportedOperation, match="holds its projection already"):
            model.optimize("fused")
        with pytest.raises(UnsupportedOperation, match="max_drop needs an embedding model's"):
            model.quantize(max_drop=0.01, calibration=["a cat", "a dog", "a fox", "a bird"])


@pytest.mark.slow
def test_texts_calibrate(writable: Make) -> None:
    given: Any = [*filter(None, SHORT_TEXTS), "the quick brown fox"]
    with core.load_multi_vector(writable("colbert"), backend="onnx") as model:
        made = model.quantize("static", calibration=given)
    assert made.config["texts"] == len(given)
    assert made.verification.mean_cosine > 0.95
