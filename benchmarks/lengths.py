"""Time for one text by its length, 1 to 8,192 tokens, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import texts
from benchmarks.checkpoints import bert
from benchmarks.loaded import BACKENDS, loaded
from benchmarks.progress import say
from core.tuning.measure import Budget, interleaved

LONGEST = 8_192
_SIZES = tuple(2**power for power in range(14))
# Short texts are over in milliseconds: a round has several of them, so that it can be trusted.
_TOKENS_A_ROUND = 512


def model() -> Path:
    """A model of MiniLM's size without its limit; and without [CLS] and [SEP], for one token."""
    return bert(6, 384, LONGEST, BACKENDS, special_tokens=False)


def lengths(folder: Path, budget: Budget, *, most: int, least: int) -> dict[str, Any]:
    """Seconds for one text of each length.

    The longest texts take most of the time, so they have `least` rounds and the others the rest:
    attention's share grows with the square of the length.
    """
    text = " ".join(texts.words()[: 2 * LONGEST])
    failures: dict[str, str] = {}
    rows = []
    with loaded(folder, failures) as models:
        for tokens in _SIZES:
            say(f"length: {tokens:,} tokens, {budget.left:.0f} seconds left")
            acts: dict[str, Callable[[int], Any]] = {}
            for backend, model in models.items():
                model.max_seq_length = tokens
                found = len(model.tokenize(text)["input_ids"][0])
                assert found == tokens, f"{found} tokens instead of {tokens}"
                acts[backend] = partial(_repeat, partial(model.encode, text), _calls(tokens))
            # First use of a shape: a fixed cost, for long texts below notice.
            warm_up = 1 if tokens < 2_048 else 0
            half = budget.part(1 / 2)
            for backend, timing in interleaved(
                acts, rounds=most, least=least, warm_up=warm_up, budget=half
            ).items():
                rows.append(
                    {
                        "backend": backend,
                        "tokens": tokens,
                        "seconds": timing.median / _calls(tokens),
                        "rounds": len(timing.seconds),
                    }
                )
    return {"rows": rows, "failures": failures}


def _calls(tokens: int) -> int:
    return max(1, min(20, _TOKENS_A_ROUND // tokens))


def _repeat(act: Callable[[], Any], calls: int, round_number: int) -> None:
    for _ in range(calls):
        act()
