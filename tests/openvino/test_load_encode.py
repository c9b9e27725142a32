"""Loading OpenVINO files and encoding with them, against the torch backend."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import core
from core import EmbeddingModel
from core.architecture.modules import run_modules, unit_length
from core.engine.batching import pad
from tests.conftest import Exports, copy_model, one_is_quick
from tests.openvino.conftest import Exported

PROSE = "the quick brown fox jumps over a lazy dog near the warm river bank in spring"
WORDS = tuple(PROSE.split())


def texts_of(*lengths: int) -> list[str]:
    return [" ".join(WORDS[(i + k) % len(WORDS)] for k in range(n)) for i, n in enumerate(lengths)]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    units = (unit_length(np, rows.astype(np.float64)) for rows in (a, b))
    result: np.ndarray = np.multiply(*units).sum(1)
    return result


def token_batch(model: EmbeddingModel, rows: int, width: int, side: str) -> core.TokenBatch:
    """A batch of exactly this shape; the shortest row has a third of its tokens."""
    rng = np.random.default_rng(rows * 1000 + width)
    lengths = np.array([max(width - i * width // max(rows + rows // 2, 1), 1) for i in range(rows)])
    ids = rng.integers(1_000, 20_000, int(lengths.sum())).astype(np.int32)
    return pad(ids, lengths, model.tokenizer.pad_id, side)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (1, 512), (3, 70), (7, 33), (64, 9), (2, 300)])
def test_fp32_agrees_with_torch_in_every_shape(
    minilm_openvino: EmbeddingModel, minilm_torch: EmbeddingModel, rows: int, width: int, side: str
) -> None:
    batch = token_batch(minilm_openvino, rows, width, side)
    ours = minilm_openvino.runtime.sentence_embeddings(batch)
    assert ours.shape == (rows, 384)
    assert cosines(ours, minilm_torch.runtime.sentence_embeddings(batch)).min() >= 0.99999


def test_throughput_and_latency_give_the_same(minilm_openvino: EmbeddingModel) -> None:
    batch = token_batch(minilm_openvino, 5, 40, "right")
    runtime = minilm_openvino.runtime
    one = runtime.sentence_embeddings(batch, workers=1)
    many = runtime.sentence_embeddings(batch, workers=2)
    np.testing.assert_allclose(many, one, atol=1e-6)


def test_token_embeddings_pool_to_sentence_embeddings(minilm_openvino: EmbeddingModel) -> None:
    for rows, width, side in ((1, 5, "right"), (40, 11, "left"), (3, 130, "right")):
        batch = token_batch(minilm_openvino, rows, width, side)
        hidden = minilm_openvino.runtime.token_embeddings(batch)
        assert hidden.shape == (rows, width, 384)
        pooled = run_modules(np, minilm_openvino.runtime.architecture.modules, hidden, batch)
        fused = minilm_openvino.runtime.sentence_embeddings(batch)
        np.testing.assert_allclose(fused, pooled, atol=1e-6)


def test_encode_keeps_order_and_matches_torch(
    minilm_openvino: EmbeddingModel, minilm_torch: EmbeddingModel
) -> None:
    texts = [*texts_of(*range(1, 40)), "", "naïve café 机器学习", *texts_of(300, 1)]
    ours, theirs = minilm_openvino.encode(texts), minilm_torch.encode(texts)
    assert ours.dtype == np.float32
    assert cosines(ours, theirs).min() >= 0.99999


def test_many_threads_on_one_model(minilm_openvino: EmbeddingModel) -> None:
    groups = [texts_of(*range(n, n + 6)) for n in range(1, 13)]
    expected = [minilm_openvino.encode(group) for group in groups]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(minilm_openvino.encode, groups * 2))
    for result, wanted in zip(results, expected * 2, strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-6)


def test_the_runtime_reports_what_it_uses(minilm_openvino: EmbeddingModel) -> None:
    assert (minilm_openvino.device, minilm_openvino.dtype) == ("CPU", "float32")
    assert minilm_openvino.file_name == "openvino/openvino_model.xml"


def test_a_file_at_the_top_comes_first(exported: Exported, tmp_path: Path) -> None:
    model = copy_model(exported("bert-mean"), tmp_path / "model")
    for suffix in (".xml", ".bin"):
        (model / "openvino" / f"openvino_model{suffix}").rename(model / f"openvino_model{suffix}")
    with core.load(model, backend="openvino", export=False) as loaded:
        assert loaded.file_name == "openvino_model.xml"


def test_an_onnx_file_runs_directly(exports: Exports) -> None:
    model = exports("bert-mean", "onnx", "openvino")
    texts = texts_of(1, 4, 30)
    with (
        core.load(model, backend="openvino", file_name="onnx/model.onnx") as ours,
        core.load(model, backend="openvino") as native,
    ):
        assert ours.file_name == "onnx/model.onnx"
        assert cosines(ours.encode(texts), native.encode(texts)).min() >= 0.99999


def test_ov_config_as_dictionary_and_as_file(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}))
    texts = texts_of(*range(1, 20))
    with core.load(tiny, backend="openvino") as plain:
        expected = plain.encode(texts)
    for config in ({"NUM_STREAMS": "1"}, str(path), path):
        with core.load(tiny, backend="openvino", model_kwargs={"ov_config": config}) as model:
            assert model.runtime.max_workers == 1
            np.testing.assert_allclose(model.encode(texts), expected, atol=1e-6)


def test_compiled_models_are_cached_on_request(tiny: Path, tmp_path: Path) -> None:
    cache = tmp_path / "compiled"
    for _ in range(2):
        config = {"CACHE_DIR": str(cache)}
        with core.load(tiny, backend="openvino", model_kwargs={"ov_config": config}) as model:
            assert np.isfinite(model.encode(texts_of(3))).all()
    assert list(cache.glob("*.blob"))


def test_auto_chooses_a_device_and_says_which(tiny: Path) -> None:
    with core.load(tiny, backend="openvino", device="auto") as model:
        assert "CPU" in model.device
        assert np.isfinite(model.encode(texts_of(*range(1, 30)))).all()


VIRTUAL = ["auto", "AUTO:CPU", "HETERO:CPU", "MULTI:CPU", "BATCH:CPU"]


@pytest.mark.parametrize("device", one_is_quick("auto", VIRTUAL))
def test_fp32_stays_fp32_on_virtual_devices(tiny: Path, device: str) -> None:
    """On processors with bfloat16 the embeddings would differ by a thousandth."""
    texts = texts_of(*range(1, 12))
    with core.load(tiny, backend="openvino") as plain:
        expected = plain.encode(texts)
    with core.load(tiny, backend="openvino", device=device) as model:
        assert model.dtype == "float32"
        np.testing.assert_allclose(model.encode(texts), expected, atol=1e-6)


@pytest.mark.parametrize("device", one_is_quick("auto", VIRTUAL))
def test_virtual_devices_report_what_the_real_one_computes_in(tiny: Path, device: str) -> None:
    config = {"ov_config": {"INFERENCE_PRECISION_HINT": "bf16"}}
    with (
        core.load(tiny, backend="openvino", model_kwargs=config) as real,
        core.load(tiny, backend="openvino", device=device, model_kwargs=config) as virtual,
    ):
        assert virtual.dtype == real.dtype


@pytest.mark.parametrize("device", ["CPU.0", "cpu:0", "AUTO:CPU.0"])
def test_the_first_cpu_is_the_cpu(tiny: Path, device: str) -> None:
    with core.load(tiny, backend="openvino", device=device) as model:
        assert model.device == "CPU"


def test_a_graph_of_fixed_shape_is_filled_and_cut(tiny: Path) -> None:
    from openvino_backend.imports import openvino

    path = tiny / "openvino" / "openvino_model.xml"
    graph = openvino.Core().read_model(path)
    graph.reshape({name: [4, 64] for name in ("input_ids", "attention_mask", "token_type_ids")})
    openvino.save_model(graph, tiny / "openvino" / "fixed.xml", compress_to_fp16=False)
    texts = texts_of(*range(1, 12))
    with (
        core.load(tiny, backend="openvino", file_name="openvino/fixed.xml") as fixed,
        core.load(tiny, backend="openvino", file_name="openvino_model.xml") as free,
    ):
        np.testing.assert_allclose(fixed.encode(texts), free.encode(texts), atol=1e-6)
        with pytest.raises(core.OptionError, match="max_seq_length = 64"):
            fixed.encode(texts_of(100))


def test_shapes_seen_by_the_runtime_are_bounded() -> None:
    from openvino_backend.kernels.shapes import round_up

    assert len({round_up(count) for count in range(1, 513)}) <= 96
    assert all(0 <= round_up(n) - n <= n / 16 for n in range(1, 2_000))
    assert [round_up(n) for n in (1, 31, 32, 33, 63, 65, 500)] == [1, 31, 32, 34, 64, 68, 512]
    assert [round_up(n, 8) for n in (1, 15, 17, 33, 64)] == [1, 15, 18, 36, 64]


@pytest.mark.slow
def test_memory_is_bounded_over_many_shapes(tiny: Path) -> None:
    """In a process of its own. Without the bounds the last 200 shapes take over 60 MB."""
    script = f"""
