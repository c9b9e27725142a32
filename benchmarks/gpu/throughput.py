"""Texts per second of lengths as MS MARCO's passages have them, of core and of others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.gpu.device import allocated, peak_over
from benchmarks.gpu.models import model
from benchmarks.gpu.plan import Plan, Setting
from benchmarks.gpu.section import NotHereError, Row, in_words
from benchmarks.gpu.systems import DEFAULT, FLASH, HALF, SYSTEMS, Encode
from benchmarks.gpu.texts import Vocabulary
from core.tuning.measure import Budget, Timing, interleaved

#: Texts of a first call, which is for warming up.
_FIRST = 256
#: Calls that tell how many texts a round gets, at most, and by how much more of them another call
#: is worth it: many texts go faster than few.
_CALLS, _GROWTH = 5, 1.3
#: Systems that others are compared with, by the round: name of the ratio to name of the system.
RATIOS = {
    "over_default": DEFAULT,
    "over_float16": HALF,
    "over_flash": FLASH,
    "over_sorted": "transformers float16 sorted",
}


def rows(setting: Setting) -> Iterator[Row]:
    """A row for each system and shape."""
    plan = setting.plan
    texts = Vocabulary(plan.vocabulary).texts(plan.texts)
    for place, (name, shape) in enumerate(plan.shapes.items()):
        share = Budget(setting.budget.left / (len(plan.shapes) - place))
        folder = model(setting, "bert", shape)
        opened: dict[str, tuple[Encode, dict[str, Any]]] = {}
        for system in SYSTEMS:
            try:
                before = allocated(setting.device)
                encode = system.open(folder, setting.device)
                weights = allocated(setting.device) - before
                found = _sized(encode, texts, plan, setting.device)
                found["weights_mb"] = _mb(weights)
                opened[system.name] = encode, found
            except NotHereError as error:
                yield {"shape": name, "system": system.name, "absent": str(error)}
            except Exception as error:
                yield {"shape": name, "system": system.name, "error": in_words(error)}
        acts = {key: partial(_round, one, texts[: n["texts"]]) for key, (one, n) in opened.items()}
        timings = _timings(acts, plan, share)
        speeds = {
            key: Timing(tuple(s / opened[key][1]["texts"] for s in timing.seconds))
            for key, timing in timings.items()
        }
        tokens = _mean_tokens(folder, texts[:10_000], plan.positions)
        for key, timing in speeds.items():
            row = {"shape": name, "system": key, **opened[key][1], "mean_tokens": tokens}
            row |= {"texts_per_second": 1 / timing.median, "spread": timing.spread}
            row |= {"rounds": len(timing.seconds), "tokens_per_second": tokens / timing.median}
            for ratio, other in RATIOS.items():
                if other in speeds:
                    row[ratio] = timing.speed_over(speeds[other]).median
            yield row
        opened.clear()
        acts.clear()


def _sized(encode: Encode, texts: list[str], plan: Plan, device: str) -> dict[str, Any]:
    """How many texts a round has, so that it takes `plan.round_seconds`; and the memory of one."""
    count = min(_FIRST, len(texts))
    encode(texts[:count])
    for _ in range(_CALLS):
        start = time.perf_counter()
        peak = peak_over(device, partial(encode, texts[:count]))
        rate = count / (time.perf_counter() - start)
        before = count
        count = max(min(int(rate * plan.round_seconds), len(texts)), min(_FIRST, len(texts)))
        if count < _GROWTH * before:
            break
    return {"texts": count, "peak_mb": _mb(peak)}


def _timings(
    acts: Mapping[str, Callable[[int], Any]], plan: Plan, budget: Budget
) -> dict[str, Timing]:
    return interleaved(acts, rounds=plan.rounds, least=1, warm_up=0, budget=budget)


def _round(encode: Encode, texts: list[str], number: int) -> None:
    encode(texts)


def _mean_tokens(folder: Path, texts: list[str], longest: int) -> float:
    """What the model reads of each text, special tokens included."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return sum(min(len(one.ids), longest) for one in tokenizer.encode_batch(texts)) / len(texts)


def _mb(size: int | None) -> float | None:
    return None if size is None else size / 1e6
