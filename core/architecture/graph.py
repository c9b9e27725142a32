"""Computing with arrays that do not exist yet: every operation becomes a node of a graph.

A backend that builds graphs implements the few operations of `GraphBuilder`. On top of them
`GraphArray` has the part of an array's surface that `core.architecture.modules` uses, and
`core.architecture.graph_functions` the functions, so that the modules written for numpy and torch
write their own graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

#: Operations on one to three values of shapes that broadcast as numpy's do. `greater` gives
#: booleans, `where` takes them as the first of its three values; all else is float32.
Elementwise = Literal[
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "greater", "where",
    "sqrt", "exp", "log", "tanh", "erf", "abs",
]  # fmt: skip
Reduction = Literal["sum", "mean", "max"]


class GraphBuilder(ABC):
    """Adds operations to a graph.

    A value is whatever the backend calls the result of an operation: a name, a node. Every method
    takes and returns values; axes count from 0. What a backend has no operation for raises
    `UnsupportedOperation`.
    """

    @abstractmethod
    def constant(self, array: NDArray[np.float32]) -> Any:
        """float32 of any shape, a single number included."""

    @abstractmethod
    def elementwise(self, operation: Elementwise, *values: Any) -> Any: ...

    @abstractmethod
    def matmul(self, left: Any, right: Any) -> Any:
        """The matrix product of the last two axes; axes before them broadcast."""

    @abstractmethod
    def reduce(self, operation: Reduction, value: Any, axis: int, keepdims: bool) -> Any: ...

    @abstractmethod
    def first_argmax(self, value: Any, axis: int) -> Any:
        """Integers: where along `axis`, which is dropped, the largest number comes first."""

    @abstractmethod
    def cumsum(self, value: Any, axis: int) -> Any: ...

    @abstractmethod
    def rows_at(self, values: Any, index: Any) -> Any:
        """`values[i, index[i]]` for every i: [n, m, ...] and integers [n] to [n, ...]."""

    @abstractmethod
    def concatenate(self, values: list[Any], axis: int) -> Any: ...

    @abstractmethod
    def unsqueeze(self, value: Any, axis: int) -> Any:
        """With an axis of size 1 before what was `axis`."""

    @abstractmethod
    def squeeze(self, value: Any, axis: int) -> Any:
        """Without `axis`, which has size 1."""


@dataclass(frozen=True, eq=False)
class GraphArray:
    """An array of a graph being built: its rank is known, its sizes and numbers are not.

    Attributes:
        builder: Where operations on it go.
        value: The builder's own value.
        rank: How many axes it has.
    """

    builder: GraphBuilder
    value: Any
    rank: int

    # Makes numpy leave `array + graph_array` to the methods here.
    __array_ufunc__ = None

    def __add__(self, other: Any) -> GraphArray:
        return self.combined("add", self, other)

    def __sub__(self, other: Any) -> GraphArray:
        return self.combined("subtract", self, other)

    def __mul__(self, other: Any) -> GraphArray:
        return self.combined("multiply", self, other)

    def __truediv__(self, other: Any) -> GraphArray:
        return self.combined("divide", self, other)

    def __radd__(self, other: Any) -> GraphArray:
        return self.combined("add", other, self)

    def __rsub__(self, other: Any) -> GraphArray:
        return self.combined("subtract", other, self)

    def __rmul__(self, other: Any) -> GraphArray:
        return self.combined("multiply", other, self)

    def __rtruediv__(self, other: Any) -> GraphArray:
        return self.combined("divide", other, self)

    def __neg__(self) -> GraphArray:
        return self * -1.0

    def __gt__(self, other: Any) -> GraphArray:
        return self.combined("greater", self, other)

    def __lt__(self, other: Any) -> GraphArray:
        return self.combined("greater", other, self)

    def __matmul__(self, other: Any) -> GraphArray:
        right = self.like(other)
        product = self.builder.matmul(self.value, right.value)
        return GraphArray(self.builder, product, max(self.rank, right.rank))

    def sum(self, axis: int, keepdims: bool = False) -> GraphArray:
        return self.reduced("sum", axis, keepdims)

    def mean(self, axis: int, keepdims: bool = False) -> GraphArray:
        return self.reduced("mean", axis, keepdims)

    def squeeze(self, axis: int) -> GraphArray:
        value = self.builder.squeeze(self.value, self.axis(axis))
        return GraphArray(self.builder, value, self.rank - 1)

    def __getitem__(self, index: Any) -> GraphArray:
        """`x[:, None]` and `x[..., None]` put axes in; nothing else can be said of an index."""
        entries = index if isinstance(index, tuple) else (index,)
        result, axis = self, 0
        for entry in entries:
            if entry is None:
                value = self.builder.unsqueeze(result.value, axis)
                result = GraphArray(self.builder, value, result.rank + 1)
                axis += 1
            elif entry is Ellipsis:
                axis += self.rank - entries.count(slice(None))
            elif entry == slice(None):
                axis += 1
            else:
                raise TypeError("an array of a graph is indexed with ':', '...' and None only")
        return result

    # Python would answer these itself: every array true, and equal to none but itself.
    def __bool__(self) -> NoReturn:
        raise TypeError("the numbers of an array of a graph are known only when it runs")

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("the numbers of an array of a graph are known only when it runs")

    def like(self, other: Any) -> GraphArray:
        """`other` in the same graph: itself, or a number or an array as a constant."""
        if isinstance(other, GraphArray):
            return other
        array = np.asarray(other, dtype=np.float32)
        return GraphArray(self.builder, self.builder.constant(array), array.ndim)

    def combined(self, operation: Elementwise, *operands: Any) -> GraphArray:
        """An elementwise operation on arrays of this graph, numbers and numpy arrays."""
        arrays = [self.like(operand) for operand in operands]
        value = self.builder.elementwise(operation, *(array.value for array in arrays))
        return GraphArray(self.builder, value, max(array.rank for array in arrays))

    def reduced(self, operation: Reduction, axis: int, keepdims: bool) -> GraphArray:
        value = self.builder.reduce(operation, self.value, self.axis(axis), keepdims)
        return GraphArray(self.builder, value, self.rank if keepdims else self.rank - 1)

    def axis(self, number: int) -> int:
        """An axis counted from 0."""
        return number % self.rank
