"""The operations that write files: artifacts verified by scores, and whole models saved."""

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
from core.operations.score_agreement import compare_scores
from tests.rerankers.conftest import BACKENDS, PAIRS

Make = Callable[[str], Path]


def test_an_export_holds_the_head(reranker: Make) -> None:
    import onnx

    folder = reranker("reranker-labels")
    graph = onnx.load(folder / "onnx/model.onnx").graph
    assert [output.name for output in graph.output] == ["logits"]
    shape = graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", 3]
    assert (folder / "openvino/openvino_model.xml").is_file()
    record = json.loads((folder / "onnx/model.onnx.json").read_text())
    assert record["kind"] == "reranker"
    assert record["verification"]["max_score_difference"] < 1e-4
    assert record["verification"]["rank_correlation"] > 0.9999


@pytest.mark.parametrize(
    ("backend", "operation", "config"),
    [
        ("torch", "quantize", None),
        ("onnx", "optimize", "O3"),
        ("onnx", "quantize", "avx2"),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                ("torch", "optimize", "fp16"),
                ("onnx", "optimize", "O2"),
                ("onnx", "quantize", "static"),
                ("openvino", "optimize", "fp16"),
                ("openvino", "quantize", "int8-weights"),
                ("openvino", "quantize", None),
            )
        ),
    ],
)
def test_artifacts_are_verified_by_their_scores(
    writable: Make, backend: str, operation: str, config: str | None
) -> None:
    with core.load_reranker(writable("reranker-bert"), backend=backend) as model:
        expected = model.predict(PAIRS, activation_fn="Identity")
        few = {"num_samples": 24} if config in (None, "static") else {}
        artifact = getattr(core, operation)(model, config, **few)
    found = artifact.verification
    assert isinstance(found, core.ScoreVerification)
    assert found.texts > 20
    assert 0 <= found.mean_score_difference <= found.max_score_difference
    assert found.rank_correlation > 0.8
    with artifact.load() as made:
        assert isinstance(made, core.Reranker)
        difference = np.abs(made.predict(PAIRS, activation_fn="Identity") - expected).max()
    assert difference <= 2 * found.max_score_difference + 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "config", "least"),
    [("onnx", "auto", 0.98), ("openvino", "int8", 0.98), ("openvino", "static", 0.9)],
)
def test_the_output_layer_of_a_language_model_is_no_product_of_tokens(
    writable: Make, backend: str, config: str, least: float
) -> None:
    with core.load_reranker(writable("reranker-qwen3"), backend=backend) as model:
        found = model.quantize(config, num_samples=16).verification
    assert isinstance(found, core.ScoreVerification)
    assert found.rank_correlation > least


@pytest.mark.slow
def test_pairs_and_texts_calibrate(writable: Make) -> None:
    texts: list[Any] = [text for pair in PAIRS for text in pair if text]
    given: list[Any]
    with core.load_reranker(writable("reranker-bert"), backend="onnx") as model:
        for number, given in enumerate((PAIRS, texts)):
            for calibration in (given, iter(given)):
                made = core.quantize(
                    model, "static", calibration=calibration, file_suffix=f"q{number}"
                )
                assert made.config["texts"] == len(given)
        with pytest.raises(OptionError, match="Pair 1 has 3 texts"):
            core.quantize(model, "static", calibration=[("a", "b"), ("a", "b", "c")])


def test_thresholds_belong_to_a_kind(writable: Make, tiny_model: Make, tmp_path: Path) -> None:
    path = writable("reranker-bert")
    with core.load_reranker(path, backend="torch") as model:
        with pytest.raises(OptionError, match=r"min_cosine is for another kind.*max_score_diff"):
            core.quantize(model, min_cosine=0.9)
        with pytest.raises(OptionError, match="max_score_difference must be 0 or more"):
            core.quantize(model, max_score_difference=-1)
    with (
        core.load(tiny_model("bert-cls"), backend="torch") as embedding,
        pytest.raises(OptionError, match="max_score_difference is for another kind"),
    ):
        core.quantize(embedding, target=tmp_path / "made", max_score_difference=0.1)


