"""Texts and pairs that every kind of model is compared on."""

from __future__ import annotations

import random
from itertools import cycle, islice

from tests.tiny_models import CORPUS

_WORDS = " ".join(CORPUS[:6]).split()

#: Few and short, for results that are kept in the repository.
SHORT_TEXTS = [
    "What ranks documents?",
    "A retrieval system ranks documents by how close they are to the query, yes.",
    "She sells sea shells on the sea shore; no, the shells she sells are not sea shells!",
    "Zürich, naïve café: 123 эмбеддинг 模型.",
    "a",
    "",
]

SHORT_PAIRS = [
    *((SHORT_TEXTS[0], text) for text in SHORT_TEXTS[1:]),
    ("", SHORT_TEXTS[1]),
    (SHORT_TEXTS[2], SHORT_TEXTS[3]),
    ("the lazy dog " * 20, "the quick brown fox " * 15),
]


def some_words(count: int, seed: int) -> str:
    """`count` words of the corpus, in an order of their own for each seed."""
    generator = random.Random(seed)
    shuffled = generator.sample(_WORDS, len(_WORDS))
    return " ".join(islice(cycle(shuffled), count))


#: One token and up, to more than any model takes, and what breaks tokenizers.
TEXTS = [
    *SHORT_TEXTS,
    "   \n\t ",
    "🙂🚀👩‍👩‍👧‍👦 🇪🇺 ﬁne № ½",
    "机器学习模型把文本变成向量，然后比较它们。",
    "[MASK] [CLS] <s> </s> [unused0] [Q] text",
    *(some_words(count, count) for count in (1, 2, 3, 5, 9, 14, 22, 35, 50, 80, 120, 200, 300)),
    some_words(2_000, 0),
    "a",  # twice
]

QUERY = "What does a retrieval system rank?"

#: Every text as a document; long queries; two texts that together are too long, either the longer.
PAIRS = [
    *((QUERY, text) for text in TEXTS),
    *((text, SHORT_TEXTS[1]) for text in TEXTS[6:]),
    (some_words(600, 1), some_words(150, 2)),
    (some_words(150, 3), some_words(600, 4)),
    (some_words(500, 5), some_words(450, 6)),
]
