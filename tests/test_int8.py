"""int8 on every backend: close to its source, the same in any batch, never under a floor."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import core
from core.engine.rounding import Moments, WeightRounder, moment_parts, round_weights
from core.engine.similarity import row_cosines
from core.engine.smoothing import ChannelRanges, smoothing_factors
from core.texts.samples import varied_texts
from tests.conftest import ROOT, Exports, copy_model, one_is_quick
from tests.tiny_models import SPECS

GRAPHS = ("onnx", "openvino")
TEXTS = [
    "fox",
    "A quick fox.",
    "The quick brown fox jumps over the lazy dog. " * 3,
    "?",
    "sea shells",
]
#: bert-cls and bert-prompts differ from bert-mean in what follows the graph alone.
GRAPHS_APART = sorted(SPECS.keys() - {"bert-cls", "bert-prompts"})
#: What the reader of a batch may see of the texts beside it.
MIN_COSINE, MOST_DIFFERENCE = 0.9999, 2e-3


def prose(count: int) -> list[str]:
    """Texts of 1 to 400 words from this repository's documentation: none calibrates anything."""
    words = " ".join(path.read_text("utf-8") for path in sorted(ROOT.glob("docs/*.md"))).split()
    choose = np.random.default_rng(3)
    starts, counts = choose.integers(0, len(words) - 400, count), choose.integers(1, 401, count)
    return [" ".join(words[s : s + n]) for s, n in zip(starts, counts, strict=True)]


def dtype_of(backend: str) -> str:
    """What the default int8 of a backend computes in on this processor."""
    if backend != "openvino":
        return "int8"
    from openvino_backend.processor import multiplies_int8

    return "int8" if multiplies_int8() else "float32"


def check_independent(model: core.EmbeddingModel, texts: list[str]) -> None:
    alone = np.stack([model.encode(text, normalize_embeddings=True) for text in texts])
    together = model.encode(texts, normalize_embeddings=True)
    in_one = model.encode(texts, normalize_embeddings=True, batch_size=len(texts), workers=1)
    for others in (together, in_one):
        assert row_cosines(alone, others).min() >= MIN_COSINE
        assert np.abs(alone - others).max() <= MOST_DIFFERENCE


@pytest.mark.slow
@pytest.mark.parametrize("backend", GRAPHS)
@pytest.mark.parametrize("name", one_is_quick("bert-mean", GRAPHS_APART))
def test_every_architecture_is_close_and_independent_of_its_batch(
    exports: Exports, tmp_path: Path, name: str, backend: str
) -> None:
    with core.load(exports(name, backend), backend=backend, device="cpu") as source:
        artifact = source.quantize(target=tmp_path, num_samples=8)
        expected = source.encode(TEXTS)
    assert artifact.config["inputs"] > 0
    with artifact.load(device="cpu") as model:
        assert model.dtype == dtype_of(backend)
        assert row_cosines(expected, model.encode(TEXTS)).min() >= 0.99
        check_independent(model, TEXTS)


