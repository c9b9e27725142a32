"""Several processes: order, killed workers, exceptions, every backend."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

import core
from core import EmbeddingModel, OptionError, PluginError, ProcessPool
from core.machine.child import send
from core.plugin.plugin import BACKEND_GROUP
from core.plugin.registry import registry
from tests.conftest import kept
from tests.engine.texts import english


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], Path]) -> Iterator[EmbeddingModel]:
    with core.load(tiny_model("bert-mean"), backend="onnx") as loaded, kept(loaded):
        yield loaded


@pytest.fixture(scope="module")
def pool(model: EmbeddingModel) -> Iterator[ProcessPool]:
    with ProcessPool(model, processes=2) as opened:
        yield opened


def texts(count: int) -> list[str]:
    paragraphs = english()
    return [f"{i} {paragraphs[i % len(paragraphs)][:200]}" for i in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("torch", {"devices": ["cpu", "cpu:0"]}),
        ("onnx", {"processes": 2}),
        ("openvino", {"processes": 2}),
    ],
)
def test_every_backend_gives_the_rows_of_one_process_in_order(
    backend: str, options: dict[str, Any], tiny_model: Callable[[str], Path]
) -> None:
    rows = texts(120)
    with (
        core.load(tiny_model("bert-cls"), backend=backend) as one,
        ProcessPool(one, **options) as many,
    ):
        assert len(many.pids) == 2
        np.testing.assert_allclose(many.encode(rows), one.encode(rows), atol=1e-5)


def test_a_stream_keeps_its_order_and_reads_only_a_little_ahead(
    pool: ProcessPool, model: EmbeddingModel
) -> None:
    rows = texts(600)
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for row in rows:
            taken += 1
            yield row

    blocks = pool.encode_stream(source(), window=20)
    first = next(blocks)
    assert taken <= 20 * 6
    result = np.concatenate([first, *blocks])
    np.testing.assert_allclose(result, model.encode(rows), atol=1e-5)


def test_repeated_texts_give_equal_rows(pool: ProcessPool, model: EmbeddingModel) -> None:
    rows = [*texts(30), *texts(10), "same", "same"]
    result = pool.encode(rows)
    np.testing.assert_array_equal(result[30:40], result[:10])
    np.testing.assert_allclose(result, model.encode(rows), atol=1e-5)


def assert_floats_equal(found: Any, expected: Any) -> None:
    """Batches differ, and with them the order of sums."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def assert_bits_equal(found: Any, expected: Any, plain: Any) -> None:
    """Packed signs are equal wherever rounding cannot change the sign of a number."""
    decided = np.abs(plain) > 1e-5
    assert decided.mean() > 0.99
    for bits in (found, expected):
        signs = np.unpackbits(bits.view(np.uint8) ^ (0x80 if bits.dtype == np.int8 else 0), axis=1)
        np.testing.assert_array_equal(signs[decided], (plain > 0)[decided])


def assert_buckets_equal(found: Any, expected: Any, plain: Any) -> None:
    """Rounding moves a number across at most one border, and few lie that close to one."""
    # Else rounding would move it further.
    assert ((plain.max(axis=0) - plain.min(axis=0)) / 255).min() > 1e-5
    distance = np.abs(found.astype(int) - expected.astype(int))
    assert distance.max() <= 1
    assert (distance == 0).mean() > 0.99


@pytest.mark.parametrize(
    ("options", "dimension"),
    [({"prompt": "query: "}, 32), ({"truncate_dim": 8, "normalize_embeddings": True}, 8)],
)
def test_options_reach_the_processes(
    pool: ProcessPool, model: EmbeddingModel, options: dict[str, Any], dimension: int
) -> None:
    rows = texts(100)
    found, expected = pool.encode(rows, **options), model.encode(rows, **options)
    assert found.dtype == expected.dtype == np.float32
    assert found.shape == (100, dimension)
    assert_floats_equal(found, expected)
    # They do something.
    assert np.abs(found - model.encode(rows)[:, :dimension]).max() > 1e-3


