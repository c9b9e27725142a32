"""What a user reads when something is wrong: the message names it and how to fix it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import core


def load(model: Path, **arguments: Any) -> core.EmbeddingModel:
    return core.load(model, backend="openvino", **arguments)


XML = Path("openvino/openvino_model.xml")


def test_missing_weights(tiny: Path) -> None:
    (tiny / XML).with_suffix(".bin").unlink()
    with pytest.raises(core.ArtifactNotFound, match=r"without its weights .*openvino_model\.bin"):
        load(tiny)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_weights(tiny: Path, share: float) -> None:
    path = (tiny / XML).with_suffix(".bin")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(len(content) * share)])
    message = rf"openvino_model\.bin has {int(len(content) * share)} bytes of {len(content)}"
    with pytest.raises(core.ModelFormatError, match=message):
        load(tiny)


def test_truncated_xml(tiny: Path) -> None:
    content = (tiny / XML).read_bytes()
    (tiny / XML).write_bytes(content[: len(content) // 2])
    with pytest.raises(core.ModelFormatError, match=r"cannot read openvino/openvino_model\.xml"):
        load(tiny)


def test_damaged_xml_costs_no_time(tiny: Path) -> None:
    """Where the weights are looked up in it to see whether they are whole."""
    content = (tiny / XML).read_bytes()
    many = b"<data " * 1_000_000  # days, where each is followed to the end
    for damaged in (content[:-9] + many, content.replace(b'size="', b'size="' + b"9" * 5000, 1)):
        (tiny / XML).write_bytes(damaged)
        with pytest.raises(
            core.ModelFormatError, match=r"cannot read openvino/openvino_model\.xml"
        ):
            load(tiny)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "hello",
        "<?xml version='1.0'?><other/>",
        "<net></net>",
        f"<net version='{2**63}'></net>",
    ],
)
def test_xml_that_is_no_model(tiny: Path, content: str, capfd: Any) -> None:
    (tiny / XML).write_text(content)
    with pytest.raises(
        core.ModelFormatError, match=r"openvino_model\.xml is not an OpenVINO model"
    ):
        load(tiny)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", ["", "hello", '"text"'])
def test_onnx_file_that_is_no_model(tiny: Path, content: str, capfd: Any) -> None:
    (tiny / "onnx").mkdir()
    (tiny / "onnx/model.onnx").write_text(content)
    with pytest.raises(core.ModelFormatError, match=r"onnx/model\.onnx is .*again"):
        load(tiny, file_name="onnx/model.onnx")
    assert capfd.readouterr().err == ""


def test_a_file_of_another_kind(tiny: Path) -> None:
    with pytest.raises(core.ModelFormatError, match=r"reads \.xml and \.onnx files"):
        load(tiny, file_name="model.safetensors")


def test_a_misspelled_file_name_does_not_export(tiny: Path) -> None:
    with pytest.raises(core.ArtifactNotFound, match=r"Did you mean 'openvino_model\.xml'"):
        load(tiny, file_name="openvino_modell.xml")


@pytest.mark.parametrize("device", ["cuda", "GPU.7", "banana", "AUTO:BANANA", "cpu.1"])
def test_unknown_devices(tiny: Path, device: str) -> None:
    with pytest.raises(core.OptionError, match=f"device='{device}' is not available.*CPU"):
        load(tiny, device=device)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"NUM_STREAM": 1}, "'NUM_STREAM'. Did you mean 'NUM_STREAMS'.*PERFORMANCE_HINT"),
        ({"NUM_STREAMS": "many"}, "for CPU with NUM_STREAMS=many: "),
        ({"INFERENCE_PRECISION_HINT": "f33"}, "for CPU with INFERENCE_PRECISION_HINT=f33: "),
        (["NUM_STREAMS"], "must map names of OpenVINO properties"),
        ({"NUM_STREAMS": [1]}, "values strings, numbers or booleans"),
        ("missing.json", "cannot be read"),
    ],
)
def test_bad_ov_config(tiny: Path, config: Any, message: str) -> None:
    with pytest.raises(core.OptionError, match=message):
        load(tiny, model_kwargs={"ov_config": config})


def test_a_bad_value_is_no_bad_name(tiny: Path) -> None:
    """Names are listed for an unknown name only, and what core itself sets is not the caller's."""
    with pytest.raises(core.OptionError, match="NUM_STREAMS=many") as caught:
        load(tiny, model_kwargs={"ov_config": {"NUM_STREAMS": "many"}})
    assert "INFERENCE_NUM_THREADS" not in str(caught.value)
    assert "INFERENCE_PRECISION_HINT" not in str(caught.value)


