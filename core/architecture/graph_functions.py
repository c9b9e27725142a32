"""The array namespace of `GraphArray`: names and arguments as in numpy, a node for each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.architecture.graph import GraphArray


def sqrt(x: GraphArray) -> GraphArray:
    return x.combined("sqrt", x)


def exp(x: GraphArray) -> GraphArray:
    return x.combined("exp", x)


def expm1(x: GraphArray) -> GraphArray:
    return exp(x) - 1.0


def log1p(x: GraphArray) -> GraphArray:
    return x.combined("log", x + 1.0)


def tanh(x: GraphArray) -> GraphArray:
    return x.combined("tanh", x)


def erf(x: GraphArray) -> GraphArray:
    return x.combined("erf", x)


def abs(x: GraphArray) -> GraphArray:
    return x.combined("abs", x)


def clip(x: GraphArray, low: float | None, high: float | None) -> GraphArray:
    if low is not None:
        x = x.combined("maximum", x, low)
    return x if high is None else x.combined("minimum", x, high)


def where(condition: GraphArray, first: Any, second: Any) -> GraphArray:
    """One of the two may be a number."""
    return condition.combined("where", condition, first, second)


def amax(x: GraphArray, axis: int, keepdims: bool = False) -> GraphArray:
    return x.reduced("max", axis, keepdims)


def argmax(x: GraphArray, axis: int) -> GraphArray:
    """Integers: the first place of the largest number."""
    return GraphArray(x.builder, x.builder.first_argmax(x.value, x.axis(axis)), x.rank - 1)


def cumsum(x: GraphArray, axis: int) -> GraphArray:
    return GraphArray(x.builder, x.builder.cumsum(x.value, x.axis(axis)), x.rank)


def concatenate(arrays: Sequence[GraphArray], axis: int) -> GraphArray:
    first = arrays[0]
    joined = first.builder.concatenate([array.value for array in arrays], first.axis(axis))
    return GraphArray(first.builder, joined, first.rank)


def rows_at(values: GraphArray, index: GraphArray) -> GraphArray:
    """What numpy and torch write `values[arange(len(index)), index]`."""
    return GraphArray(
        values.builder, values.builder.rows_at(values.value, index.value), values.rank - 1
    )
