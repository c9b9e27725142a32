"""Loading: inputs, outputs, external data, devices, and files that are not what they claim."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import core
from core.errors import (
    ArtifactNotFound,
    ModelFormatError,
    OptionError,
    UnsupportedOperation,
)
from tests.conftest import Exports, copy_model

TEXTS = ["one", "a somewhat longer text about foxes", "", "shells on the sea shore " * 9]


def encoder(path: Path, inputs: dict[str, int], outputs: dict[str, int], width: int = 32) -> None:
    """An ONNX file with these inputs (name to type) and outputs (name to rank)."""
    table = np.random.default_rng(0).normal(size=(600, width)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "one"], ["row"]),
        helper.make_node("MatMul", ["row", "embedded"], ["summed"]),
        helper.make_node("Squeeze", ["summed", "one"], ["pooled"]),
    ]
    for name, rank in outputs.items():
        nodes.append(helper.make_node("Identity", ["embedded" if rank == 3 else "pooled"], [name]))
    shapes = {3: ["batch", "tokens", width], 2: ["batch", width]}
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(n, t, ["batch", "tokens"]) for n, t in inputs.items()],
        [helper.make_tensor_value_info(n, 1, shapes[r]) for n, r in outputs.items()],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ],
    )
    path.parent.mkdir(exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def test_embeddings_are_torchs(tiny: Path) -> None:
    with core.load(tiny, backend="onnx") as ours, core.load(tiny, backend="torch") as torchs:
        np.testing.assert_allclose(ours.encode(TEXTS), torchs.encode(TEXTS), atol=2e-6)
        tokens = ours.encode(TEXTS, output_value="token_embeddings")
        expected = torchs.encode(TEXTS, output_value="token_embeddings")
        for row, other in zip(tokens, expected, strict=True):
            np.testing.assert_allclose(row, other, atol=1e-5)
        assert (ours.device, ours.dtype, ours.dimension) == ("cpu", "float32", 32)


def test_a_file_at_the_top_or_anywhere_loads(tiny: Path) -> None:
    expected = core.load(tiny, backend="onnx").encode(TEXTS)
    (tiny / "other").mkdir()
    shutil.copy(tiny / "onnx/model.onnx", tiny / "other/graph.onnx")
    named = core.load(tiny, backend="onnx", file_name="other/graph.onnx")
    assert named.file_name == "other/graph.onnx"
    np.testing.assert_array_equal(named.encode(TEXTS), expected)
    within = core.load(
        tiny, backend="onnx", model_kwargs={"subfolder": "other", "file_name": "graph.onnx"}
    )
    assert within.file_name == "other/graph.onnx"
    (tiny / "onnx/model.onnx").rename(tiny / "model.onnx")
    assert core.load(tiny, backend="onnx").file_name == "model.onnx"


@pytest.mark.parametrize("more", [(), ("token_type_ids",), ("token_type_ids", "position_ids")])
@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
def test_any_set_of_inputs_is_fed(tiny: Path, more: tuple[str, ...], kind: int) -> None:
    names = ("input_ids", "attention_mask", *more)
    encoder(tiny / "onnx/model.onnx", dict.fromkeys(names, kind), {"last_hidden_state": 3})
    model = core.load(tiny, backend="onnx")
    assert tuple(model.runtime.graph.inputs) == names
    assert model.encode(TEXTS).shape == (len(TEXTS), 32)


def test_a_ready_sentence_embedding_is_not_pooled_again(tiny: Path) -> None:
    inputs = dict.fromkeys(("input_ids", "attention_mask"), TensorProto.INT64)
    encoder(tiny / "onnx/model.onnx", inputs, {"token_embeddings": 3, "sentence_embedding": 2})
    model = core.load(tiny, backend="onnx")
    tokens = model.encode(TEXTS[:2], output_value="token_embeddings")
    expected = np.stack([row.sum(axis=0) for row in tokens])  # this graph sums; the model averages
    np.testing.assert_allclose(model.encode(TEXTS[:2]), expected, rtol=1e-5)


def test_a_pooled_output_alone_has_no_token_embeddings(tiny: Path) -> None:
    inputs = dict.fromkeys(("input_ids", "attention_mask"), TensorProto.INT64)
    encoder(tiny / "onnx/model.onnx", inputs, {"sentence_embedding": 2})
    model = core.load(tiny, backend="onnx")
    assert model.encode("text").shape == (32,)
    with pytest.raises(UnsupportedOperation, match="sentence embeddings only"):
        model.encode("text", output_value="token_embeddings")


def test_an_output_of_another_name_is_no_guess(tiny: Path) -> None:
    """What a pooler or a classifier gives has the same shape."""
    inputs = dict.fromkeys(("input_ids", "attention_mask"), TensorProto.INT64)
    encoder(tiny / "onnx/model.onnx", inputs, {"whatever": 2})
    with pytest.raises(ModelFormatError, match=r"gives whatever.*rename it to sentence_embedding"):
        core.load(tiny, backend="onnx")


def test_a_pooled_output_of_another_model_is_refused(tiny: Path) -> None:
    inputs = dict.fromkeys(("input_ids", "attention_mask"), TensorProto.INT64)
    encoder(tiny / "onnx/model.onnx", inputs, {"sentence_embedding": 2}, width=48)
    with pytest.raises(ModelFormatError, match=r"48 dimensions.*says 32"):
        core.load(tiny, backend="onnx")


@pytest.mark.parametrize("stated", [True, False])
def test_token_embeddings_of_another_model_are_refused(tiny: Path, stated: bool) -> None:
    inputs = dict.fromkeys(("input_ids", "attention_mask"), TensorProto.INT64)
    file = tiny / "onnx/model.onnx"
    encoder(file, inputs, {"last_hidden_state": 3}, width=48)
    if not stated:  # then the first batch tells
        without_width(file)
    with pytest.raises(ModelFormatError, match=r"48 dimensions.*says 32.*different models"):
        core.load(tiny, backend="onnx").encode("text")
    if stated:
        with pytest.raises(ModelFormatError, match="48 dimensions"):
            core.load(tiny, backend="onnx")


def without_width(file: Path) -> None:
    """Leave the last size of an ONNX file's output unstated."""
    model = onnx.load(file)
    model.graph.output[0].type.tensor_type.shape.dim[-1].dim_param = "hidden"
    onnx.save(model, file)


