"""Many threads that call `encode` of one model at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.agreement import compare
from benchmarks.gpu.models import model
from benchmarks.gpu.plan import Setting
from benchmarks.gpu.section import Row, in_words
from benchmarks.gpu.systems import load_core
from benchmarks.gpu.texts import Vocabulary

_DTYPES = ("auto", "float32")
_CALLS = 4


def rows(setting: Setting) -> Iterator[Row]:
    """A row for each shape and dtype: every thread has texts of its own, and gets their rows."""
    plan = setting.plan
    count = max(min(plan.texts // 8, 16_384), plan.threads * _CALLS)
    texts = Vocabulary(plan.vocabulary).texts(count)
    for name, shape in plan.shapes.items():
        folder = model(setting, "bert", shape)
        for dtype in _DTYPES:
            row: Row = {"shape": name, "asked": dtype, "threads": plan.threads, "texts": count}
            try:
                with load_core(folder, setting.device, dtype=dtype) as opened:
                    expected = opened.encode(texts)
                    start = time.perf_counter()
                    opened.encode(texts)
                    alone = time.perf_counter() - start
                    found, together = _at_once(opened, texts, plan.threads)
                    row |= {"dtype": opened.dtype} | compare(found, expected, opened.dtype)
                    row |= {
                        "texts_per_second_alone": count / alone,
                        "texts_per_second": count / together,
                    }
            except Exception as error:
                row |= {"passed": False, "error": in_words(error)}
            yield row


def _at_once(opened: Any, texts: list[str], threads: int) -> tuple[NDArray[np.float32], float]:
    """Every thread's calls with its own part, put together in order; and the seconds they took."""
    barrier = Barrier(threads)
    parts = [texts[n :: threads * _CALLS] for n in range(threads * _CALLS)]

    def work(thread: int) -> list[NDArray[np.float32]]:
        barrier.wait()
        return [opened.encode(part) for part in parts[thread::threads]]

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        found = list(pool.map(work, range(threads)))
        took = time.perf_counter() - start
    result = np.empty((len(texts), found[0][0].shape[1]), dtype=np.float32)
    for thread, blocks in enumerate(found):
        for place, block in enumerate(blocks):
            result[thread + place * threads :: threads * _CALLS] = block
    return result, took
