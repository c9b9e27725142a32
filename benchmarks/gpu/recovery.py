"""Memory that runs out on purpose: all texts are embedded, and the budget is smaller afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.agreement import compare
from benchmarks.gpu.device import numbered, peak_over
from benchmarks.gpu.models import model
from benchmarks.gpu.plan import Setting
from benchmarks.gpu.section import NotHereError, Row, in_words
from benchmarks.gpu.systems import load_core
from benchmarks.gpu.texts import Vocabulary

#: Of the memory that a batch needs, how much there is.
_SHARE = 1 / 3
#: Few enough for one batch of all of them to stay below 2^31 activations.
_TEXTS = 8_192


def rows(setting: Setting) -> Iterator[Row]:
    """A row for the backend's own budget and for one that was chosen far too large."""
    if not setting.on_gpu:
        raise NotHereError("only the memory of a CUDA device can be limited for a process")
    plan = setting.plan
    texts = Vocabulary(plan.vocabulary).texts(min(plan.texts, _TEXTS))
    for name, shape in plan.shapes.items():
        folder = model(setting, "bert", shape)
        for case, chosen in (("own budget", None), ("100 times as large", 100)):
            row: Row = {"shape": name, "case": case}
            try:
                row |= _one(setting, folder, texts, chosen)
            except Exception as error:
                row |= {"passed": False, "error": in_words(error)}
            finally:
                _limit(setting.device, 1.0)
            yield row


def _one(setting: Setting, folder: Any, texts: list[str], factor: int | None) -> dict[str, Any]:
    import torch

    device = numbered(setting.device)
    with load_core(folder, setting.device, dtype="auto") as opened:
        before = opened.runtime.batch_tokens
        chosen = {} if factor is None else {"batch_tokens": factor * before}
        expected = opened.encode(texts)
        needed = peak_over(setting.device, lambda: opened.encode(texts, **chosen)) or 0
        torch.cuda.empty_cache()
        held = torch.cuda.memory_reserved(device)
        limit = held + _SHARE * needed
        _limit(setting.device, limit / torch.cuda.get_device_properties(device).total_memory)
        retries = torch.cuda.memory_stats(device).get("num_ooms", 0)
        start = time.perf_counter()
        found = opened.encode(texts, **chosen)
        took = time.perf_counter() - start
        again = opened.encode(texts, **chosen)
        ran_out = torch.cuda.memory_stats(device).get("num_ooms", 0) - retries
        after = opened.runtime.batch_tokens
        dtype = opened.dtype
    compared = [compare(one, expected, dtype) for one in (found, again)]
    row = min(compared, key=lambda one: (one["passed"], one.get("min_cosine", -1.0)))
    row |= {
        "dtype": dtype,
        "needed_mb": needed / 1e6,
        "limit_mb": limit / 1e6,
        "ran_out": ran_out,
        "seconds": took,
        "budget_before": before,
        "budget_after": after,
    }
    if not ran_out:
        return row | {"passed": False, "error": "memory did not run out: nothing was shown"}
    return row


def _limit(device: str, share: float) -> None:
    """What share of the device's memory this process may take."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(share, 1.0), numbered(device))