def test_a_width_the_graph_does_not_state_is_no_error(tiny: Path) -> None:
    expected = core.load(tiny, backend="onnx").encode(TEXTS)
    without_width(tiny / "onnx/model.onnx")
    np.testing.assert_array_equal(core.load(tiny, backend="onnx").encode(TEXTS), expected)


def test_modules_that_change_the_width_of_tokens_do_not_hide_the_graphs(tiny: Path) -> None:
    from safetensors.numpy import save_file

    weight = np.random.default_rng(0).normal(size=(24, 32)).astype(np.float32)
    (tiny / "2_Dense").mkdir()
    save_file({"linear.weight": weight}, tiny / "2_Dense/model.safetensors")
    names = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    settings = {"in_features": 32, "out_features": 24, "bias": False, **names}
    settings["activation_function"] = "torch.nn.modules.linear.Identity"
    (tiny / "2_Dense/config.json").write_text(json.dumps(settings))
    modules = json.loads((tiny / "modules.json").read_text())
    kind = "sentence_transformers.models.Dense"
    modules.insert(1, {"idx": 1, "name": "tokens", "path": "2_Dense", "type": kind})
    (tiny / "modules.json").write_text(json.dumps(modules))
    assert core.load(tiny, backend="onnx").encode("text").shape == (24,)
    inputs = dict.fromkeys(("input_ids", "attention_mask"), TensorProto.INT64)
    encoder(tiny / "onnx/model.onnx", inputs, {"last_hidden_state": 3}, width=24)
    with pytest.raises(ModelFormatError, match=r"24 dimensions.*says 32"):
        core.load(tiny, backend="onnx")


def test_a_graph_that_cannot_tell_padding_is_refused(tiny: Path) -> None:
    file = tiny / "onnx/model.onnx"
    encoder(file, {"input_ids": TensorProto.INT64}, {"last_hidden_state": 3})
    model = onnx.load(file)
    del model.graph.node[1:-1]
    onnx.save(model, file)
    with pytest.raises(ModelFormatError, match="no attention_mask: padding would count as text"):
        core.load(tiny, backend="onnx")