@pytest.mark.parametrize("precision", ["binary", "ubinary", "int8", "uint8"])
def test_precisions_are_of_all_rows_not_of_one_process_s(
    pool: ProcessPool, model: EmbeddingModel, precision: str
) -> None:
    rows = texts(100)
    found, expected = (one.encode(rows, precision=precision) for one in (pool, model))
    assert found.dtype == expected.dtype == (np.uint8 if precision[0] == "u" else np.int8)
    compare = assert_bits_equal if "binary" in precision else assert_buckets_equal
    compare(found, expected, model.encode(rows))


def test_token_embeddings_come_from_the_processes(pool: ProcessPool, model: EmbeddingModel) -> None:
    rows = texts(5)
    found = pool.encode(rows, output_value="token_embeddings")
    expected = model.encode(rows, output_value="token_embeddings")
    for one, other in zip(found, expected, strict=True):
        assert_floats_equal(one, other)


def test_one_text_and_none(pool: ProcessPool) -> None:
    assert pool.encode("one").shape == (32,)
    assert pool.encode([]).shape == (0, 32)
    assert list(pool.encode_stream([])) == []


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_the_work_finished(
    pool: ProcessPool, model: EmbeddingModel
) -> None:
    rows = texts(4_000)
    expected = model.encode(rows)
    before = pool.pids
    killer = threading.Timer(0.1, os.kill, (before[0], signal.SIGKILL))
    killer.start()
    blocks = list(pool.encode_stream(rows, window=100))
    killer.join()
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-5)
    # Whether it died busy or idle, the next work finds a living process in its place.
    np.testing.assert_allclose(pool.encode(rows[:400]), expected[:400], atol=1e-5)


@pytest.mark.slow
def test_a_worker_killed_while_idle_is_replaced(pool: ProcessPool, model: EmbeddingModel) -> None:
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    rows = texts(50)
    np.testing.assert_allclose(pool.encode(rows), model.encode(rows), atol=1e-5)


@pytest.mark.slow
def test_a_worker_killed_while_idle_is_started_again_without_work(pool: ProcessPool) -> None:
    before = pool.pids
    assert all(pool.running)
    os.kill(before[0], signal.SIGKILL)
    pause = threading.Event()
    for _ in range(2_000):
        if pool.pids != before and all(pool.running):
            break
        pause.wait(0.01)
    assert all(pool.running)
    assert pool.pids[0] != before[0]
    assert pool.pids[1:] == before[1:]


