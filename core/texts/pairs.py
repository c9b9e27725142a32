"""What a reranker is given: pairs of texts, checked with their positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.errors import OptionError
from core.texts.inputs import check_texts, refuse_containers

_TAKES = "predict takes a pair of texts or a sequence of pairs"
_EXAMPLE = "[(query, document), ...]"


def is_one_pair(inputs: Any) -> bool:
    """Whether the input is a single pair: a list or tuple of strings, or a 1-D array of them."""
    if isinstance(inputs, list | tuple):
        return bool(inputs) and isinstance(inputs[0], str)
    shape = getattr(inputs, "shape", None)
    kind = getattr(getattr(inputs, "dtype", None), "kind", "")
    return isinstance(shape, tuple) and len(shape) == 1 and shape[0] > 0 and kind in ("U", "O", "T")


def _is_row(value: Any) -> bool:
    """Whether it is a row of an array, which is a pair of a sequence."""
    shape = getattr(value, "shape", None)
    return isinstance(shape, tuple) and len(shape) == 1


def check_pairs(pairs: Any, start: int = 0) -> list[tuple[str, str]]:
    """The pairs as tuples of two strings.

    Raises:
        OptionError: Not a sequence of pairs of strings; the message names the first position that
            is not one, counted from `start`.
    """
    if isinstance(pairs, str):
        raise OptionError(
            f"{_TAKES}, not one string: a reranker scores a query with a document. Pass {_EXAMPLE}."
        )
    shape = getattr(pairs, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and not hasattr(pairs, "columns"):
        rows = pairs.tolist()
    else:
        if not isinstance(pairs, list | tuple):
            refuse_containers(pairs, _TAKES, pairs=True)
        try:
            rows = list(pairs)
        except TypeError as error:
            raise OptionError(f"{_TAKES}, not {type(pairs).__name__}.") from error
    checked = [_check_pair(pair, position) for position, pair in enumerate(rows, start)]
    # All texts at once: what they hold is checked at the interpreter's own speed.
    firsts = _check_side([pair[0] for pair in checked], start, "first")
    seconds = _check_side([pair[1] for pair in checked], start, "second")
    return list(zip(firsts, seconds, strict=True))


def _check_pair(pair: Any, position: int) -> Sequence[Any]:
    if isinstance(pair, str):
        raise OptionError(
            f"Pair {position} is the string {_short(pair)}, not a pair of texts. Pass {_EXAMPLE}."
        )
    if _is_row(pair):
        pair = pair.tolist()
    if not isinstance(pair, list | tuple):
        raise OptionError(
            f"Pair {position} is {type(pair).__name__} {_short(pair)}, not a pair of texts. Pass "
            f"{_EXAMPLE}."
        )
    if len(pair) != 2:
        raise OptionError(
            f"Pair {position} has {len(pair)} {'text' if len(pair) == 1 else 'texts'}, not two. "
            f"Pass {_EXAMPLE}; several documents for one query are scored with rank, or as a pair "
            "each."
        )
    return pair


def _check_side(texts: list[Any], start: int, which: str) -> Sequence[str]:
    try:
        return check_texts(texts, start)
    except OptionError as error:
        text = str(error)
        if text.startswith("Input "):
            number, _, rest = text.removeprefix("Input ").partition(" ")
            text = f"The {which} text of pair {number} {rest}"
        raise OptionError(text) from error


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "..."