@pytest.mark.slow
def test_modules_after_a_pooled_output_still_run(
    exported: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "t5"
    shutil.copytree(exported("t5"), folder)
    inputs = dict.fromkeys(("input_ids", "attention_mask"), TensorProto.INT64)
    encoder(folder / "onnx/model.onnx", inputs, {"sentence_embedding": 2})
    embedding = core.load(folder, backend="onnx").encode("text")
    assert embedding.shape == (24,)  # Dense 32 -> 24, then Normalize
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_unknown_inputs_and_fixed_shapes_are_explained(tiny: Path) -> None:
    kinds = dict.fromkeys(("input_ids", "attention_mask", "task_id"), TensorProto.INT64)
    encoder(tiny / "onnx/model.onnx", kinds, {"last_hidden_state": 3})
    with pytest.raises(ModelFormatError, match="input 'task_id'"):
        core.load(tiny, backend="onnx")
    del kinds["task_id"]
    encoder(tiny / "onnx/model.onnx", kinds, {"last_hidden_state": 3})
    fixed = onnx.load(tiny / "onnx/model.onnx")
    for entry in fixed.graph.input:
        entry.type.tensor_type.shape.dim[1].dim_value = 128
    onnx.save(fixed, tiny / "onnx/model.onnx")
    with pytest.raises(ModelFormatError, match="dynamic batch and sequence axes"):
        core.load(tiny, backend="onnx")


def test_files_that_are_not_models_are_named(tiny: Path) -> None:
    file = tiny / "onnx/model.onnx"
    whole = file.read_bytes()
    for content in (b"", b"this is not a model, but a text\n" * 40, whole[: len(whole) // 2]):
        file.unlink()
        file.write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"onnx/model\.onnx .*again"):
            core.load(tiny, backend="onnx", export=False)
    file.write_bytes(whole[:-7])
    with pytest.raises(ModelFormatError, match="not a whole ONNX model"):
        core.load(tiny, backend="onnx", export=False)


def test_dimensions_without_end_cost_no_time(tiny: Path) -> None:
    """A few megabytes of them would be multiplied for hours."""
    size = b"\xff" * 8 + b"\x3f"
    dims = size * 500_000
    tensor = b"\x0a" + _varint(len(dims)) + dims
    graph = b"\x2a" + _varint(len(tensor)) + tensor
    (tiny / "onnx/model.onnx").unlink()
    (tiny / "onnx/model.onnx").write_bytes(b"\x3a" + _varint(len(graph)) + graph)
    with pytest.raises(ModelFormatError, match="dimensions without end"):
        core.load(tiny, backend="onnx", export=False)


def test_a_file_of_zeros_costs_no_time(tiny: Path) -> None:
    """As a download leaves it whose place was reserved."""
    (tiny / "onnx/model.onnx").unlink()
    with (tiny / "onnx/model.onnx").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ModelFormatError, match="not a whole ONNX model"):
        core.load(tiny, backend="onnx", export=False)


@pytest.mark.parametrize("version", [10**6, 2**62, -1])
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_operators_of_a_version_without_end_cost_no_time(
    tiny: Path, backend: str, version: int
) -> None:
    """OpenVINO tries every version below one that it does not know."""
    file = tiny / "onnx/model.onnx"
    model = onnx.load(str(file))
    model.opset_import[0].version = version
    file.unlink()
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match=r"onnx/model\.onnx .* asks for operators of"):
        core.load(tiny, backend=backend, export=False)


def _varint(number: int) -> bytes:
    """As protocol buffers write lengths: seven bits a byte, the lowest first."""
    more = number >> 7
    return bytes([number & 0x7F | (0x80 if more else 0)]) + (_varint(more) if more else b"")


