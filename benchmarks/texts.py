"""What is embedded: real English, the language reference that Python's library ships.

Slices of one long text, so every text is different and nothing is gained by removing duplicates.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import cache

SEED = 20_261_123


@cache
def words() -> tuple[str, ...]:
    """Every word of the reference, in order; about 100,000."""
    from pydoc_data.topics import topics

    return tuple(word for name in sorted(topics) for word in topics[name].split())


def of_words(counts: list[int], seed: int = SEED) -> list[str]:
    """One text of each word count, from places spread over the reference."""
    source = words()
    step = len(source) // max(len(counts), 1)
    start = random.Random(seed).randrange(len(source))
    texts = []
    for number, count in enumerate(counts):
        first = (start + number * step) % (len(source) - count)
        texts.append(" ".join(source[first : first + count]))
    return texts


def of_characters(lengths: list[int], seed: int = SEED) -> list[str]:
    """One text of about each length, whole words."""
    texts = of_words([max(length // 4, 4) for length in lengths], seed)
    return [
        text[:length].rpartition(" ")[0] or text
        for text, length in zip(texts, lengths, strict=True)
    ]


def workloads(scale: float = 1.0) -> dict[str, list[str]]:
    """The four mixes; `scale` multiplies how many texts each has."""
    choose = random.Random(SEED)

    def count(full: int) -> int:
        return max(round(full * scale), 8)

    mixed = [round(20 * math.exp(choose.random() * math.log(200))) for _ in range(count(200))]
    return {
        "short": of_characters([choose.randint(50, 80) for _ in range(count(1_000))], 1),
        "middle": of_characters([choose.randint(560, 720) for _ in range(count(160))], 2),
        "long": of_characters([9_600] * count(48), 3),
        "mixed": of_characters(mixed, 4),
    }


def stream(count: int) -> Iterator[str]:
    """`count` short texts, all different: windows of 8 to 17 words sliding over the reference."""
    source = words()
    made = 0
    for length in range(8, 200):
        for first in range(len(source) - length):
            if made == count:
                return
            made += 1
            yield " ".join(source[first : first + length % 10 + 8]) + f" ({length})" * (length > 17)