def test_a_wanted_agreement_is_asked_for(writable: Make, caplog: pytest.LogCaptureFixture) -> None:
    with core.load_reranker(writable("reranker-bert"), backend="torch") as model:
        core.quantize(model, max_score_difference=1e-6, num_samples=8)
        assert "over the difference of 1e-06" in caplog.text
        assert "Check it on your own data" in caplog.text
    with pytest.raises(VerificationError, match="Nothing was published"):
        core.export(writable_again(model), backend="onnx", max_score_difference=0)


def writable_again(model: core.Reranker) -> str:
    """The directory of a model, without what was exported to it."""
    folder = model.source.directory
    assert folder is not None
    shutil.rmtree(folder / "onnx")
    return str(folder)


def test_scores_are_compared_by_size_and_by_order() -> None:
    expected = np.array([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32)
    same = compare_scores(expected, expected)
    assert (same.max_score_difference, same.rank_correlation) == (0.0, 1.0)
    turned = compare_scores(expected, expected[::-1])
    assert turned.rank_correlation == pytest.approx(-1.0)
    assert turned.max_score_difference == 3.0
    assert turned.mean_score_difference == 2.0
    assert compare_scores(expected, np.ones_like(expected)).rank_correlation == 0.0
    for wrong, says in ((expected[:2], "shape"), (expected * np.nan, "not finite")):
        with pytest.raises(VerificationError, match=says):
            compare_scores(expected, wrong)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name",
    ["reranker-bert", pytest.param("reranker-qwen3-chat", marks=pytest.mark.slow),
     pytest.param("reranker-qwen3-bare", marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_saved_reranker_is_the_same(
    reranker: Make, name: str, backend: str, tmp_path: Path
) -> None:
    with core.load_reranker(reranker(name), backend=backend) as model:
        expected = model.predict(PAIRS)
        core.save(model, tmp_path / "plain")
        model.activation_fn, model.max_seq_length = "Tanh", 40
        model.prompts, model.default_prompt_name = {"q": "find: "}, "q"
        changed = model.predict(PAIRS)
        model.save(tmp_path / "changed")
    with core.load_reranker(tmp_path / "plain", backend=backend, export=False) as again:
        np.testing.assert_array_equal(again.predict(PAIRS), expected)
    with core.load_reranker(tmp_path / "changed", backend=backend, export=False) as again:
        assert again.max_seq_length == 40
        assert again.prompts == {"q": "find: "}
        assert again.activation_fn.name == "torch.nn.modules.activation.Tanh"
        np.testing.assert_array_equal(again.predict(PAIRS), changed)
    card = (tmp_path / "plain/README.md").read_text()
    assert "core.load_reranker(" in card
    assert "text-ranking" in card


def test_a_classification_head_keeps_the_older_layout(reranker: Make, tmp_path: Path) -> None:
    with core.load_reranker(reranker("reranker-bert"), backend="torch") as model:
        model.save(tmp_path / "saved")
    assert not (tmp_path / "saved/modules.json").exists()
    config = json.loads((tmp_path / "saved/config.json").read_text())
    stated = config["sentence_transformers"]["activation_fn"]
    assert stated == "torch.nn.modules.activation.Sigmoid"


def test_a_graph_without_the_head_is_named(writable: Make, exports: Callable[..., Path]) -> None:
    path = writable("reranker-bert")
    shutil.copyfile(exports("bert-mean", "onnx") / "onnx/model.onnx", path / "onnx/model.onnx")
    with pytest.raises(core.ModelFormatError, match="without the reranker's head"):
        core.load_reranker(path, backend="onnx")
    (path / "openvino/openvino_model.xml").unlink()
    with pytest.raises(core.ModelFormatError, match="without the reranker's head"):
        core.load_reranker(path, backend="openvino", file_name="onnx/model.onnx")


def test_fused_is_for_embeddings(writable: Make) -> None:
    with (
        core.load_reranker(writable("reranker-bert"), backend="openvino") as model,
        pytest.raises(UnsupportedOperation, match="holds its head already"),
    ):
        model.optimize("fused")