import core, os
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

# The largest shape comes first, so that only what is kept for a shape can grow.
shapes = [(rows, words) for rows in range(15, 0, -1) for words in range(96, 2, -4)]
with core.load({str(tiny)!r}, backend="openvino") as model:
    for number, (rows, words) in enumerate(shapes):
        texts = [" ".join(["river"] * words + [str(row)]) for row in range(rows)]
        model.encode(texts, batch_tokens=16_384, workers=1)
        if number == len(shapes) - 200:
            before = resident()
    print("grew", resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 20


@pytest.mark.slow
def test_threads_are_not_tied_to_processors(tiny: Path) -> None:
    # Processes with one thread each would all be tied to the first processor, and share it.
    code = (
        "import os, sys, core\n"
        "model = core.load(sys.argv[1], backend='openvino')\n"
        "model.encode([f'text {i}' for i in range(200)], batch_size=2, workers=2)\n"
        "model.encode('one text')\n"
        "own = os.sched_getaffinity(0)\n"
        "assert len(os.listdir('/proc/self/task')) > 1\n"
        "for thread in os.listdir('/proc/self/task'):\n"
        "    assert os.sched_getaffinity(int(thread)) == own, (thread, own)\n"
    )
    for threads in ("1", "2"):
        environment = {**os.environ, "CORE_NUM_THREADS": threads}
        command = [sys.executable, "-c", code, str(tiny)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_how_much_is_kept_can_be_set(tiny: Path) -> None:
    config = {"CPU_RUNTIME_CACHE_CAPACITY": 1_000}
    with core.load(tiny, backend="openvino", model_kwargs={"ov_config": config}) as model:
        assert model.encode("a river").shape == (model.dimension,)


def test_pickling_loads_again(minilm_openvino: EmbeddingModel) -> None:
    texts = texts_of(2, 9)
    with pickle.loads(pickle.dumps(minilm_openvino)) as copy:
        assert copy.backend == "openvino"
        np.testing.assert_allclose(copy.encode(texts), minilm_openvino.encode(texts), atol=1e-6)


def test_pickling_with_objects_in_ov_config(tiny: Path, tmp_path: Path) -> None:
    from openvino_backend.imports import openvino

    hint = openvino.properties.hint

    config = {
        hint.inference_precision: openvino.Type.f32,
        "PERFORMANCE_HINT": hint.PerformanceMode.LATENCY,
        "CACHE_DIR": tmp_path / "compiled",
    }
    with core.load(tiny, backend="openvino", model_kwargs={"ov_config": config}) as model:
        expected = model.encode("a river")
        assert list((tmp_path / "compiled").iterdir())
        with pickle.loads(pickle.dumps(model)) as copy:
            np.testing.assert_allclose(copy.encode("a river"), expected, atol=1e-6)


def test_closing_while_another_thread_encodes(tiny: Path) -> None:
    """A batch that comes after `close` says what happened, whatever it asks for."""
    model = core.load(tiny, backend="openvino")
    runtime, batch = model.runtime, token_batch(model, 2, 5, "right")
    model.close()
    for encode in (runtime.sentence_embeddings, runtime.token_embeddings):
        with pytest.raises(
            core.UnsupportedOperation, match=r"openvino_model\.xml is closed\. Load"
        ):
            encode(batch)


def test_a_closed_model_says_so(tiny: Path) -> None:
    model = core.load(tiny, backend="openvino")
    model.close()
    with pytest.raises(core.OptionError, match="closed"):
        model.encode("text")


def test_save_keeps_the_file_that_was_loaded(tiny: Path, tmp_path: Path) -> None:
    texts = texts_of(1, 20)
    with core.load(tiny, backend="openvino") as model:
        expected = model.encode(texts)
        core.save(model, tmp_path / "saved")
    with core.load(tmp_path / "saved", backend="openvino", export=False) as again:
        np.testing.assert_array_equal(again.encode(texts), expected)
    assert (tmp_path / "saved" / "model.safetensors").exists()


def test_loading_and_encoding_need_no_torch_and_send_nothing(exported: Exported) -> None:
    """In a process of its own: nothing but OpenVINO is imported, and no connection is opened."""
    script = f"""
import sys, socket
def refuse(*a, **k): raise AssertionError("a connection was opened")
socket.socket.connect = refuse
import core
model = core.load({str(exported("bert-mean"))!r}, backend="openvino")
assert model.encode(["one text", "another"]).shape == (2, 32)
found = {{"torch", "transformers", "nncf", "onnx", "openvino_telemetry"}} & set(sys.modules)
assert not found, found
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
