"""Processes forked from one that holds a model, as prefork servers make them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import Exports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
]

#: Loads, forks workers one after the other, the last from a worker; encodes, and forks them again.
#: What hangs is ended by its alarm, so that only a failing test takes that long.
SERVER = """
import gc, os, signal, sys
import numpy as np
import core

folder, backend = sys.argv[1:]
texts = ["text %d about many things " % i * (1 + i % 9) for i in range(100)]
if backend == "torch":
    import transformers.models.bert.modeling_bert
gc.freeze()  # or each worker, when it ends, searches all that was imported for garbage
model = core.load(folder, backend=backend, device="cpu")
before = "loaded"

def worker(work):
    sys.stdout.flush()
    if child := os.fork():
        print(work.__name__, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        return
    signal.alarm(120)
    work()
    sys.exit()

def nothing(): ...

def encode():
    global model
    if backend != "onnx" and before == "encoded":
        for refused in (texts[0], texts):
            try:
                model.encode(refused)
            except core.CoreError as error:
                assert "Fork before the first encode" in str(error), error
            else:
                raise AssertionError("it encoded")
        return
    one, many = model.encode(texts[0]), model.encode(texts)
    with core.load(folder, backend=backend, device="cpu") as own:
        assert np.allclose(own.encode(texts), many, atol=1e-5)
    assert np.allclose(one, many[0], atol=1e-5)

def close():
    model.close()

def drop():
    global model
    model = None
    gc.collect()

def fork_again():
    worker(encode)

for before in ("loaded", "encoded"):
    print(before, flush=True)
    for work in (nothing, encode, close, drop, fork_again):
        worker(work)
    model.encode(texts[0])
    assert model.encode(texts).shape == (100, model.dimension)
"""


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_workers_forked_from_a_process_with_a_model_encode_and_end(
    backend: str, exports: Exports
) -> None:
    folder = exports("bert-mean", "onnx", "openvino")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SERVER, str(folder), backend],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    works = ("nothing", "encode", "close", "drop", "encode", "fork_again")
    ended = [f"{work} 0" for work in works]
    assert done.stdout.split("\n")[:-1] == ["loaded", *ended, "encoded", *ended], done.stderr
