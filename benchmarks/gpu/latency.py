"""Time for one text by its length: what a query waits for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice

from benchmarks.gpu.models import model
from benchmarks.gpu.plan import Setting
from benchmarks.gpu.section import NotHereError, Row, in_words
from benchmarks.gpu.systems import (
    Encode,
    core_system,
    plain_system,
    sentence_transformers_system,
)
from benchmarks.gpu.texts import Vocabulary
from core.tuning.measure import Budget, interleaved

_TOKENS = (8, 32, 128)
_SYSTEMS = (
    core_system("core auto", dtype="auto"),
    core_system("core float32", dtype="float32"),
    plain_system("transformers float16", "float16", batch_size=1, ordered=False),
    sentence_transformers_system("sentence-transformers float16", "float16", batch_size=1),
)
#: Calls of one system in a row.
_BLOCK = 20


def rows(setting: Setting) -> Iterator[Row]:
    """A row for each shape, length and system: milliseconds of single calls, in turns."""
    plan = setting.plan
    vocabulary = Vocabulary(plan.vocabulary)
    lengths = [tokens for tokens in _TOKENS if tokens <= plan.positions]
    left = len(plan.shapes) * len(lengths)
    for name, shape in plan.shapes.items():
        folder = model(setting, "bert", shape)
        opened: dict[str, Encode] = {}
        for system in _SYSTEMS:
            try:
                opened[system.name] = system.open(folder, setting.device)
            except NotHereError as error:
                yield {"shape": name, "system": system.name, "absent": str(error)}
            except Exception as error:
                yield {"shape": name, "system": system.name, "error": in_words(error)}
        for tokens in lengths:
            texts = vocabulary.of_tokens([tokens] * 64)
            share, left = Budget(setting.budget.left / left), left - 1
            waits: dict[str, list[float]] = {key: [] for key in opened}
            block = min(_BLOCK, plan.calls)
            acts = {
                key: partial(_calls, encode, texts, block, waits[key])
                for key, encode in opened.items()
            }
            interleaved(acts, rounds=max(plan.calls // block, 1), least=1, budget=share)
            for key, found in waits.items():
                counted = sorted(found[block:])  # the first block warmed up
                yield {
                    "shape": name,
                    "tokens": tokens,
                    "system": key,
                    "calls": len(counted),
                    "p50_ms": 1e3 * statistics.median(counted),
                    "p99_ms": 1e3 * counted[min(int(0.99 * len(counted)), len(counted) - 1)],
                }


def _calls(encode: Encode, texts: list[str], count: int, waits: list[float], number: int) -> None:
    for text in islice(cycle(texts), number * count, (number + 1) * count):
        start = time.perf_counter()
        encode([text])
        waits.append(time.perf_counter() - start)
