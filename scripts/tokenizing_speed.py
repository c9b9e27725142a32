"""How long tokenizing takes: every text anew, by words for the first time, and by words again.

    python scripts/tokenizing_speed.py MODEL TEXTS

TEXTS is a file with a text in each line. The three take turns, and the medians are printed, with
the share of words that a text has not had in common with those before it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import core
from core.tokenizer.tokenizer import Tokenizer
from core.tuning.measure import interleaved

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("texts", type=Path)
    given = parser.parse_args()
    logging.disable()
    texts = given.texts.read_text(encoding="utf-8").splitlines()
    with core.load(given.model, backend="torch", device="cpu") as model:
        anew, again = anew_each_time(copy(model.tokenizer)), copy(model.tokenizer)
        expected, found = anew.encode(texts), again.encode(texts)
        if not np.array_equal(found.ids, expected.ids):
            raise SystemExit("The ids differ.")
        acts: dict[str, Callable[[int], object]] = {
            "every text anew": lambda number: anew.encode(texts),
            "by words, none known": lambda number: copy(model.tokenizer).encode(texts),
            "by words, all known": lambda number: again.encode(texts),
        }
        timings = interleaved(acts, rounds=ROUNDS, warm_up=1)
    tokens = len(found.ids) / len(texts)
    print(f"{len(texts):,} texts of {tokens:.1f} tokens, {new_words(texts):.2f} new words a text")
    for name, timing in timings.items():
        print(f"{name}: {1e6 * timing.median / len(texts):.1f} microseconds a text")


def copy(tokenizer: Tokenizer) -> Tokenizer:
    """One that knows no words yet."""
    return tokenizer.with_max_length(tokenizer.max_length)


def anew_each_time(tokenizer: Tokenizer) -> Tokenizer:
    """One that looks no words up."""
    vars(tokenizer)["_words"] = None
    return tokenizer


def new_words(texts: Sequence[str]) -> float:
    """Words of a text that were in none before it, on average."""
    return len({word for text in texts for word in text.split(" ")}) / len(texts)


if __name__ == "__main__":
    main()
