"""Export, optimize, quantize: agreement with torch, names, chains, sidecars and refusals."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

import core
from core import Artifact, EmbeddingModel
from core.architecture.batch import TokenBatch
from core.engine.batching import pad
from core.errors import OptionError, UnsupportedOperation
from core.operations.embedding_agreement import compare
from core.toolkit import read_onnx_file
from onnx_backend.presets import choose_preset
from tests.conftest import copy_model
from tests.tiny_models import SPECS

pytestmark = pytest.mark.slow  # exports, quantizes or starts processes

ARCHITECTURES = (
    "bert-cls", "roberta", "xlm-roberta", "distilbert", "mpnet", "albert", "deberta-v2",
    "modernbert", "roformer", "qwen3", "gemma3", "t5",
    # What only transformers 5 has is missing from SPECS beside an older one.
    *sorted({"nomic-bert", "gte", "eurobert", "jina-v3"} & SPECS.keys()),
)  # fmt: skip


def batches(model: EmbeddingModel, lengths: tuple[int, ...], rows: int) -> list[TokenBatch]:
    """Random real tokens: for each length one batch padded on either side."""
    random = np.random.default_rng(0)
    made = []
    for length in lengths:
        sizes = random.integers(1, length + 1, size=rows)
        sizes[0] = length
        ids = random.integers(5, 150, size=int(sizes.sum())).astype(np.int32)
        for side in ("right", "left"):
            made.append(pad(ids, sizes.astype(np.int64), model.tokenizer.pad_id, side))
    return made


def embeddings(model: EmbeddingModel, made: list[TokenBatch]) -> NDArray[np.float32]:
    return np.concatenate([model.runtime.sentence_embeddings(batch) for batch in made])


@pytest.mark.parametrize(
    "name",
    [ARCHITECTURES[0], *(pytest.param(n, marks=pytest.mark.slow) for n in ARCHITECTURES[1:])],
)
def test_exports_agree_with_torch(name: str, exported: Callable[[str], Path]) -> None:
    folder = exported(name)
    with core.load(folder, backend="onnx") as ours, core.load(folder, backend="torch") as torchs:
        made = [*batches(torchs, (1, 7, 33, 120), 5), *batches(torchs, (64,), 1)]
        drift = compare(embeddings(torchs, made), embeddings(ours, made))
        assert drift.min_cosine >= 0.99999
        texts = ["short", "a longer text about the sea and the shells in it", ""]
        drift = compare(torchs.encode(texts), ours.encode(texts))
        assert drift.min_cosine >= 0.99999


@pytest.fixture(scope="module")
def shapes(minilm_torch: EmbeddingModel) -> tuple[list[TokenBatch], NDArray[np.float32]]:
    """Batches of every length, and their embeddings by torch."""
    made = batches(minilm_torch, (1, 2, 17, 512), 2) + batches(minilm_torch, (16,), 64)
    return made, embeddings(minilm_torch, made)


def test_the_real_model_agrees_at_every_length_and_batch(
    model: EmbeddingModel, shapes: tuple[list[TokenBatch], NDArray[np.float32]]
) -> None:
    made, expected = shapes
    assert compare(expected, embeddings(model, made)).min_cosine >= 0.99999


@pytest.fixture(scope="module")
def optimized(
    model: EmbeddingModel, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Artifact]:
    """`optimized(level)`: of the real model, made once."""
    return functools.cache(
        lambda level: model.optimize(level, tmp_path_factory.mktemp("optimized"))
    )


@pytest.mark.parametrize(("level", "least"), [("O1", 0.99999), ("O2", 0.99999), ("O3", 0.9999)])
def test_levels_of_the_real_model_agree_at_every_length_and_batch(
    level: str,
    least: float,
    model: EmbeddingModel,
    shapes: tuple[list[TokenBatch], NDArray[np.float32]],
    optimized: Callable[[str], Artifact],
) -> None:
    artifact = optimized(level)
    made, expected = shapes
    with core.hooks("onnx").load(
        model.source.overlay(artifact.root), core.LoadOptions(file_name=artifact.file_name)
    ) as small:
        assert compare(expected, embeddings(small, made)).min_cosine >= least


def test_all_attention_of_the_real_model_is_fused(optimized: Callable[[str], Artifact]) -> None:
    artifact = optimized("O2")
    assert artifact.file_name == "onnx/model_O2.onnx"
    operators = read_onnx_file(artifact.path, "O2").operators
    assert operators["Attention"] == 6
    assert operators["SkipLayerNormalization"] == 12
    assert operators["BiasGelu"] == 6
    assert operators["Softmax"] == 0
    assert artifact.verification is not None
    assert artifact.verification.min_cosine >= 0.99999


@pytest.mark.parametrize(("level", "least"), [("O1", 0.99999), ("O2", 0.99999), ("O3", 0.9999)])
def test_levels_keep_the_embeddings(tiny: Path, level: str, least: float) -> None:
    with core.load(tiny, backend="onnx") as source:
        artifact = source.optimize(level)
        assert artifact.file_name == f"onnx/model_{level}.onnx"
        assert (artifact.precision, artifact.operation) == ("fp32", "optimize")
        result = artifact.load()
        made = batches(source, (1, 9, 100), 4)
        assert compare(embeddings(source, made), embeddings(result, made)).min_cosine >= least
    operators = read_onnx_file(artifact.path, level).operators
    assert operators["Attention"] == (0 if level == "O1" else 2)
    assert operators["FastGelu"] == (2 if level == "O3" else 0)


@pytest.mark.parametrize("heads", [None, 2])
def test_attention_heads_are_the_graphs_whatever_the_configuration_says(
    heads: int | None, tiny: Path
) -> None:
    config = json.loads((tiny / "config.json").read_text())
    config["num_attention_heads"] = heads
    (tiny / "config.json").write_text(json.dumps(config))
    with core.load(tiny, backend="onnx", file_name="onnx/model.onnx") as model:
        artifact = model.optimize("O2")
    assert read_onnx_file(artifact.path, "O2").operators["Attention"] == 2
    fused = [n for n in onnx.load(artifact.path).graph.node if n.op_type == "Attention"]
    assert {a.i for n in fused for a in n.attribute if a.name == "num_heads"} == {4}
    assert artifact.verification is not None
    assert artifact.verification.min_cosine >= 0.99999


@pytest.mark.slow
def test_attention_that_was_not_fused_is_said_in_our_words(
    exported: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = "none of its attention was fused"
    with core.load(exported("bert-mean"), backend="onnx", file_name="onnx/model.onnx") as model:
        model.optimize("O1", tmp_path)
        model.optimize("O2", tmp_path)
        model.optimize({"optimization_level": 2, "disable_attention_fusion": True}, tmp_path)
    assert said not in caplog.text
    with core.load(exported("t5"), backend="onnx", file_name="onnx/model.onnx") as model:
        model.optimize("O2", tmp_path / "t5")
    assert said in caplog.text
    assert {record.name for record in caplog.records} == {"core"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["roberta", "distilbert", "mpnet", "qwen3", "gemma3", "t5"])
def test_optimising_other_architectures_keeps_their_embeddings(
    name: str, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = exported(name)
    with core.load(folder, backend="onnx", file_name="onnx/model.onnx") as source:
        artifact = source.optimize("O2", tmp_path)
    assert artifact.verification is not None
    assert artifact.verification.min_cosine >= 0.99999


def test_half_precision_is_written_and_warned_of_on_a_cpu(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with core.load(tiny, backend="onnx") as model, caplog.at_level(logging.WARNING, "core"):
        artifact = model.optimize("O4")
        assert (artifact.file_name, artifact.precision) == ("onnx/model_O4.onnx", "fp16")
        assert "far slower than float32 on a CPU" in caplog.text
        assert model.quantize("fp16").file_name == "onnx/model_fp16.onnx"
    half = artifact.load()
    assert half.dtype == "float16"
    assert half.encode("text").dtype == np.float32
    with pytest.raises(UnsupportedOperation, match="only a float32 file becomes float16"):
        half.optimize("fp16")
    with pytest.raises(UnsupportedOperation, match="int8 is made from float32"):
        half.quantize("avx2")
    exported = core.export(tiny, backend="onnx", precision="fp16")
    assert (exported.file_name, exported.precision) == ("onnx/model_fp16.onnx", "fp16")


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("arm64", "onnx/model_qint8_arm64.onnx"),
        ("avx2", "onnx/model_quint8_avx2.onnx"),
        ("avx512", "onnx/model_qint8_avx512.onnx"),
        ("avx512_vnni", "onnx/model_qint8_avx512_vnni.onnx"),
    ],
)
def test_presets_write_their_files(tiny: Path, preset: str, name: str) -> None:
    with core.load(tiny, backend="onnx", file_name="onnx/model.onnx") as model:
        artifact = model.quantize(preset)
    assert (artifact.file_name, artifact.precision) == (name, "int8")
    file = read_onnx_file(artifact.path, name)
    assert file.operators["MatMulInteger"] > 0
    assert file.dtype == "int8"
    weights = {w.data_type for w in onnx.load(artifact.path).graph.initializer if len(w.dims) == 2}
    assert (onnx.TensorProto.INT8 in weights) == (preset != "avx2")


def test_chains_work_and_tell_their_history(tiny: Path) -> None:
    with core.load(tiny, backend="onnx") as model:
        model.optimize("O3")
    with core.load(tiny, backend="onnx", file_name="model_O3.onnx") as model:
        artifact = model.quantize("avx2")
    assert artifact.file_name == "onnx/model_O3_quint8_avx2.onnx"
    record = json.loads((tiny / "onnx/model_O3_quint8_avx2.onnx.json").read_text())
    assert (record["backend"], record["operation"]) == ("onnx", "quantize")
    assert list(record["source"]["sha256"]) == ["onnx/model_O3.onnx"]
    assert record["config"]["preset"] == "avx2"
    assert {"onnx", "onnxruntime"} <= set(record["versions"])
    assert record["verification"]["min_cosine"] > 0.9
    with core.load(tiny, backend="onnx", file_name=artifact.file_name) as model:
        assert model.dtype == "int8"
        with pytest.raises(UnsupportedOperation, match="quantized already"):
            model.quantize("avx2")


def test_the_real_model_keeps_its_similarities_in_int8(
    model: EmbeddingModel, tmp_path: Path, probes: list[str]
) -> None:
    artifact = model.quantize("avx2", tmp_path)
    small = core.hooks("onnx").load(
        model.source.overlay(tmp_path), core.LoadOptions(file_name=artifact.file_name)
    )
    assert artifact.path.stat().st_size < 25_000_000
    assert compare(model.encode(probes), small.encode(probes)).mean_cosine >= 0.985


def test_static_quantisation_takes_texts_and_a_file(tiny: Path, tmp_path: Path) -> None:
    texts = [f"sentence {i} about foxes and dogs" * (1 + i % 4) for i in range(40)]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    with core.load(tiny, backend="onnx", file_name="onnx/model.onnx") as model:
        first = model.quantize("avx2", calibration=texts)
        again = model.quantize(
            "avx2", calibration=file, field="body", num_samples=40, file_suffix="again"
        )
        assert first.file_name == "onnx/model_quint8_avx2_static.onnx"
        assert again.file_name == "onnx/model_again.onnx"
        assert first.path.read_bytes() == again.path.read_bytes()
        assert first.config["texts"] == 40
        assert first.verification is not None
        assert first.verification.mean_cosine > 0.98
    assert read_onnx_file(first.path, "static").operators["QuantizeLinear"] > 0


def test_configuration_objects_of_optimum_are_read_by_their_attributes(tiny: Path) -> None:
    optimization = SimpleNamespace(
        optimization_level=2, optimize_for_gpu=False, fp16=False, enable_gelu_approximation=True,
        enable_transformers_specific_optimizations=True, disable_attention_fusion=True,
    )  # fmt: skip
    quantization = SimpleNamespace(
        is_static=False, weights_dtype=SimpleNamespace(name="QUInt8"), weights_symmetric=True,
        activations_dtype=SimpleNamespace(name="QUInt8"), activations_symmetric=False,
        per_channel=False, reduce_range=True, operators_to_quantize=["MatMul"],
        nodes_to_exclude=[],
    )  # fmt: skip
    with core.load(tiny, backend="onnx", file_name="onnx/model.onnx") as model:
        optimized = model.optimize(optimization)
        assert optimized.file_name == "onnx/model_optimized.onnx"
        operators = read_onnx_file(optimized.path, "").operators
        assert operators["Attention"] == 0
        assert operators["FastGelu"] == 2
        quantized = model.quantize(quantization)
        assert quantized.file_name == "onnx/model_quint8_quantized.onnx"
        mapped = model.quantize(
            {"weights_dtype": "QUInt8", "per_channel": False, "reduce_range": True,
             "operators_to_quantize": ["MatMul"]}, file_suffix="mapped",
        )  # fmt: skip
        assert mapped.path.read_bytes() == quantized.path.read_bytes()


def test_a_preset_for_other_processors_is_warned_of(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with core.load(tiny, backend="onnx", file_name="onnx/model.onnx") as model:
        with caplog.at_level(logging.WARNING, "core"):
            chosen = model.quantize(num_samples=8)
        assert "lacks the instructions" not in caplog.text
        assert (chosen.config["preset"], chosen.file_name) == ("auto", "onnx/model_qint8.onnx")
        best = choose_preset()
        other = "arm64" if best != "arm64" else "avx2"
        with caplog.at_level(logging.WARNING, "core"):
            model.quantize(other)
        assert f"lacks the instructions of '{other}'" in caplog.text
        assert f"'{best}' is for this processor" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("method", ["MinMax", "Entropy", "Percentile"])
def test_static_quantisation_says_nothing_and_finds_ranges(
    method: str, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = [f"sentence {i} about foxes and dogs " * (1 + i % 5) for i in range(40)]
    with core.load(tiny, backend="onnx", file_name="onnx/model.onnx") as model:
        model.optimize("O3")
    with core.load(tiny, backend="onnx", file_name="onnx/model_O3.onnx") as model:
        artifact = model.quantize({"is_static": True, "method": method}, calibration=texts)
    assert artifact.config["method"] == method
    # A fused graph's two feed-forward layers and attention outputs: ONNX Runtime's operators hide
    # the types of their results from calibration.
    assert read_onnx_file(artifact.path, method).operators["QuantizeLinear"] >= 4
    assert artifact.verification is not None
    assert artifact.verification.mean_cosine > 0.98
    assert capfd.readouterr() == ("", "")


def test_every_session_has_the_threads_that_core_may_use(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    threads = []

    class Noted(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: Any, sess_options: Any = None, **arguments: Any) -> None:
            threads.append(sess_options.intra_op_num_threads)
            super().__init__(path, sess_options, **arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Noted)
    monkeypatch.setenv("CORE_NUM_THREADS", "2")
    with core.load(tiny, backend="onnx") as model:
        model.optimize("O2")
        for config in ("auto", "static"):
            model.quantize(config, num_samples=4)
    assert set(threads) <= {1, 2}


def test_calibration_texts_are_never_dropped_silently(tiny: Path) -> None:
    with core.load(tiny, backend="onnx", file_name="onnx/model.onnx") as model:
        with pytest.raises(OptionError, match="'fp16' has no ranges to find"):
            model.quantize("fp16", calibration=["a text"])
        with pytest.raises(OptionError, match="is_static=False finds ranges in each batch"):
            model.quantize({"is_static": False}, calibration=["a text"])
        with pytest.raises(OptionError, match=r"MinMax, Entropy, Percentile, not 'Distribution'"):
            model.quantize({"method": "Distribution"}, calibration=["a text"])


def test_unknown_names_list_the_known(tiny: Path) -> None:
    with core.load(tiny, backend="onnx") as model:
        with pytest.raises(OptionError, match="O2, O1, O3, O4, fp16"):
            model.optimize("O5")
        with pytest.raises(OptionError, match="auto, avx2, avx512, avx512_vnni, arm64, st"):
            model.quantize("sse")
        with pytest.raises(OptionError, match=r"does not take .is_statik.*is_static"):
            model.quantize({"is_statik": True})
        with pytest.raises(OptionError, match="optimization_level must be"):
            model.optimize({"optimization_level": 7})
        with pytest.raises(OptionError, match="opset must lie"):
            core.export(tiny, backend="onnx", opset=3)
        with pytest.raises(OptionError, match="'direct' or 'optimum'"):
            core.export(tiny, backend="onnx", exporter="dynamo")


def test_a_model_that_reads_no_mask_is_refused_when_it_is_exported(
    tiny: Path, tmp_path: Path
) -> None:
    folder = copy_model(tiny, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 0}))
    with pytest.raises(UnsupportedOperation, match="nothing from the attention mask") as caught:
        core.export(folder, tmp_path / "made", backend="onnx")
    assert "Export the model again" not in str(caught.value)


def test_an_export_that_fails_prints_no_graph(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import BertModel

    forward = BertModel.forward

    def no_operator(self: BertModel, *arguments: Any, **keywords: Any) -> Any:
        output = forward(self, *arguments, **keywords)
        output.last_hidden_state *= torch.linalg.svdvals(output.last_hidden_state).sum()
        return output

    monkeypatch.setattr(BertModel, "forward", no_operator)
    with pytest.raises(UnsupportedOperation, match="svdvals"):
        core.export(tiny, tmp_path, backend="onnx")
    assert capfd.readouterr() == ("", "")


def test_optimum_that_is_not_installed_is_explained(tiny: Path) -> None:
    with pytest.raises(UnsupportedOperation, match=r"core\[optimum\]"):
        core.export(tiny, backend="onnx", exporter="optimum")


def test_what_optimum_makes_of_an_encoder_decoder_is_refused(
    exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # optimum-onnx cannot be installed beside transformers 5: this is what it writes for a T5.
    def main_export(_: str, *, output: Path, **__: Any) -> None:
        value = onnx.helper.make_tensor_value_info
        names = ("input_ids", "attention_mask", "decoder_input_ids")
        inputs = [value(n, onnx.TensorProto.INT64, ["batch", "tokens"]) for n in names]
        outputs = [value("last_hidden_state", onnx.TensorProto.FLOAT, ["batch", "tokens", 32])]
        graph = onnx.helper.make_graph([], "t5", inputs, outputs)
        onnx.save(onnx.helper.make_model(graph), output / "model.onnx")

    for name in ("optimum", "optimum.exporters", "optimum.exporters.onnx"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["optimum.exporters.onnx"].main_export = main_export  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedOperation, match=r"decoder_input_ids.*exporter='direct'"):
        core.export(exported("t5"), tmp_path, backend="onnx", exporter="optimum")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "x", ".onnx", "../x.onnx", "/x.onnx"]
)
def test_a_file_name_that_is_none_of_an_onnx_file_is_refused_before_tracing(
    name: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("it was traced"))
    before = {path: path.read_bytes() for path in tiny.rglob("*") if path.is_file()}
    with pytest.raises(OptionError, match="file_name="):
        core.export(tiny, backend="onnx", file_name=name)
    assert {path: path.read_bytes() for path in tiny.rglob("*") if path.is_file()} == before


def test_export_without_torch_says_what_to_install(tiny: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "core", "export", str(tiny), "--backend", "onnx"],
        env={**os.environ, "CORE_DISABLE_PLUGINS": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "starts from its PyTorch weights, which needs the torch backend" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_files_too_large_for_one_message_go_through_every_operation(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def byte_size(_: onnx.ModelProto) -> int:
        """Of a model over 2 GB as protobuf 7 has it: an error."""
        raise EncodeError("Failed to serialize proto")

    monkeypatch.setattr(onnx.ModelProto, "ByteSize", byte_size)
    shutil.rmtree(tiny / "onnx")
    with pytest.raises(OptionError, match="over 2 GB and needs external_data=True"):
        core.export(tiny, backend="onnx", precision="fp16", external_data=False)
    half = core.export(tiny, backend="onnx", precision="fp16")
    assert half.files == ("onnx/model_fp16.onnx", "onnx/model_fp16.onnx_data")
    core.export(tiny, backend="onnx", external_data=True)
    with core.load(tiny, backend="onnx", file_name="onnx/model.onnx") as model:
        for level in ("O1", "O2", "O4", "fp16"):
            artifact = model.optimize(level, tiny / level)
            assert artifact.files == (artifact.file_name, f"{artifact.file_name}_data")
            assert artifact.verification is not None
            assert artifact.verification.min_cosine >= 0.999
        operators = read_onnx_file(tiny / "O2/onnx/model_O2.onnx", "O2").operators
        assert operators["Attention"] == 2


@pytest.mark.slow
def test_external_data_goes_through_every_operation(tiny: Path) -> None:
    shutil.rmtree(tiny / "onnx")
    exported = core.export(tiny, backend="onnx", external_data=True)
    assert exported.files == ("onnx/model.onnx", "onnx/model.onnx_data")
    with core.load(tiny, backend="onnx") as model:
        for artifact in (
            model.optimize("O2", external_data=True),
            model.optimize("fp16"),
            model.quantize("avx2"),
        ):
            assert (tiny / artifact.file_name).is_file()
            assert artifact.verification is not None
            assert artifact.verification.mean_cosine > 0.97


@pytest.mark.slow
def test_linked_external_data_of_a_hub_cache_goes_through_every_operation(
    tiny: Path, tmp_path: Path
) -> None:
    shutil.rmtree(tiny / "onnx")
    core.export(tiny, backend="onnx", external_data=True)
    blobs, snapshot = tmp_path / "repo/blobs", tmp_path / "repo/snapshots/abc"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(f for f in tiny.rglob("*") if f.is_file())):
        link = snapshot / file.relative_to(tiny)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    with core.load(snapshot, backend="onnx") as model:
        assert model.quantize("avx2", tmp_path / "out").path.is_file()
        assert model.optimize("fp16", tmp_path / "out").path.is_file()


def test_saving_keeps_the_loaded_file_and_what_was_beside_it(tiny: Path, tmp_path: Path) -> None:
    with core.load(tiny, backend="onnx") as model:
        model.optimize("O2")
    (tiny / "onnx/model.onnx").rename(tiny / "kept.onnx")
    with core.load(tiny, backend="onnx", file_name="onnx/model_O2.onnx") as model:
        core.save(model, tmp_path / "saved")
        expected = model.encode("text")
    again: Any = core.load(
        tmp_path / "saved", backend="onnx", export=False, file_name="model_O2.onnx"
    )
    np.testing.assert_array_equal(again.encode("text"), expected)
    assert (tmp_path / "saved/onnx/model_O2.onnx.json").is_file()
    assert (tmp_path / "saved/model.safetensors").is_file()


def attention_alone(layers: int, words: int, width: int = 32) -> Any:
    """A graph of attention without weights: each layer has [batch, tokens, tokens] twice."""
    nodes = [onnx.helper.make_node("Gather", ["table", "input_ids"], ["x0"])]
    for n in range(layers):
        nodes += [
            onnx.helper.make_node("Transpose", [f"x{n}"], [f"turned{n}"], perm=[0, 2, 1]),
            onnx.helper.make_node("MatMul", [f"x{n}", f"turned{n}"], [f"scores{n}"]),
            onnx.helper.make_node("Softmax", [f"scores{n}"], [f"shares{n}"], axis=-1),
            onnx.helper.make_node("MatMul", [f"shares{n}", f"x{n}"], [f"mixed{n}"]),
            onnx.helper.make_node("MatMul", [f"mixed{n}", "weight"], [f"x{n + 1}"]),
        ]
    nodes.append(onnx.helper.make_node("Identity", [f"x{layers}"], ["last_hidden_state"]))
    random = np.random.default_rng(0)
    constants = {
        "table": random.normal(size=(words, width)).astype(np.float32),
        "weight": np.linalg.qr(random.normal(size=(width, width)))[0].astype(np.float32),
    }
    sizes = ["batch", "tokens"]
    graph = onnx.helper.make_graph(
        nodes,
        "attention",
        [onnx.helper.make_tensor_value_info(n, 7, sizes) for n in ("input_ids", "attention_mask")],
        [onnx.helper.make_tensor_value_info("last_hidden_state", 1, [*sizes, width])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_static_int8_holds_no_more_than_a_few_values_at_a_time(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """In a process of its own. All values of the text together are over 700 MB."""
    layers, tokens = 24, 2_000
    folder = copy_model(tiny_model("bert-mean"), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    for name, changed in (
        ("config.json", {"max_position_embeddings": 4_096}),
        ("sentence_bert_config.json", {"max_seq_length": tokens}),
    ):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, **changed}))
    (folder / "onnx").mkdir()
    words = json.loads((folder / "config.json").read_text())["vocab_size"]
    onnx.save(attention_alone(layers, words), folder / "onnx/model.onnx")
    script = """
import resource, sys
import core

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

model = core.load(sys.argv[1], backend="onnx", file_name="onnx/model.onnx")
text = " ".join(["fox"] * 3_000)
model.quantize("static", calibration=["a fox"], file_suffix="small", min_cosine=-1)
before = peak()
model.quantize("static", calibration=[text], file_suffix="large", min_cosine=-1)
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200