@pytest.mark.parametrize("name", one_is_quick("bert-mean", ["bert-mean", "qwen3"]))
def test_openvino_makes_files_for_vnni_on_any_processor(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What it calibrates there only, and verifies: sums that may be cut off here change little."""
    from openvino_backend import int8

    monkeypatch.setattr(int8, "multiplies_int8", lambda: True)
    with core.load(exports(name, "openvino"), backend="openvino", device="cpu") as source:
        artifact = source.quantize(target=tmp_path, num_samples=8)
    assert artifact.config["texts"] == 8
    assert artifact.config["inputs"] > 0


@pytest.mark.parametrize("name", ["bert-mean", "xlm-roberta"])
def test_a_text_beside_others_is_the_same_to_the_last_bit_in_torch(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    words = " ".join(prose(4)).split()
    texts = [" ".join(words[:count]) for count in (1, 2, 3, 6, 11, 15, 16, 17, 31, 47, 64, 95)]
    with core.load(tiny_model(name), backend="torch", device="cpu") as source:
        artifact = source.quantize(target=tmp_path, num_samples=8)
    with artifact.load(device="cpu") as model:
        together = model.encode(texts, batch_size=len(texts), workers=1)
        for text, expected in zip(texts, together, strict=True):
            assert np.array_equal(model.encode(text), expected)


@pytest.mark.slow
@pytest.mark.parametrize("backend", GRAPHS)
def test_the_real_model_is_close_text_by_text(
    exports: Exports, tmp_path: Path, backend: str
) -> None:
    texts = prose(24)
    folder = copy_model(exports("minilm", backend), tmp_path / "minilm")
    with core.load(folder, backend=backend, device="cpu") as source:
        artifact = source.quantize(num_samples=64)
        expected = source.encode(texts)
    assert artifact.verification.mean_cosine >= 0.995
    with artifact.load(device="cpu") as model:
        cosines = row_cosines(expected, model.encode(texts))
        assert cosines.min() >= 0.99
        assert cosines.mean() >= 0.997
        check_independent(model, texts[:8])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "config"),
    [("onnx", "auto"), ("onnx", "avx2"), ("openvino", "int8"), ("torch", "int8")],
)
def test_a_floor_keeps_the_layers_that_harm_most(
    exports: Exports, tmp_path: Path, backend: str, config: str
) -> None:
    given: dict[str, Any] = {} if config == "avx2" else {"calibration": varied_texts(12)}
    with core.load(
        exports("bert-mean", "onnx", "openvino"), backend=backend, device="cpu"
    ) as source:
        free = source.quantize(config, tmp_path / "free", min_cosine=0.5, **given)
        assert free.config["kept_in_float"] == []
        floor = (1 + free.config["calibration_min_cosine"]) / 2
        held = source.quantize(config, tmp_path / "held", min_cosine=floor, **given)
    kept = held.config["kept_in_float"]
    assert kept
    assert held.config["calibration_min_cosine"] >= floor
    record = json.loads(Path(f"{held.path}.json").read_text("utf-8"))
    assert record["config"]["kept_in_float"] == kept
    with held.load(device="cpu") as model:
        assert model.dtype == dtype_of(backend)
    assert held.path.read_bytes() != free.path.read_bytes()


@pytest.mark.slow
def test_a_file_says_what_it_needs_and_is_right_without(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    flags = frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"})
    monkeypatch.setattr("openvino_backend.processor.processor_flags", lambda: flags)
    with core.load(exports("bert-mean", "openvino"), backend="openvino") as source:
        artifact = source.quantize(target=tmp_path, calibration=varied_texts(16))
        expected = source.encode(TEXTS)
    needs = artifact.config["needs"]
    assert "avx512_vnni" in needs["int8_instructions"]
    assert "avx512_bf16" in needs["bfloat16_instructions"]
    with artifact.load() as model:
        assert model.runtime.settings["INFERENCE_PRECISION_HINT"] == "bf16"
        assert model.runtime.settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == needs["group_size"]
    assert not caplog.records
    Path(f"{artifact.path}.json").unlink()  # the file says it itself
    monkeypatch.setattr("openvino_backend.processor.processor_flags", lambda: frozenset({"avx2"}))
    with caplog.at_level(logging.WARNING, "core"), artifact.load() as model:
        assert model.runtime.settings["INFERENCE_PRECISION_HINT"] == "f32"
        assert row_cosines(expected, model.encode(TEXTS)).min() >= 0.99
    assert "int8 dot products" in caplog.text
    assert "bfloat16" in caplog.text
    asked = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}
    monkeypatch.setattr("openvino_backend.processor.processor_flags", lambda: flags)
    with artifact.load(model_kwargs=asked) as model:  # what the caller says goes first
        assert model.runtime.settings["INFERENCE_PRECISION_HINT"] == "f32"


@pytest.mark.slow
def test_without_int8_products_only_weights_are_int8(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openvino_backend.processor.processor_flags", lambda: frozenset({"avx2"}))
    with core.load(exports("bert-mean", "openvino"), backend="openvino") as source:
        artifact = source.quantize(target=tmp_path, num_samples=8)
    assert artifact.config["static"] == artifact.config["smoothed"] == 0
    assert artifact.config["needs"]["int8_instructions"] == []
    assert artifact.verification.min_cosine >= 0.999


def test_smoothing_evens_the_channels_and_keeps_the_product() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 16)).astype(np.float32)
    x[:, 3] *= 40
    weight = random.normal(size=(16, 8)).astype(np.float32)
    ranges = ChannelRanges(x[:25].min(0), x[:25].max(0))
    ranges.add(x[25:].min(0), x[25:].max(0))
    np.testing.assert_array_equal(ranges.largest, np.abs(x).max(0))
    factors = smoothing_factors(ranges.largest, [weight])
    np.testing.assert_allclose(
        (x / factors) @ (weight * factors[:, None]), x @ weight, rtol=1e-3, atol=1e-3
    )
    assert np.argmax(factors) == 3
    assert np.exp(np.log(factors).mean()) == pytest.approx(1, rel=1e-5)
    low, high = ranges.bounds(factors)
    assert (low, high) == pytest.approx(((x / factors).min(), (x / factors).max()))
    assert high - low < 0.5 * (x.max() - x.min())


def test_weights_round_within_half_a_step() -> None:
    weight = np.random.default_rng(1).normal(size=(32, 5)).astype(np.float32)
    weight[:, 2] = 0
    integers, scale = round_weights(weight)
    assert np.abs(integers).max() == 127
    assert (np.abs(integers * scale - weight) <= scale / 2 + 1e-7).all()


@pytest.mark.parametrize("inputs", [1, 2, 33, 384])
def test_weights_whose_products_are_added_in_16_bits_fit(inputs: int) -> None:
    weight = np.random.default_rng(1).normal(size=(inputs, 50)).astype(np.float32)
    weight[:, 2] = 0
    weight[:2, 3:5] = [[20, 20], [20, -20]][:inputs]
    integers, scale = round_weights(weight, adds_in_16_bits=True)
    evens, odds = integers[: inputs // 2 * 2 : 2].astype(int), integers[1::2].astype(int)
    # The largest byte of an input times both weights.
    assert (255 * np.abs(evens + odds) <= 32_767).all()
    assert (np.abs(integers * scale - weight) <= scale * 1.001).all()
    if inputs > 1:
        assert np.abs(integers[:, 3]).max() == 64
        assert np.abs(integers[:, 4]).max() == 127
        # Half the levels, 63, would always fit.
        exact, half = (np.square(integers * scale - weight).sum(), _error(weight, 63))
        assert exact < (0.6 if inputs > 2 else 1.0) * half


def _related_inputs(rows: int, channels: int) -> NDArray[np.float32]:
    """Inputs that go together in part, as those of a model do, some of them large."""
    random = np.random.default_rng(2)
    common = random.normal(size=(rows, channels // 8)) @ random.normal(
        size=(channels // 8, channels)
    )
    sizes = np.exp(random.normal(size=channels))
    found = sizes * (0.5 + common / np.sqrt(channels / 8) + random.normal(size=(rows, channels)))
    return np.asarray(found, dtype=np.float32)


def _moments(x: NDArray[np.float32]) -> Moments:
    found = Moments(x.shape[1])
    parts = np.split(x, moment_parts(x.shape[1]), axis=1)
    for some in (slice(0, 100), slice(100, None)):
        found.add(np.stack([part[some].T @ part[some] for part in parts]), len(x[some]))
    return found


@pytest.mark.parametrize("adds_in_16_bits", [False, True])
@pytest.mark.parametrize("channels", [48, 99, 1_536])
def test_weights_round_so_that_products_change_least(channels: int, adds_in_16_bits: bool) -> None:
    weight = np.random.default_rng(1).normal(size=(channels, 40)).astype(np.float32)
    weight[:, 2] = 0
    x, other = np.split(_related_inputs(4_000, channels), 2)
    rounder = WeightRounder({"x": _moments(x)}, adds_in_16_bits=adds_in_16_bits)
    factors = np.sqrt(np.abs(x).max(axis=0))
    for name, given in (("plain", None), ("smoothed", factors)):
        errors = []
        # Of inputs that nothing is known of each weight is rounded to the nearest.
        for inputs in ("x", "unknown"):
            integers, scale = rounder.round(f"{name} {inputs}", inputs, weight, given)
            assert integers.dtype == np.int8
            assert np.abs(integers.astype(int)).max() <= 127
            if adds_in_16_bits:
                even = channels // 2 * 2
                sums = integers[:even:2].astype(int) + integers[1:even:2]
                assert (np.abs(sums) <= 128).all()
            back = integers * scale / (1 if given is None else given[:, None])
            # Rows that were not among those of the moments.
            errors.append(np.square(other @ (back - weight)).sum())
        assert errors[0] < 0.85 * errors[1]
    again = rounder.round("plain x", "x", weight)
    assert again is rounder.round("plain x", "x", weight), "each is rounded once"


def test_what_few_rows_have_in_common_is_hardly_believed() -> None:
    weight = np.random.default_rng(1).normal(size=(256, 40)).astype(np.float32)
    x, other = np.split(_related_inputs(4_000, 256), 2)
    errors = []
    for rows in (40, 2_000):
        rounder = WeightRounder({"x": _moments(x[:rows])})
        for inputs in ("x", "unknown"):
            integers, scale = rounder.round(inputs, inputs, weight)
            errors.append(np.square(other @ (integers * scale - weight)).sum())
    assert errors[0] < 1.02 * errors[1], "no worse than to the nearest"
    assert errors[2] < 0.85 * errors[3]


def test_inputs_that_are_never_there_round_to_the_nearest() -> None:
    weight = np.random.default_rng(1).normal(size=(32, 5)).astype(np.float32)
    integers, _ = round_weights(weight, moments=np.zeros((1, 32, 32), dtype=np.float32))
    np.testing.assert_array_equal(integers, round_weights(weight)[0])


def test_inputs_too_large_to_square_round_to_the_nearest() -> None:
    weight = np.random.default_rng(1).normal(size=(32, 5)).astype(np.float32)
    huge = Moments(32)
    huge.add(np.full((1, 32, 32), np.inf, dtype=np.float32), 1)
    for factors in (None, np.full(32, 2, dtype=np.float32)):
        rounder = WeightRounder({"x": huge})
        integers, _ = rounder.round("product", "x", weight, factors)
        np.testing.assert_array_equal(integers, round_weights(weight)[0])


@pytest.mark.parametrize("backend", ["torch", *GRAPHS])
def test_a_source_that_gives_no_numbers_is_named(
    exports: Exports, tmp_path: Path, backend: str
) -> None:
    from safetensors.numpy import load_file, save_file

    copy_model(exports("bert-mean"), tmp_path / "m")
    path = tmp_path / "m/model.safetensors"
    tensors = load_file(path)
    tensors["encoder.layer.1.intermediate.dense.weight"][0, 0] = np.nan
    path.unlink()  # it is a link
    save_file(tensors, path, {"format": "pt"})
    with core.load(tmp_path / "m", backend="torch", device="cpu") as source:
        if backend == "torch":
            make = functools.partial(source.quantize, num_samples=8)
            named = r"'encoder.layer.1.intermediate.dense'"
        else:
            make = functools.partial(core.export, source, backend=backend)
            named = r"\d+ of \d+ probe"
        with pytest.raises(core.VerificationError, match=f"source itself .* {named}"):
            make()
    assert not [*tmp_path.glob("m/*/*model*")]


def test_moments_are_of_equal_parts() -> None:
    assert [moment_parts(n) for n in (1, 384, 1_024, 1_536, 3_072, 4_096)] == [1, 1, 1, 2, 3, 4]
    assert moment_parts(1_031) == 1_031, "a prime number of inputs has no other equal parts"


def _error(weight: NDArray[np.float32], levels: int) -> float:
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / levels
    return float(np.square(np.rint(weight / scale) * scale - weight).sum())


def test_pytorch_rounds_weights_again_where_sums_have_16_bits() -> None:
    import torch

    from torch_backend.kernels.int8 import fitting

    weight = torch.tensor([[127, 3, -100, -90, 5, 127, 7], [-127, 127, 60, 68, 127, 1, 127]])
    weight, scale = weight.to(torch.int8), torch.tensor([0.5, 2.0])
    same, _ = fitting(weight, scale, frozenset({"avx512_vnni"}))
    assert same is weight
    rounded, larger = fitting(weight, scale, frozenset({"avx2"}))
    assert rounded[:, 0:6:2].add(rounded[:, 1:6:2].short()).abs().max() <= 128
    assert torch.equal(rounded[1], weight[1]), "what fits stays"
    error = (rounded * larger[:, None] - weight * scale[:, None]).abs()
    assert (error <= larger[:, None] + 1e-6).all()
    again, _ = fitting(rounded, larger, frozenset({"avx2"}))
    assert again is rounded
    single, _ = fitting(weight[:, :1], scale, frozenset({"avx2"}))
    assert torch.equal(single, weight[:, :1]), "of one input there are no pairs"


@pytest.mark.parametrize(
    ("made_with", "config", "may_drift"),
    [
        ("avx512_vnni", "auto", True),
        ("avx2", "auto", False),
        ("avx512_vnni", "avx512_vnni", True),
        ("avx512_vnni", "avx2", False),
    ],
)
def test_onnx_says_where_sums_may_be_cut_off(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, made_with: str, config: str, may_drift: bool,
) -> None:  # fmt: skip
    def on(flag: str) -> None:
        monkeypatch.setattr("onnx_backend.presets.processor_flags", lambda: frozenset({flag}))

    on(made_with)
    with core.load(exports("bert-mean", "onnx"), backend="onnx", device="cpu") as source:
        given: dict[str, Any] = {"num_samples": 8} if config == "auto" else {}
        artifact = source.quantize(config, tmp_path, **given)
    assert "16 bits" not in caplog.text
    for flag, warns in (("avx512_vnni", False), ("avx2", may_drift)):
        on(flag)
        artifact.load(device="cpu").close()
        assert ("in 16 bits and cuts off" in caplog.text) == warns


def test_default_texts_are_varied_and_always_the_same() -> None:
    texts = varied_texts(200)
    assert texts == varied_texts(200)
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[20] <= 2
    assert lengths[-20] >= 150
    assert any(not text.isascii() for text in texts)


def _weights_as_nodes(model: Any) -> None:
    from onnx import helper

    graph = model.graph
    weights = [tensor for tensor in graph.initializer if len(tensor.dims) == 2]
    nodes = [helper.make_node("Constant", [], [w.name], w.name, value=w) for w in weights]
    rest = [tensor for tensor in graph.initializer if len(tensor.dims) != 2], list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(rest[0])
    graph.node.extend([*nodes, *rest[1]])


def _weights_turned(model: Any) -> None:
    """As tools leave them that fold no constants: PyTorch's linear layers have them transposed."""
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    for node in [n for n in graph.node if n.op_type == "MatMul" and n.input[1] in weights]:
        name = node.input[1]
        stored = numpy_helper.from_array(numpy_helper.to_array(weights[name]).T.copy(), name)
        weights[name].CopyFrom(stored)
        node.input[1] = f"{name}_turned"
        turned = helper.make_node("Transpose", [name], [node.input[1]], perm=[1, 0])
        graph.node.insert(list(graph.node).index(node), turned)


def _without_names(model: Any) -> None:
    for node in model.graph.node:
        node.ClearField("name")


def _with_a_branch(model: Any) -> None:
    """The result comes out of a graph inside the graph, which takes a weight and a product."""
    from onnx import TensorProto, helper, numpy_helper

    graph, (output, *_) = model.graph, model.graph.output
    last = next(node for node in graph.node if output.name in node.output)
    last.output[list(last.output).index(output.name)] = "inner"
    product = next(node for node in graph.node if node.op_type == "MatMul").output[0]
    constants = {"always": np.array(True), "none": np.float32(0), "row": np.ones(32, np.float32)}
    graph.initializer.extend(numpy_helper.from_array(np.array(v), n) for n, v in constants.items())
    branches = [
        helper.make_graph(
            [
                helper.make_node("Mul", [product, "none"], [f"{name}_zero"]),
                helper.make_node("Mul", ["inner", "row"], [f"{name}_same"]),
                helper.make_node("Add", [f"{name}_zero", f"{name}_same"], [name]),
            ],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    ]
    branch = dict(zip(("then_branch", "else_branch"), branches, strict=True))
    graph.node.append(helper.make_node("If", ["always"], [output.name], "branch", **branch))


def _with_gelu_turned(model: Any) -> None:
    """What GELU makes is multiplied by a negative number before the next product."""
    from onnx import helper, numpy_helper

    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.float32(-3), "turn"))
    second = [n for n in graph.node if n.op_type == "MatMul" and "output/dense" in n.name]
    second = [node for node in second if "attention" not in node.name]
    assert second
    for node in second:
        turned = helper.make_node("Mul", [node.input[0], "turn"], [f"{node.output[0]}_turned"])
        node.input[0] = turned.output[0]
        graph.node.insert(list(graph.node).index(node), turned)


