"""Every architecture in every dtype, packed and padded, against float32 on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.agreement import alikeness, compare
from benchmarks.gpu.models import FAMILIES, Family, model
from benchmarks.gpu.plan import Plan, Setting
from benchmarks.gpu.section import Row, in_words
from benchmarks.gpu.systems import Plain, load_core
from benchmarks.gpu.texts import Vocabulary, lengths

_DTYPES = ("float32", "float16", "bfloat16", "auto")
#: Tokens of the texts that are also embedded one by one. Several times: a length that comes again
#: is computed by a recorded graph on a GPU.
_SINGLE = (3, 4, 5, 20, 40)
_REPEATS = 4


def rows(setting: Setting) -> Iterator[Row]:
    """A row for each way of computing a model.

    The reference is the transformer by itself, padded, in float32 on the CPU: nothing of core.
    A model of the user's is compared with core in float32, padded, on the CPU.
    """
    texts = checked_texts(setting.plan)
    for name, family in FAMILIES.items():
        folder = model(setting, name, setting.plan.checked)
        reference = Plain(folder, "cpu", "float32", batch_size=16, ordered=True)
        yield from _ways(setting, name, folder, texts, reference(texts), _packings(family))
    if setting.model is not None:
        with load_core(setting.model, "cpu", dtype="float32", packed=False) as opened:
            expected = opened.encode(texts)
        name = setting.model.resolve().name
        yield from _ways(setting, name, setting.model, texts, expected, (None, False))


def checked_texts(plan: Plan) -> list[str]:
    """Of all lengths: one word, MS MARCO's, as long as the model takes, longer; and two alike."""
    vocabulary, most = Vocabulary(plan.vocabulary), plan.positions
    wanted = [*_SINGLE, most // 2, most - 1, most, most + 1, 2 * most]
    wanted += list(np.minimum(lengths(max(plan.checked_texts - len(wanted), 4)), most))
    texts = vocabulary.of_tokens(wanted)
    return [*texts, texts[0]]


def _packings(family: Family) -> tuple[bool | None, ...]:
    return (True, False) if family.packs else (None,)


def _ways(
    setting: Setting,
    name: str,
    folder: Path,
    texts: list[str],
    expected: NDArray[np.float32],
    packings: tuple[bool | None, ...],
) -> Iterator[Row]:
    alike = alikeness(expected[:-1])
    for dtype in _DTYPES:
        for packed in packings:
            row: Row = {"model": name, "asked": dtype, "packed": packed, "alikeness": alike}
            try:
                row |= _one(setting, folder, texts, expected, dtype, packed)
            except Exception as error:
                row |= {"passed": False, "error": in_words(error)}
            yield row


def _one(
    setting: Setting,
    folder: Path,
    texts: list[str],
    expected: NDArray[np.float32],
    dtype: str,
    packed: bool | None,
) -> dict[str, Any]:
    """In one batch, in batches that hold some texts, and short texts by themselves: the worst
    counts."""
    with load_core(folder, setting.device, dtype=dtype, packed=packed) as opened:
        longest = setting.plan.positions
        found = [opened.encode(texts), opened.encode(texts, batch_tokens=longest)]
        single = found[0].copy()
        for _ in range(_REPEATS if setting.on_gpu else 1):
            for place in range(len(_SINGLE)):
                single[place] = opened.encode(texts[place])
        compared = [compare(one, expected, opened.dtype) for one in [*found, single]]
        ran = {
            "dtype": opened.dtype,
            "packed": opened.runtime.packed,
            "kernel": opened.runtime.attention,
            "device": opened.device,
        }
    worst = min(compared, key=lambda one: (one["passed"], one.get("min_cosine", -1.0)))
    if packed and not ran["packed"]:  # right all the same, and slower
        worst["note"] = "padded, although packed=True was asked for"
    return ran | worst