@pytest.mark.slow
def test_a_worker_killed_while_it_is_started_again_is_replaced_too(
    pool: ProcessPool, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once: with the death before it, a task has seen two of the three that it survives.
    start, left = subprocess.Popen, ["once"]

    def killed_first(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = start(*arguments, **options)
        if left and left.pop():
            os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(subprocess, "Popen", killed_first)
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    rows = texts(80)
    np.testing.assert_allclose(pool.encode(rows), model.encode(rows), atol=1e-5)
    assert not left


class FullMemory:
    """The pipe from a process, at whose end there is no memory left for a long answer, once."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe, self.failed = pipe, False

    def read(self, size: int) -> bytes:
        if size > 1_000 and not self.failed:
            self.failed = True
            raise MemoryError(f"no room for {size} bytes")
        return self.pipe.read(size)

    def close(self) -> None:
        self.pipe.close()


@pytest.mark.slow
def test_an_answer_that_is_read_in_part_is_not_taken_for_the_next(
    model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen
    pipes: list[FullMemory] = []

    def with_full_memory(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = start(*arguments, **options)
        assert process.stdout is not None
        if not pipes:  # the process started in its place has memory
            pipes.append(FullMemory(process.stdout))
            process.stdout = pipes[0]  # type: ignore[assignment]
        return process

    monkeypatch.setattr(subprocess, "Popen", with_full_memory)
    with ProcessPool(model, processes=1) as pool:
        with pytest.raises(MemoryError, match="no room for"):
            pool.encode([f"first {i}" for i in range(10)])
        rows = [f"second {i}" for i in range(40)]
        np.testing.assert_allclose(pool.encode(rows), model.encode(rows), atol=1e-5)
    assert [pipe.failed for pipe in pipes] == [True]


@pytest.mark.slow
def test_an_exception_is_raised_in_the_caller_and_the_pool_lives_on(
    tiny_model: Callable[[str], Path],
) -> None:
    with core.load(tiny_model("bert-mean"), backend="onnx") as loaded:
        # More than the model has positions for, as the drop-in may set it.
        loaded.restore({"max_seq_length": 5_000})
        with ProcessPool(loaded, processes=1) as pool:
            with pytest.raises(core.OptionError, match="position 1 has 5000 tokens") as caught:
                pool.encode(["short", "long " * 4_000])
            assert any("inputs 0 to 1" in note for note in caught.value.__notes__)
            np.testing.assert_allclose(pool.encode(["on"]), loaded.encode(["on"]), atol=1e-5)


def test_prompts_and_truncation_are_the_model_s_at_the_time_of_the_call(
    pool: ProcessPool, tiny_model: Callable[[str], Path]
) -> None:
    model, rows = pool.model, texts(20)
    try:
        model.prompts["later"] = "a prompt made later: "
        model.truncate_dim = 8
        for options in ({}, {"prompt_name": "later"}):
            assert_floats_equal(pool.encode(rows, **options), model.encode(rows, **options))
        packed, expected = (one.encode(rows, precision="ubinary") for one in (pool, model))
        assert_bits_equal(packed, expected, model.encode(rows))
        model.default_prompt_name = "later"
        np.testing.assert_allclose(pool.encode(rows), model.encode(rows), atol=1e-5)
        tensors = pool.encode(rows[:2], output_value="token_embeddings", convert_to_tensor=True)
        assert [tensor.shape[1] for tensor in tensors] == [32, 32]
    finally:
        model.prompts.pop("later")
        model.truncate_dim = model.default_prompt_name = None


@pytest.mark.slow
def test_the_current_directory_is_not_imported_from(
    model: EmbeddingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    with ProcessPool(model, processes=1) as pool:
        assert pool.encode("text").shape == (32,)


def test_a_backend_of_this_process_alone_is_refused(tmp_path: Path) -> None:
    class Here:
        SOURCE = "name"

        @core.hookimpl
        def load(self, source: core.Checkpoint) -> EmbeddingModel:
            return EmbeddingModel(source, object(), dimension=2)

        @core.hookimpl
        def encode(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 2), dtype=np.float32)

    core.register_backend("here", Here())
    try:
        with pytest.raises(OptionError, match="registered in code"):
            ProcessPool(core.load("anything", backend="here"), processes=1)
    finally:
        registry.unregister(BACKEND_GROUP, "here")


def test_strings_of_another_class_are_plain_ones_in_the_workers(
    pool: ProcessPool, model: EmbeddingModel
) -> None:
    class Text(str):
        __slots__ = ()

    rows = [Text("one"), np.str_("two")]
    np.testing.assert_allclose(pool.encode(rows), model.encode(["one", "two"]), atol=1e-5)


def test_what_a_source_gave_before_it_failed_is_yielded(pool: ProcessPool) -> None:
    def source() -> Iterator[str]:
        yield from texts(25)
        raise KeyError("the source's own")

    blocks = pool.encode_stream(source(), window=10)
    assert [len(next(blocks)) for _ in range(2)] == [10, 10]
    with pytest.raises(KeyError, match="the source's own"):
        next(blocks)


def test_a_bad_input_is_named_by_its_place_in_the_stream(pool: ProcessPool) -> None:
    def source() -> Iterator[str]:
        yield from texts(45)
        yield "broken \ud83d"

    with pytest.raises(OptionError, match="Input 45 has the lone surrogate"):
        list(pool.encode_stream(source(), window=10))
    with pytest.raises(OptionError, match="Input 1 is int"):
        pool.encode(["fine", 3])  # type: ignore[list-item]


@pytest.mark.slow
def test_a_model_that_no_longer_loads_raises_what_loading_raised(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_model("bert-mean"), folder)
    with core.load(folder, backend="torch", device="cpu") as loaded:
        shutil.rmtree(folder)
        with pytest.raises(core.ModelNotFound, match="model"):
            ProcessPool(loaded, processes=1)


@pytest.mark.slow
def test_closed_pools_say_so(model: EmbeddingModel) -> None:
    pool = ProcessPool(model, processes=1)
    pool.close()
    pool.close()
    with pytest.raises(OptionError, match="closed"):
        pool.encode(["text"])


@pytest.mark.slow
def test_a_stream_of_a_pool_that_was_closed_ends(model: EmbeddingModel) -> None:
    pool = ProcessPool(model, processes=1)
    stream = pool.encode_stream(texts(100), window=1)
    ended: list[BaseException] = []
    next(stream)
    pool.encode("after what the stream has read ahead")
    pool.close()

    def read_on() -> None:
        try:
            for _ in stream:
                pass
        except (OptionError, PluginError) as error:
            ended.append(error)

    thread = threading.Thread(target=read_on, daemon=True)
    thread.start()
    thread.join(20)
    assert "closed" in str(ended)


FORKING = """
import os, signal, sys
import core

with core.load(sys.argv[1], backend="onnx") as model, core.ProcessPool(model, 1) as pool:
    begun = pool.encode_stream(["text"] * 9, window=1)
    next(begun)
    sys.stdout.flush()
    if not (child := os.fork()):
        signal.alarm(20)
        for call in (
            lambda: pool.encode("text"),
            lambda: next(pool.encode_stream(["text"])),
            lambda: next(begun),
        ):
            try:
                call()
            except core.OptionError as error:
                print(error, flush=True)
        sys.exit()  # which leaves the pool's block
    assert os.waitpid(child, 0)[1] == 0
    assert pool.running == [True]
    print(pool.encode("text").shape)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_pool_in_a_forked_process_says_so_and_stays_whole(
    tiny_model: Callable[[str], Path],
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, str(tiny_model("bert-mean"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Make a pool in each forked process") == 3
    assert done.stdout.endswith("(32,)\n")


@pytest.mark.slow
def test_closing_ends_the_work_of_another_thread(model: EmbeddingModel) -> None:
    pool = ProcessPool(model, processes=1)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in pool.encode_stream((f"text {i}" for i in range(10_000_000)), window=500):
                started.set()
        except (PluginError, OptionError) as error:
            errors.append(error)

    started = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(60)
    pool.close()
    thread.join(60)
    assert not thread.is_alive()
    assert errors


@pytest.mark.parametrize(("name", "value"), [("processes", 0), ("threads", -1), ("processes", "2")])
def test_counts_are_checked(model: EmbeddingModel, name: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"{name} must be (1 or more|a positive integer)"):
        ProcessPool(model, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="threads must be 4,096 or less, not 4097"):
        ProcessPool(model, 1, threads=4_097)


class _LongWork:
    """Unpickles for longer than any test waits."""

    def __reduce__(self) -> Any:
        return time.sleep, (600,)


#: A parent that is killed; with "shared", a child of its own keeps the worker's input open.
PARENT = """
import os, subprocess, sys, time
worker = subprocess.Popen(
    [sys.executable, "-m", "core.distributed.worker", str(os.getpid())],
    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
)
worker.stdin.write(sys.stdin.buffer.read())
worker.stdin.flush()
if sys.argv[1] == "shared" and not os.fork():
    os.closerange(1, 3)
    time.sleep(60)
    os._exit(0)
print(worker.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
@pytest.mark.parametrize("pipe", ["own", "shared"])
def test_a_worker_whose_parent_was_killed_ends_in_the_middle_of_its_work(pipe: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, pipe],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert parent.stdin is not None
    assert parent.stdout is not None
    send(parent.stdin, pickle.dumps(_LongWork()))
    parent.stdin.close()
    with parent.stdout:
        worker = int(parent.stdout.readline())
    assert is_running(worker)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while is_running(worker):
        assert time.monotonic() < deadline, "the worker works on"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return state != "" and not state.startswith("Z")
