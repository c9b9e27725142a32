"""Which values of a graph GELU makes."""

from __future__ import annotations

import math
from typing import Any

from onnx import numpy_helper

from onnx_backend.rewriting.nodes import constants, producers_of, users_of

_GELUS = ("Gelu", "FastGelu", "BiasGelu")
#: How many products and sums follow the error function in a GELU that is written out.
_STEPS = 4
#: What it multiplies its input by, inside the error function and outside.
_INNER, _OUTER = math.sqrt(0.5), 0.5
_TOLERANCE = 1e-3


def gelu_outputs(model: Any) -> set[str]:
    """Values that GELU makes: as one operator, or written out as x * (1 + erf(x / sqrt 2)) / 2."""
    written_out = _WrittenOut(model)
    found = {node.output[0] for node in model.graph.node if node.op_type in _GELUS}
    around = (written_out.around(node) for node in model.graph.node if node.op_type == "Erf")
    return found | {value for value in around if value is not None}


class _WrittenOut:
    """A graph in which GELU is several operators."""

    def __init__(self, model: Any) -> None:
        self._constants = constants(model)
        self._producers = producers_of(model.graph)
        self._users = users_of(model.graph)

    def around(self, erf: Any) -> str | None:
        """The result of the GELU that an error function is in: nothing else is multiplied in."""
        x, inner = self._scaled(erf.input[0])
        if not math.isclose(inner, _INNER, rel_tol=_TOLERANCE):
            return None
        value, factor, times_x = erf.output[0], 1.0, False
        for _ in range(_STEPS):
            after = self._users.get(value, [])
            if len(after) != 1 or after[0].op_type not in ("Add", "Mul"):
                return None
            other = next(n for n in after[0].input if n != value)
            constant = self._number(other)
            if after[0].op_type == "Add":
                if constant != 1:
                    return None
            elif constant is not None:
                factor *= constant
            else:
                # A gate multiplies by something else, of any sign.
                base, scale = self._scaled(other)
                if base != x or times_x:
                    return None
                factor, times_x = factor * scale, True
            value = after[0].output[0]
            if times_x and math.isclose(factor, _OUTER, rel_tol=_TOLERANCE):
                return str(value)
        return None

    def _scaled(self, name: str) -> tuple[str, float]:
        """What a value is a number times of, and the number."""
        node = self._producers.get(name)
        if node is not None and node.op_type in ("Mul", "Div"):
            first, second = (self._number(operand) for operand in node.input)
            if second:
                return node.input[0], second if node.op_type == "Mul" else 1 / second
            if first and node.op_type == "Mul":
                return node.input[1], first
        return name, 1.0

    def _number(self, name: str) -> float | None:
        tensor = self._constants.get(name)
        if tensor is None or math.prod(tensor.dims) != 1:
            return None
        return float(numpy_helper.to_array(tensor).item())
