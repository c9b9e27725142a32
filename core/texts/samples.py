"""Texts that calibrate where none are given."""

from __future__ import annotations

import random

from core.errors import OptionError

#: The longest text in words (models cut them to their own length), and the choice.
_MOST_WORDS = 300
_DEFAULT_SEED = 20

#: What the manual has little of, and what makes the largest activations.
_ODD_TEXTS = (
    "a",
    "I",
    "hello",
    "yes!",
    "?",
    "...",
    "- - - -",
    "7",
    "2026-11-27 04:15",
    "x",
    "OK",
    "No.",
    "? ! ?",
    ". . . . .",
    '"in quotes"',
    "1 000 000",
    "3.14159 2.71828 1.41421",
    "one two three",
    "how do I change my password",
    "weather in Lisbon tomorrow",
    "cheap flights",
    "who wrote Faust?",
    "THIS TITLE IS IN CAPITALS",
    "again again again again again again again again",
    "zzzzzzzzzzzzzzz",
    "A man is playing a guitar on a bench in the park.",
    "Nobody saw the two dogs in the snow.",
    "The girl who is wearing a red coat is not looking at the camera.",
    "Re: your order no. 4711",
    "The drag of a slender body at supersonic speed was measured for three angles of attack.",
    "Patients who received the vaccine were followed for twelve months.",
    "Terms and conditions",
    "https://www.example.org/path/to/page?id=42&lang=en#top",
    "name@example.org",
    "C:\\temp\\new.txt",
    "for i in range(10):\n    print(i ** 2)",
    "SELECT name, price FROM items WHERE price > 10;",
    '{"id": 3, "tags": ["a", "b"], "ok": true}',
    '<p class="note">Read me first</p>',
    "Traceback (most recent call last): KeyError: 'model'",
    "E = m * c ** 2",
    "H2O, CO2 and NaCl",
    "Das Wetter ist heute schön, und morgen wird es regnen.",
    "¿Dónde está la estación?",
    "Le train part à huit heures.",
    "Она читает книгу у окна.",
    "图书馆今天不开门。",
    "今日はいい天気ですね。",
    "صباح الخير",
    "🚀🎉 new release!!",
)


def default_texts(count: int) -> list[str]:
    """`count` English texts of 1 to 300 words, the same on every call.

    They are cut from the reference manual inside every Python (`pydoc_data`). Texts of the
    model's own use and language calibrate it better.

    Raises:
        OptionError: This Python comes without its manual.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise OptionError(
            "This Python comes without its manual, which serves as calibration text by default: "
            "give texts with calibration=[...], a .txt or a .jsonl file."
        ) from error
    words = " ".join(topics[name] for name in sorted(topics)).split()
    choose = random.Random(_DEFAULT_SEED)
    texts = []
    for _ in range(count):
        length = choose.randint(1, _MOST_WORDS)
        start = choose.randrange(len(words) - length)
        texts.append(" ".join(words[start : start + length]))
    return texts


def varied_texts(count: int) -> list[str]:
    """`count` texts as they are served: long and short ones, titles, queries, single words, other
    languages, code; the same on every call.

    Seven in ten are cut from the reference manual inside every Python, of 1 to 300 words, half of
    them short; the others are lines of this module.

    Raises:
        OptionError: This Python comes without its manual.
    """
    choose = random.Random(_DEFAULT_SEED)
    prose = default_texts(count)
    texts = []
    for number, text in enumerate(prose):
        words = text.split()
        if number % 10 in (2, 5, 8):
            texts.append(_ODD_TEXTS[number * 3 // 10 % len(_ODD_TEXTS)])
        elif number % 2:
            texts.append(" ".join(words[: choose.randint(1, 24)]))
        else:
            texts.append(text)
    return texts