def test_pointers_of_git_lfs_are_named(tiny: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    with_external_data(tiny, "weights.bin")
    for name in ("onnx/weights.bin", "onnx/model.onnx"):
        (tiny / name).write_text(pointer)
        with pytest.raises(ModelFormatError, match=rf"{name} is a pointer.*`git lfs pull`"):
            core.load(tiny, backend="onnx")


def test_a_missing_file_lists_what_is_there(tiny: Path, minilm: Path) -> None:
    with pytest.raises(ArtifactNotFound, match=r"Did you mean 'model\.onnx'.*onnx/model\.onnx"):
        core.load(tiny, backend="onnx", file_name="modl.onnx")
    with pytest.raises(ArtifactNotFound, match="export=False"):
        core.load(minilm, backend="onnx", export=False)


def with_external_data(folder: Path, location: str) -> None:
    """Move the weights of onnx/model.onnx to another file."""
    file = folder / "onnx/model.onnx"
    model = onnx.load(file)
    file.unlink()
    onnx.save(
        model, file, save_as_external_data=True, all_tensors_to_one_file=True, location=location
    )


def test_external_data_loads_and_is_saved_with_the_model(tiny: Path, tmp_path: Path) -> None:
    expected = core.load(tiny, backend="onnx").encode(TEXTS)
    with_external_data(tiny, "model.onnx_data")
    model = core.load(tiny, backend="onnx")
    assert model.runtime.files == ("onnx/model.onnx", "onnx/model.onnx_data")
    np.testing.assert_array_equal(model.encode(TEXTS), expected)
    core.save(model, tmp_path / "saved")
    saved = core.load(tmp_path / "saved", backend="onnx")
    np.testing.assert_array_equal(saved.encode(TEXTS), expected)


def test_missing_external_data_is_named(tiny: Path) -> None:
    with_external_data(tiny, "weights.bin")
    (tiny / "onnx/weights.bin").unlink()
    with pytest.raises(ModelFormatError, match=r"'weights\.bin', which is missing"):
        core.load(tiny, backend="onnx")


@pytest.mark.parametrize("outside", ["../secret.bin", "/etc/hostname", "a/../../secret.bin"])
def test_external_data_outside_the_model_is_refused(tiny: Path, outside: str) -> None:
    with_external_data(tiny, "weights.bin")
    (tiny / "secret.bin").write_bytes((tiny / "onnx/weights.bin").read_bytes())
    model = onnx.load(tiny / "onnx/model.onnx", load_external_data=False)
    for weight in model.graph.initializer:
        for entry in weight.external_data:
            if entry.key == "location":
                entry.value = outside
    (tiny / "onnx/model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match="outside the model's directory"):
        core.load(tiny, backend="onnx")


def test_external_data_in_a_subgraph_is_seen(tiny: Path) -> None:
    weight = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    onnx.external_data_helper.set_external_data(weight, "../outside.bin")
    weight.ClearField("raw_data")
    constant = helper.make_node("Constant", [], ["inner"], value=weight)
    branch = helper.make_graph([constant], "branch", [], [])
    choice = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([choice], "g", [], [])
    (tiny / "onnx/model.onnx").unlink()
    (tiny / "onnx/model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelFormatError, match=r"'\.\./outside\.bin'"):
        core.load(tiny, backend="onnx")


def test_a_link_out_of_the_model_is_refused(tiny: Path, tmp_path: Path) -> None:
    with_external_data(tiny, "weights.bin")
    outside = tmp_path / "outside.bin"
    (tiny / "onnx/weights.bin").rename(outside)
    (tiny / "onnx/weights.bin").symlink_to(outside)
    with pytest.raises(ModelFormatError, match="outside the model's directory"):
        core.load(tiny, backend="onnx")


def test_providers_that_are_not_here_are_explained(tiny: Path) -> None:
    def load(**arguments: Any) -> Any:
        return core.load(tiny, backend="onnx", **arguments)

    with pytest.raises(OptionError, match=r"CUDAExecutionProvider.*core\[onnx-gpu\]"):
        load(device="cuda")
    with pytest.raises(OptionError, match=r"core\[onnx-gpu\]"):
        load(device="cuda:1")
    with pytest.raises(OptionError, match=r"Did you mean 'CPUExecutionProvider'"):
        load(model_kwargs={"provider": "CPUExecutionProvder"})
    with pytest.raises(OptionError, match="onnxruntime-directml"):
        load(model_kwargs={"provider": "DmlExecutionProvider"})
    for asked in ({"device": "coreml"}, {"model_kwargs": {"provider": "CoreMLExecutionProvider"}}):
        with pytest.raises(OptionError, match=r"onnxruntime for macOS") as raised:
            load(**asked)
        assert "Did you mean" not in str(raised.value)
    with pytest.raises(OptionError, match=r"not available: .*CPUExecutionProvider") as raised:
        load(model_kwargs={"provider": "CoreMlExecutionProvider"})
    assert "'CoreMLExecutionProvider'" not in str(raised.value)
    with pytest.raises(OptionError, match=r"Available here: .*cpu"):
        load(device="tpu")
    with pytest.raises(OptionError, match="only 'cpu'"):
        load(device="cpu:1")
    with pytest.raises(OptionError, match=r"does not take 'providers'.*'provider'"):
        load(model_kwargs={"providers": ["CPUExecutionProvider"]})


def test_the_cpu_can_be_named_in_every_way(tiny: Path) -> None:
    ways: list[dict[str, Any]] = [
        {"device": "cpu"},
        {"model_kwargs": {"provider": "CPUExecutionProvider"}},
        {"model_kwargs": {"provider": "CPUExecutionProvider", "provider_options": {}}},
    ]
    for arguments in ways:
        model = core.load(tiny, backend="onnx", **arguments)
        assert model.device == "cpu"
        assert model.runtime.providers == ("CPUExecutionProvider",)


def test_session_options_are_taken(tiny: Path) -> None:
    expected = core.load(tiny, backend="onnx").encode(TEXTS)
    stated = onnxruntime.SessionOptions()
    stated.intra_op_num_threads = 1
    for options in (
        stated,
        {"intra_op_num_threads": 1, "graph_optimization_level": "ORT_DISABLE_ALL"},
    ):
        model = core.load(tiny, backend="onnx", model_kwargs={"session_options": options})
        np.testing.assert_allclose(model.encode(TEXTS), expected, atol=2e-6)
    with pytest.raises(OptionError, match="no attribute 'threads'"):
        core.load(tiny, backend="onnx", model_kwargs={"session_options": {"threads": 1}})
    with pytest.raises(OptionError, match=r"intra_op_num_threads must be of type int, not 'x'\.$"):
        core.load(
            tiny, backend="onnx", model_kwargs={"session_options": {"intra_op_num_threads": "x"}}
        )
    with pytest.raises(OptionError, match="SessionOptions or a mapping"):
        core.load(tiny, backend="onnx", model_kwargs={"session_options": 3})


def test_shared_weights_stay_in_the_file_that_is_mapped(tiny: Path) -> None:
    def load(**kwargs: Any) -> core.EmbeddingModel:
        return core.load(tiny, backend="onnx", device="cpu", model_kwargs=kwargs)

    expected = load().encode(TEXTS)
    for holder in (tiny / "onnx/model.onnx", tiny / "onnx/model.onnx_data"):
        if holder.suffix != ".onnx":
            core.export(tiny, backend="onnx", external_data=True)
        with load(share_weights=True) as model:
            np.testing.assert_allclose(model.encode(TEXTS), expected, atol=2e-6)
            if (maps := Path("/proc/self/maps")).exists():
                lines = maps.read_text().splitlines()
                mapped = [line for line in lines if line.endswith(str(holder))]
                assert mapped
                assert all(line.split()[1].startswith("r") for line in mapped)
    quantized = core.quantize(core.load(tiny, backend="onnx", device="cpu"), num_samples=8)
    with pytest.raises(OptionError, match=r"is quantized.*leave out share_weights"):
        load(share_weights=True, file_name=quantized.file_name)
    with pytest.raises(OptionError, match="share_weights must be True or False, not 1"):
        load(share_weights=1)
    with pytest.raises(OptionError, match=r"session\.disable_prepacking"):
        load(share_weights=True, session_options=onnxruntime.SessionOptions())


def test_pickle_reloads_and_close_is_final(tiny: Path) -> None:
    model = core.load(tiny, backend="onnx", truncate_dim=8)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    model.close()
    with pytest.raises(OptionError, match="closed"):
        model.encode("text")


def test_many_threads_share_one_model(tiny: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"text number {i} " * (i % 7 + 1) for i in range(60)]
    with core.load(tiny, backend="onnx") as model, ThreadPoolExecutor(6) as pool:
        expected = model.encode(texts)
        for result in pool.map(lambda _: model.encode(texts, workers=2), range(12)):
            np.testing.assert_allclose(result, expected, atol=1e-6)


def test_two_runtimes_side_by_side_are_an_error(tiny: Path, tmp_path: Path) -> None:
    """In a process of its own: what is installed is looked at once."""
    # What pip leaves when onnxruntime-gpu is installed over onnxruntime.
    metadata = tmp_path / "site/onnxruntime_gpu-1.32.0.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.32.0\n")
    code = (
        "import sys, core\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "try:\n"
        "    core.load(sys.argv[1], backend='onnx')\n"
        "except core.BackendLoadError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in done.stdout
    assert "core[onnx-gpu]" in done.stdout


def test_loading_imports_nothing_heavy(tiny: Path) -> None:
    code = (
        "import sys, core\n"
        f"core.load({str(tiny)!r}, backend='onnx').encode('text')\n"
        "heavy = {'onnx', 'torch', 'transformers', 'sklearn', 'sympy', 'google.protobuf'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ},
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_metadata_in_any_encoding_is_no_reason_to_refuse_a_model(
    exports: Exports, tmp_path: Path
) -> None:
    model = copy_model(exports("bert-mean", "onnx"), tmp_path / "model")
    file = model / "onnx/model.onnx"
    content = file.read_bytes()
    file.unlink()  # it is a link
    # ModelProto's field 14: one entry, whose value is no UTF-8.
    file.write_bytes(content + b"\x72\x07\x0a\x01k\x12\x02\xff\xfe")
    with core.load(model, backend="onnx", device="cpu") as loaded:
        assert np.isfinite(loaded.encode("text")).all()
