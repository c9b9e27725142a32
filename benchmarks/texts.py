"""What is embedded: real English, the language reference that Python's library ships.

Slices of one long text, no two of them alike: a system that computes duplicates once gains nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from functools import cache

SEED = 20_261_123
#: Characters of the shortest and of the longest text of each mix. The first three have 39, 620 and
#: 9,589 on average: the lengths of the benchmark in the documentation of sentence-transformers.
LENGTHS = {
    "short": (15, 63),
    "middle": (240, 1_000),
    "long": (7_178, 12_000),
    "mixed": (20, 4_000),
}
COUNTS = {"short": 500, "middle": 80, "long": 24, "mixed": 100}


@cache
def words() -> tuple[str, ...]:
    """Every word of the reference, in order; about 100,000."""
    from pydoc_data.topics import topics

    return tuple(word for name in sorted(topics) for word in topics[name].split())


@cache
def _reference() -> tuple[str, tuple[int, ...]]:
    """The words on one line, and where each begins."""
    starts, place = [], 0
    for word in words():
        starts.append(place)
        place += len(word) + 1
    return " ".join(words()), tuple(starts)


def of_characters(lengths: Sequence[int], seed: int = SEED) -> list[str]:
    """One text of exactly each length, from places spread over the reference, all different."""
    reference, starts = _reference()
    step = len(starts) // max(len(lengths), 1)
    first = random.Random(seed).randrange(len(starts))
    texts: dict[str, None] = {}
    for number, length in enumerate(lengths):
        place = first + number * step
        while len(text := _cut(reference, starts[place % len(starts)], length)) < length or (
            text in texts  # the reference repeats itself here and there
        ):
            place += 1
        texts[text] = None
    return list(texts)


def _cut(reference: str, start: int, length: int) -> str:
    text = reference[start : start + length]
    return f"{text[:-1]}." if text.endswith(" ") else text


def workloads(scale: float = 1.0) -> dict[str, list[str]]:
    """The four mixes; `scale` multiplies how many texts each has."""
    return {name: mix(name, max(round(count * scale), 8)) for name, count in COUNTS.items()}


def mix(name: str, count: int) -> list[str]:
    """`count` texts of a mix, all different.

    Their lengths are spread evenly over the range, so that few texts have the same mean as many;
    those of "mixed" over its logarithm: as many between 20 and 40 characters as between 2,000 and
    4,000.
    """
    shortest, longest = LENGTHS[name]
    places = [(n + 0.5) / count for n in range(count)]
    if name == "mixed":
        lengths = [round(shortest * math.exp(math.log(longest / shortest) * p)) for p in places]
    else:
        lengths = [round(shortest + (longest - shortest) * p) for p in places]
    seed = list(LENGTHS).index(name) + 1
    random.Random(SEED + seed).shuffle(lengths)
    return of_characters(lengths, seed)


def part(rows: Sequence[str], share: float, least: int = 4) -> list[int]:
    """Indices, in order, of a share of the texts with the mix of lengths that all of them have."""
    count = min(max(round(len(rows) * share), least), len(rows))
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    step = len(rows) / count
    return sorted(by_length[int((k + 0.5) * step)] for k in range(count))


def stream(count: int) -> Iterator[str]:
    """`count` short texts: 8 to 17 words sliding over the reference, numbered to be different."""
    source = words()
    for number in range(count):
        first = number % (len(source) - 17)
        yield f"{' '.join(source[first : first + 8 + number % 10])} ({number})"