@pytest.mark.parametrize(
    ("change", "config"),
    [
        (_weights_as_nodes, "auto"),
        (_weights_turned, "auto"),
        (_with_a_branch, "auto"),
        (_with_gelu_turned, "auto"),
        (_without_names, "static"),
    ],
)
def test_graphs_of_other_tools_are_int8_too(
    exports: Exports, tmp_path: Path, change: Callable[[Any], None], config: str
) -> None:
    import onnx

    folder = copy_model(exports("bert-mean", "onnx"), tmp_path / "m")
    path = folder / "onnx/model.onnx"
    graph = onnx.load(str(path))
    change(graph)
    path.unlink()  # it is a link
    onnx.save(graph, str(path))
    with core.load(folder, backend="onnx", device="cpu") as source:
        artifact = source.quantize(config, tmp_path / "made", calibration=TEXTS)
        with artifact.load(device="cpu") as model:
            assert model.dtype == "int8"
            assert row_cosines(source.encode(TEXTS), model.encode(TEXTS)).min() >= 0.99
    if config == "auto":
        assert artifact.path.stat().st_size < path.stat().st_size


def test_a_floor_keeps_what_static_int8_leaves_in_float(exports: Exports, tmp_path: Path) -> None:
    import onnx

    def in_int8(artifact: core.Artifact) -> set[str]:
        nodes = onnx.load(str(artifact.path)).graph.node
        makers = {name: node.op_type for node in nodes for name in node.output}
        products = [node for node in nodes if node.op_type == "MatMul"]
        return {n.name for n in products if makers.get(n.input[1]) == "DequantizeLinear"}

    with core.load(exports("bert-mean", "onnx"), backend="onnx", device="cpu") as source:
        make = functools.partial(source.quantize, "static", calibration=varied_texts(8))
        free = make(tmp_path / "free", min_cosine=0.5)
        floor = (1 + free.config["calibration_min_cosine"]) / 2
        held = make(tmp_path / "held", min_cosine=floor)
    kept = held.config["kept_in_float"]
    assert kept
    assert in_int8(held) == in_int8(free) - set(kept)


