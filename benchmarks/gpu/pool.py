"""`core.ProcessPool(devices=...)`: a process for each GPU, and two on one."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.gpu.agreement import compare
from benchmarks.gpu.models import model
from benchmarks.gpu.plan import Setting
from benchmarks.gpu.section import Row, in_words
from benchmarks.gpu.systems import load_core
from benchmarks.gpu.texts import Vocabulary


def rows(setting: Setting) -> Iterator[Row]:
    """A row for each list of devices; the smallest shape, which needs most of tokenizing."""
    import core

    plan = setting.plan
    texts = Vocabulary(plan.vocabulary).texts(plan.texts)
    name, shape = next(iter(plan.shapes.items()))
    with load_core(model(setting, "bert", shape), setting.device, dtype="auto") as opened:
        expected = opened.encode(texts)
        start = time.perf_counter()
        opened.encode(texts)
        alone = time.perf_counter() - start
        for devices in _choices(setting):
            row: Row = {"shape": name, "devices": devices, "texts": len(texts)}
            try:
                start = time.perf_counter()
                with core.ProcessPool(opened, devices=devices) as pool:
                    pool.encode(texts[: 64 * len(devices)])
                    row["start_seconds"] = time.perf_counter() - start
                    start = time.perf_counter()
                    found = pool.encode(texts)
                    took = time.perf_counter() - start
                row |= compare(found, expected, opened.dtype)
                row |= {
                    "texts_per_second_alone": len(texts) / alone,
                    "texts_per_second": len(texts) / took,
                }
            except Exception as error:
                row |= {"passed": False, "error": in_words(error)}
            yield row


def _choices(setting: Setting) -> list[list[str]]:
    """Lists of devices: every GPU once, or one of them twice."""
    import torch

    if not setting.on_gpu:
        return [[setting.device]]
    every = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    return [every] if len(every) > 1 else [every, every * 2]