@pytest.mark.parametrize("device", ["auto", "AUTO:CPU", "HETERO:CPU", "MULTI:CPU", "BATCH:CPU"])
def test_virtual_devices_take_no_unknown_names_either(tiny: Path, device: str) -> None:
    with pytest.raises(core.OptionError, match=f"{device.upper()}.*Did you mean 'NUM_STREAMS'"):
        load(tiny, device=device, model_kwargs={"ov_config": {"NUM_STREAM": 1}})


def test_ov_config_file_that_is_not_json(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{NUM_STREAMS: 1}")
    with pytest.raises(core.OptionError, match="not readable JSON"):
        load(tiny, model_kwargs={"ov_config": path})


def test_unknown_model_kwargs(tiny: Path) -> None:
    with pytest.raises(core.OptionError, match="Did you mean 'ov_config'"):
        load(tiny, model_kwargs={"ov_conf": {}})


def test_quantize_without_nncf(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What an environment without nncf looks like to an import.
    monkeypatch.setitem(sys.modules, "nncf", None)
    before = sorted((tiny / "openvino").iterdir())
    with load(tiny) as model:
        with pytest.raises(
            core.UnsupportedOperation, match=r"pip install core\[openvino,quantize\]"
        ):
            core.quantize(model, "static")
        with pytest.raises(
            core.UnsupportedOperation, match=r"pip install core\[openvino,quantize\]"
        ):
            core.quantize(model, "int8-weights")
    assert sorted((tiny / "openvino").iterdir()) == before


def test_export_without_torch(tiny: Path) -> None:
    """In a process of its own in which the torch backend cannot be used."""
    script = f"""
import core
try:
    core.export({str(tiny)!r}, backend="openvino")
except core.UnsupportedOperation as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "CORE_DISABLE_PLUGINS": "torch"},
    )
    assert "to OpenVINO starts from its PyTorch weights" in done.stdout
    assert "CORE_DISABLE_PLUGINS" in done.stdout


def like_optimum(**fields: Any) -> SimpleNamespace:
    """The attributes of Optimum's OVQuantizationConfig, as it sets them by default."""
    defaults: dict[str, Any] = {
        "bits": 8, "sym": False, "ignored_scope": None, "num_samples": None, "dataset": None,
        "tokenizer": None, "processor": None, "model_type": "transformer", "kwargs": {},
        "fast_bias_correction": True, "overflow_fix": "disable", "smooth_quant_alpha": None,
        "dtype": "int8",
    }  # fmt: skip
    return SimpleNamespace(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("int7", {}, "closest, static, int8-weights, int4-weights, not 'int7'"),
        ({"smooth_quant_alpha": 3}, {}, "between 0 and 1"),
        ({"smooth_alpha": 0.5}, {}, "Did you mean 'smooth_quant_alpha'"),
        ({"bits": 4}, {}, "bits must be 8"),
        ({"overflow_fix": "yes"}, {}, "overflow_fix must be one of"),
        ({"ignored_scope": {"names": "all"}}, {}, "a list of strings"),
        ({"ignored_scope": {"name": ["x"]}}, {}, "Did you mean 'names'"),
        ({"ignored_scope": {"names": ["no such node"]}}, {"calibration": ["a b"]}, "no such node"),
        ({"num_samples": 0}, {}, "num_samples must be 1 or more"),
        ({"num_samples": 2.5}, {}, "num_samples must be a positive integer"),
        ({"max_drop": 0.1, "smooth_quant_alpha": 0.5}, {}, "smooth_quant_alpha.*max_drop"),
        ({"dataset": "wikitext2"}, {}, "dataset='wikitext2'.*calibration="),
        ({"dataset": ["a", "b"]}, {"calibration": ["c"]}, "dataset.*calibration.*one of them"),
        ({"dataset": [1, 2]}, {}, "dataset must be"),
        ({"quant_method": "hybrid"}, {}, "quant_method must be 'default', not 'hybrid'"),
        ({"statistics_path": "folder"}, {}, "statistics_path"),
        ({"backup_precision": "int8_sym"}, {}, "backup_precision"),
        (like_optimum(dataset="wikitext2"), {}, "dataset='wikitext2'.*calibration="),
        (like_optimum(quant_method=SimpleNamespace(value="hybrid")), {}, "quant_method"),
        (like_optimum(statistics_path="folder"), {}, "statistics_path='folder'"),
        (like_optimum(backup_precision="none"), {}, "backup_precision='none'"),
        (like_optimum(kwargs={"target_device": "NPU"}), {}, "target_device"),
        (SimpleNamespace(bits=8), {}, "not a static quantization configuration"),
        (None, {"dataset_split": "train"}, "pass calibration='its/name'"),
        (None, {"calibration": "glue", "dataset_split": "train"}, "dataset_config_name"),
        (None, {"calibration": []}, "No calibration texts in the list given"),
        ("int8-weights", {"calibration": ["text"]}, "needs no calibration"),
        ("int8-weights", {"ratio": 0.5}, "does not take 'ratio'.*It takes: mode"),
        ("int8-weights", {"all_layers": True}, "does not take 'all_layers'"),
        ("int8-weights", {"mode": "int4_sym"}, "mode must be one of 'int8_asym', 'int8_sym'"),
        ("int4-weights", {"ratio": "half"}, "ratio must be a number between 0 and 1, not 'half'"),
        ("int4-weights", {"ratio": 1.5}, "ratio must be a number between 0 and 1"),
        ("int4-weights", {"group_size": 0}, "group_size must be .* not 0"),
        ("int4-weights", {"group_size": 3.5}, "group_size must be .* not 3.5"),
        ("int4-weights", {"all_layers": "yes"}, "all_layers must be True or False, not 'yes'"),
        ("int4-weights", {"mode": ["nf4"]}, "mode must be one of"),
    ],
)
def test_bad_quantization(tiny: Path, config: Any, options: dict[str, Any], message: str) -> None:
    before = sorted((tiny / "openvino").iterdir())
    with load(tiny) as model, pytest.raises(core.OptionError, match=message):
        core.quantize(model, config, **options)
    assert sorted((tiny / "openvino").iterdir()) == before


def test_an_empty_calibration_file(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n\n")
    with load(tiny) as model, pytest.raises(core.OptionError, match="texts"):
        core.quantize(model, calibration=path)


@pytest.mark.parametrize("level", ["O3", 3])
def test_unknown_levels(tiny: Path, level: Any) -> None:
    with load(tiny) as model, pytest.raises(core.OptionError, match="fp16 or fused, not"):
        core.optimize(model, level)


def test_optimize_what_is_half_already(tiny: Path) -> None:
    with load(tiny) as model:
        artifact = core.optimize(model)
    with artifact.load() as model, pytest.raises(core.UnsupportedOperation, match="fp16 weights"):
        core.optimize(model)


def test_bad_exports(tiny: Path) -> None:
    with pytest.raises(core.OptionError, match="fp32, fp16, int8, int4"):
        core.export(tiny, backend="openvino", precision="int3")
    with pytest.raises(core.OptionError, match="'direct' or 'optimum'"):
        core.export(tiny, backend="openvino", exporter="other")
    with pytest.raises(core.OptionError, match="does not take 'opset'"):
        core.export(tiny, backend="openvino", opset=17)
    with pytest.raises(core.OptionError, match=r"must end in \.xml"):
        core.export(tiny, backend="openvino", file_name="openvino/model.bin")


def break_weights(model: Path) -> None:
    """Weights that are there and cannot be read."""
    (model / "model.safetensors").unlink()  # a link to the shared ones
    (model / "model.safetensors").write_bytes(b"broken")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file_name": "openvino/model.bin"}, r"must end in \.xml"),
        ({"precision": "int8", "ratio": 0.5}, "does not take 'ratio'"),
        ({"precision": "int4", "mode": "int8_sym"}, "mode must be one of"),
        ({"precision": "int4", "group_size": 0}, "group_size must be"),
    ],
)
def test_exports_are_checked_before_any_work(
    tiny: Path, options: dict[str, Any], message: str
) -> None:
    break_weights(tiny)  # opening the source would fail
    with pytest.raises(core.OptionError, match=message):
        core.export(tiny, backend="openvino", **options)


def test_compressed_export_without_nncf(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_weights(tiny)
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(core.UnsupportedOperation, match=r"pip install core\[openvino,quantize\]"):
        core.export(tiny, backend="openvino", precision="int8")


def test_optimum_exporter_says_how_to_install_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optimum", None)
    monkeypatch.setitem(sys.modules, "optimum.intel", None)
    with pytest.raises(core.UnsupportedOperation, match=r"pip install core\[optimum\]"):
        core.export(tiny, backend="openvino", exporter="optimum")


def test_a_generator_is_no_encoder(tiny: Path) -> None:
    """A graph with a key-value cache among its inputs."""
    from openvino_backend.imports import openvino

    graph = openvino.Core().read_model(tiny / XML)
    extra = openvino.op.Parameter(openvino.Type.i32, openvino.PartialShape([-1]))
    extra.output(0).get_tensor().set_names({"beam_idx"})
    graph.add_parameters([extra])
    graph.add_results([openvino.opset13.result(extra)])
    openvino.save_model(graph, tiny / "openvino" / "generator.xml")
    with pytest.raises(core.UnsupportedOperation, match="wants beam_idx"):
        load(tiny, file_name="generator.xml")