def test_models_of_few_positions_are_int8_too(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = copy_model(tiny_model("bert-mean"), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8}))
    weights = load_file(folder / "model.safetensors")
    table = next(name for name in weights if name.endswith("position_embeddings.weight"))
    (folder / "model.safetensors").unlink()  # it is a link
    cut = {**weights, table: weights[table][:8].copy()}
    save_file(cut, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "sentence_bert_config.json").unlink()
    with core.load(folder, backend="onnx", device="cpu") as source:
        artifact = source.quantize("auto", tmp_path / "made", calibration=varied_texts(16))
        with artifact.load(device="cpu") as model:
            assert model.dtype == "int8"
            assert row_cosines(source.encode(TEXTS), model.encode(TEXTS)).min() >= 0.99


@pytest.mark.slow
def test_a_gate_after_gelu_is_no_gelu(exports: Callable[..., Path], tmp_path: Path) -> None:
    """What a gate multiplies may have any sign: rows of a GELU have no room for that."""
    onnx = pytest.importorskip("onnx")
    from onnx_backend.rewriting.nodes import name_nodes
    from onnx_backend.rewriting.products import find_products

    gelus = {}
    for name in ("modernbert", "bert-mean"):
        graph = onnx.load(str(exports(name, "onnx") / "onnx/model.onnx"))
        name_nodes(graph)
        gelus[name] = sum(entry.is_gelu for entry in find_products(graph, tmp_path))
    assert gelus == {"modernbert": 0, "bert-mean": 2}


@pytest.mark.parametrize(
    ("level", "dtype", "flag"),
    [("bf16", "bfloat16", "avx512_bf16"), ("fp16", "float16", "avx512_fp16")],
)
def test_half_precision_says_where_it_pays(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, level: str, dtype: str, flag: str,
) -> None:  # fmt: skip
    told = f"computes in {dtype}, which this processor does not multiply"
    for number, (flags, warnings) in enumerate((({"avx2"}, 1), ({flag}, 0), (set(), 0))):
        found = frozenset(flags)
        monkeypatch.setattr("torch_backend.session.processor_flags", lambda found=found: found)
        with core.load(tiny_model("bert-mean"), backend="torch", device="cpu") as model:
            assert told not in caplog.text, "float32 is what every processor multiplies"
            artifact = model.optimize(level, tmp_path / str(number))
        assert caplog.text.count(told) == warnings, "making the file says it"
        caplog.clear()
        artifact.load(device="cpu").close()
        assert caplog.text.count(told) == warnings
        caplog.clear()
