"""The share of its time in which the GPU computes, while core embeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

from benchmarks.gpu.device import profiled, utilization
from benchmarks.gpu.models import model
from benchmarks.gpu.plan import Setting
from benchmarks.gpu.section import Row, in_words
from benchmarks.gpu.systems import load_core
from benchmarks.gpu.texts import Vocabulary

_DTYPES = ("auto", "float32")


def rows(setting: Setting) -> Iterator[Row]:
    """A row for each shape and dtype: by the profiler's record of kernels, and by the driver's."""
    plan = setting.plan
    texts = Vocabulary(plan.vocabulary).texts(plan.texts // 2)
    seconds = 2 * plan.round_seconds
    for name, shape in plan.shapes.items():
        folder = model(setting, "bert", shape)
        for dtype in _DTYPES:
            row: Row = {"shape": name, "asked": dtype}
            try:
                with load_core(folder, setting.device, dtype=dtype) as opened:
                    some = texts if dtype == "auto" else texts[: max(len(texts) // 4, 16)]
                    # The profiler records this thread's operators: on a CPU, encode has others.
                    act = partial(opened.encode, some, workers=1)
                    act()
                    samples = utilization(setting.device, act, seconds)
                    row |= {
                        "dtype": opened.dtype,
                        "texts": len(some),
                        "driver_busy": statistics.median(samples) / 100 if samples else None,
                        "samples": len(samples),
                    }
                    share, kernels, took = profiled(setting.device, act)
                    row |= {"busy": share, "kernels": kernels, "seconds": took}
            except Exception as error:
                row["error"] = in_words(error)
            yield row
