"""Export, optimize and quantize: files, precision, drift, and the architectures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.toolkit import choose_samples
from tests.conftest import copy_model, with_one_layer
from tests.openvino.conftest import Exported
from tests.openvino.test_errors import like_optimum as optimum_config
from tests.openvino.test_load_encode import WORDS, cosines, texts_of
from tests.tiny_models import SPECS

pytestmark = pytest.mark.slow  # exports, quantizes or starts processes

LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)


@pytest.mark.parametrize(
    "name",
    [
        "bert-mean",
        *(pytest.param(n, marks=pytest.mark.slow) for n in sorted({*SPECS} - {"bert-mean"})),
    ],
)
def test_every_architecture_exports_and_agrees(exported: Exported, name: str) -> None:
    folder = exported(name)
    texts = [*texts_of(*LENGTHS), "", "naïve café"]
    with (
        core.load(folder, backend="openvino", export=False) as ours,
        core.load(folder, backend="torch", device="cpu") as theirs,
    ):
        np.testing.assert_array_equal(np.isfinite(ours.encode(texts)), True)
        assert cosines(ours.encode(texts), theirs.encode(texts)).min() >= 0.99999
        # One batch with much padding, which masks whole blocks of attention.
        together = ours.encode(texts, batch_size=len(texts), batch_tokens=100_000)
        assert cosines(together, theirs.encode(texts, batch_size=1)).min() >= 0.99999


def test_the_largest_distance_of_deberta_is_in_its_bucket(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    # Its logarithm is on the edge of a bucket, and OpenVINO's differs in the last bit.
    folder = copy_model(tiny_model("deberta-v2"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_relative_positions": 64}))
    texts = texts_of(60, 100)
    with (
        core.export(folder, tmp_path / "exported", backend="openvino").load() as ours,
        core.load(folder, backend="torch", device="cpu") as theirs,
    ):
        np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts), atol=1e-5)


@pytest.mark.slow
def test_prompts_left_out_of_pooling(exported: Exported) -> None:
    folder = exported("bert-prompts")
    texts = texts_of(1, 7, 20)
    with (
        core.load(folder, backend="openvino") as ours,
        core.load(folder, backend="torch", device="cpu") as theirs,
    ):
        expected = theirs.encode(texts, prompt_name="query")
        assert cosines(ours.encode(texts, prompt_name="query"), expected).min() >= 0.99999
        assert cosines(ours.encode(texts), expected).min() < 0.9999


@pytest.mark.slow
def test_the_sidecar_tells_what_it_is(exported: Exported) -> None:
    record = json.loads((exported("minilm") / "openvino/openvino_model.xml.json").read_text())
    assert (record["backend"], record["operation"], record["precision"]) == (
        "openvino", "export", "fp32",
    )  # fmt: skip
    assert record["files"] == ["openvino/openvino_model.xml", "openvino/openvino_model.bin"]
    assert record["source"]["sha256"]["model.safetensors"].startswith("53aa5117")
    assert record["verification"]["min_cosine"] >= 0.99999
    assert {"openvino", "torch", "transformers"} <= set(record["versions"])


def test_exported_files_are_as_optimum_names_them(exported: Exported) -> None:
    from openvino_backend.imports import openvino

    graph = openvino.Core().read_model(exported("bert-mean") / "openvino/openvino_model.xml")
    assert {name for port in graph.inputs for name in port.get_names()} == {
        "input_ids", "attention_mask", "token_type_ids",
    }  # fmt: skip
    assert graph.outputs[0].get_names() == {"last_hidden_state"}
    assert all(str(port.get_partial_shape()) == "[?,?]" for port in graph.inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "least", "ratio"),
    [("fp16", 0.9999, 0.6), ("int8", 0.99, 0.4), ("int4", 0.5, 0.4)],
)
def test_reduced_precision_exports(
    tiny: Path, precision: str, least: float, ratio: float, capfd: Any
) -> None:
    artifact = core.export(tiny, backend="openvino", precision=precision, min_cosine=-1)
    assert capfd.readouterr().out == ""  # standard output belongs to results
    assert ("nncf" in artifact.versions) is (precision != "fp16")
    assert artifact.file_name == f"openvino/openvino_model_{precision}.xml"
    assert artifact.verification is not None
    assert artifact.verification.mean_cosine >= least
    full = (tiny / "openvino/openvino_model.bin").stat().st_size
    assert artifact.path.with_suffix(".bin").stat().st_size < ratio * full
    with artifact.load() as model:
        assert model.file_name == artifact.file_name
        assert model.encode(texts_of(3, 4)).shape == (2, 32)


@pytest.mark.slow
def test_load_exports_when_there_is_no_file(minilm_copy: Path, exported: Exported) -> None:
    plain = copy_model(exported("bert-mean"), minilm_copy.parent / "plain")
    for path in (plain / "openvino").iterdir():
        path.unlink()
    with core.load(plain, backend="openvino") as model:
        assert model.encode("a text").shape == (32,)
    assert not any((plain / "openvino").iterdir())  # into the cache, not into the model
    with pytest.raises(core.ArtifactNotFound, match="export=False"):
        core.load(plain, backend="openvino", export=False)


def test_optimize_fp16_and_fused(tiny: Path) -> None:
    from openvino_backend.imports import openvino

    texts = texts_of(*LENGTHS)
    with core.load(tiny, backend="openvino") as model:
        expected = model.encode(texts)
        half = core.optimize(model)
        fused = core.optimize(model, "fused")
    assert half.file_name == "openvino/openvino_model_fp16.xml"
    assert fused.file_name == "openvino/openvino_model_fused.xml"
    graph = openvino.Core().read_model(fused.path)
    assert [port.get_names() for port in graph.outputs] == [{"sentence_embedding"}]
    with half.load() as model:
        assert cosines(model.encode(texts), expected).min() >= 0.9999
    with fused.load() as model:
        np.testing.assert_allclose(model.encode(texts), expected, atol=1e-5)
        with pytest.raises(core.UnsupportedOperation, match="sentence embeddings only"):
            model.encode(texts, output_value="token_embeddings")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert-cls", "gemma3", "qwen3", "t5"])
def test_fusing_other_chains(exported: Exported, tmp_path: Path, name: str) -> None:
    folder = copy_model(exported(name), tmp_path / name)
    texts = texts_of(1, 5, 30)
    with core.load(folder, backend="openvino") as model:
        expected = model.encode(texts)
        artifact = core.optimize(model, "fused")
    with artifact.load() as model:
        np.testing.assert_allclose(model.encode(texts), expected, atol=1e-5)


def test_what_cannot_be_fused_says_why(exported: Exported) -> None:
    with (
        core.load(exported("bert-prompts"), backend="openvino") as model,
        pytest.raises(core.UnsupportedOperation, match="prompts out of pooling"),
    ):
        core.optimize(model, "fused")


@pytest.mark.slow
def test_static_int8_of_minilm(exported: Exported, tmp_path: Path) -> None:
    from openvino_backend.imports import openvino

    folder = copy_model(exported("minilm"), tmp_path / "minilm")
    texts = [" ".join(WORDS[i % 7 :: 2] * n) for i, n in enumerate((1, 2, 4, 8, 16, 1, 3, 5))]
    with core.load(folder, backend="openvino") as model:
        expected = model.encode(texts)
        artifact = core.quantize(model, "static", num_samples=24)
    assert artifact.file_name == "openvino/openvino_model_qint8_static.xml"
    assert artifact.precision == "int8"
    assert artifact.config["num_samples"] == 24
    assert artifact.config["own_texts"] is True
    verification = artifact.verification
    assert verification is not None
    assert verification.mean_cosine >= 0.97
    assert verification.min_cosine <= verification.p1_cosine <= verification.mean_cosine
    kinds = {op.get_type_name() for op in openvino.Core().read_model(artifact.path).get_ops()}
    assert "FakeQuantize" in kinds
    with artifact.load() as model:
        assert model.dtype == "int8"
        assert cosines(model.encode(texts), expected).mean() >= 0.97
        with pytest.raises(core.UnsupportedOperation, match="quantized already"):
            core.quantize(model)


@pytest.mark.parametrize("config", ["closest", "int8-weights", "int4-weights"])
def test_small_weights_are_quantized_once(tiny: Path, config: str) -> None:
    with core.load(tiny, backend="openvino") as model:
        artifact = core.quantize(model, config, min_cosine=-1)
    with artifact.load() as model:
        with pytest.raises(core.UnsupportedOperation, match=r"quantized already \(int"):
            core.quantize(model)
        with pytest.raises(core.UnsupportedOperation, match=r"stores int. weights already"):
            core.optimize(model, "fp16")


@pytest.mark.slow
def test_quantize_takes_texts_files_mappings_and_objects(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts_of(3, 5, 9, 20)))
    like_optimum = {"sym": True, "num_samples": 3, "smooth_quant_alpha": 0.5}
    cases = [
        ({"smooth_quant_alpha": -1, "overflow_fix": "enable"}, path, 4),
        (optimum_config(**like_optimum), texts_of(1, 2, 3, 4, 5), 3),
        (optimum_config(dataset=texts_of(1, 2, 3, 4, 5)), None, 5),
        ({"dataset": texts_of(1, 2, 3), "num_samples": np.int64(2)}, None, 2),
        ({"preset": "performance", "ignored_scope": {"types": ["Add"]}}, texts_of(4, 6), 2),
    ]
    with core.load(tiny, backend="openvino") as model:
        for number, (config, calibration, used) in enumerate(cases):
            artifact = core.quantize(
                model, config, calibration=calibration, file_suffix=f"q{number}", min_cosine=-1
            )
            assert artifact.file_name == f"openvino/openvino_model_q{number}.xml"
            assert artifact.config["texts"] == used
            assert artifact.config["own_texts"] is False
    assert json.loads(Path(f"{artifact.path}.json").read_text())["config"]["sym"] is True


def test_what_quantization_runs_has_the_threads_that_core_may_use(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openvino_backend import int8
    from openvino_backend.imports import openvino

    threads, compile_model = set(), openvino.Core.compile_model

    def noted(self: Any, graph: Any, device: str, config: dict[str, Any]) -> Any:
        threads.add(config.get("INFERENCE_NUM_THREADS"))
        return compile_model(self, graph, device, config)

    monkeypatch.setattr(openvino.Core, "compile_model", noted)
    monkeypatch.setattr(int8, "multiplies_int8", lambda: True)  # it calibrates there only
    monkeypatch.setenv("CORE_NUM_THREADS", "2")
    with core.load(tiny, backend="openvino") as model:
        core.quantize(model, num_samples=4)
    assert threads == {2}


@pytest.mark.slow
@pytest.mark.parametrize(("max_drop", "least"), [(0.02, 0.95), (1e-5, 0.9999)])
def test_accuracy_control_bounds_the_drop(
    tiny_model: Callable[[str], Path], tmp_path: Path, max_drop: float, least: float
) -> None:
    with_one_layer(tiny_model("bert-mean"), tmp_path / "tiny")
    with core.load(tmp_path / "tiny", backend="openvino") as model:
        artifact = core.quantize(
            model, {"max_drop": max_drop}, calibration=texts_of(*range(1, 40, 8)), min_cosine=-1
        )
    assert artifact.verification is not None
    assert artifact.verification.mean_cosine >= least


@pytest.mark.slow
def test_a_drop_that_cannot_be_bounded_publishes_nothing(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openvino_backend.imports import import_nncf

    nncf = import_nncf("this test")

    def give_up(graph: Any, calibration_dataset: Any, **arguments: Any) -> Any:
        # What nncf leaves when it can put back no more operations: the model as quantized.
        return nncf.quantize(graph, calibration_dataset)

    monkeypatch.setattr(nncf, "quantize_with_accuracy_control", give_up)
    before = sorted((tiny / "openvino").iterdir())
    with (
        core.load(tiny, backend="openvino") as model,
        pytest.raises(core.VerificationError, match=r"max_drop=1e-09: .*int8-weights"),
    ):
        core.quantize(model, {"max_drop": 1e-9}, calibration=texts_of(*range(1, 40)))
    assert sorted((tiny / "openvino").iterdir()) == before


@pytest.mark.slow
def test_weight_only_quantization_computes_in_float(tiny: Path, capfd: Any) -> None:
    with core.load(tiny, backend="openvino") as model:
        artifact = core.quantize(model, "int8-weights", min_cosine=-1)
    assert capfd.readouterr().out == ""  # standard output belongs to results
    assert artifact.file_name == "openvino/openvino_model_int8_weights.xml"
    with artifact.load() as model:
        assert model.dtype == "float32"


def test_calibration_texts_are_picked_before_they_are_tokenized() -> None:
    given = [str(i) for i in range(1_000)]
    picked = choose_samples(given, 5)
    assert len(picked) == 5
    assert (picked[0], picked[-1]) == ("0", "999")
    lengths = [len(text.split()) for text in choose_samples(None, 200)]
    assert (min(lengths), max(lengths)) > (0, 250)
    assert choose_samples(None, 20) == choose_samples(None, 200)[:20]


def test_static_configurations_have_a_plain_form() -> None:
    from openvino_backend.presets import StaticConfig

    config = StaticConfig()
    assert json.loads(json.dumps(config.as_json())) == config.as_json()
    assert dataclasses.replace(config, sym=True).as_json()["sym"] is True
