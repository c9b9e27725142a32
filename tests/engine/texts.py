"""Real and awkward texts for the engine's tests; the same in every run."""

from __future__ import annotations

import random
from functools import cache

#: What tokenizers trip over: scripts, combining sequences, white space, special tokens.
AWKWARD = (
    "机器学习模型把文本变成向量，然后比较它们的距离。",
    "テキストをベクトルに変換する 한국어 문장도 있습니다 ",
    "😀👩‍👩‍👧‍👦🏳️‍🌈👍🏽 ",
    "e\u0301a\u0308\u0323 o\u0302\u0301 \u0301x q\u0307\u0323 ",
    " \u0308 \u200d \u0600 \u0600a \u0d4e b\u0600 c ",
    "   \t\t\n\n   ",
    " " * 300,
    "\u00a0\u2003\u3000 \u200b\ufeff\u00ad ",
    "antidisestablishmentarianism" * 40,
    "1234567890" * 30 + " 12 345 6.7 ",
    "[CLS] [SEP] [MASK] [PAD]x <s> </s> <pad> <mask>y ",
    "don't it's we'll I'M YOU'RE ",
    "``quoted'' \u201cquotes\u201d \u2026 !!!\n\n?? --- ",
    "ΟΔΟΣ ΟΔΟΣ, Straße İstanbul ǅ ﬁ ſ ",
    "Съешь же ещё этих мягких французских булок ",
    "اللغة العربية עברית ไทย हिन्दी ",
    "a b c d e f g h i j k l m n o p ",
    "\x00\x01\x7f\ufffd\U000e0001 ",
    "▁▁ ▁a a▁ ",
)


@cache
def english() -> tuple[str, ...]:
    """Paragraphs of the Python language reference, as the standard library ships it."""
    from pydoc_data.topics import topics

    paragraphs = (" ".join(p.split()) for text in topics.values() for p in text.split("\n\n"))
    return tuple(p for p in paragraphs if len(p) > 40)


def long_texts(count: int, seed: int = 7) -> list[str]:
    """Texts of 500 to 2,500 characters: English, awkward pieces, and mixtures of both."""
    choose = random.Random(seed)
    paragraphs = english()
    texts = []
    for number in range(count):
        length = choose.randint(500, 2_500)
        share = (0.0, 0.1, 0.5, 1.0)[number % 4]
        parts: list[str] = []
        while sum(map(len, parts)) < length:
            if choose.random() < share:
                parts.append(choose.choice(AWKWARD))
            else:
                words = choose.choice(paragraphs).split(" ")
                start = choose.randrange(len(words))
                parts.append(" ".join(words[start : start + 20]))
            parts.append(choose.choice(("", " ", " ", " ", "\n", "  ", "\t")))
        texts.append("".join(parts)[:length])
    # Whole texts of one awkward kind, and without any white space.
    for number, piece in enumerate(AWKWARD):
        texts[number] = piece * (2_000 // len(piece) + 1)
        texts[number + len(AWKWARD)] = "".join(texts[number].split()) or "x"
    return texts
