"""Products in int8 whose rows do not depend on the batch.

Weights are signed integers with a scale for each output. Inputs are unsigned, which is what ONNX
Runtime multiplies fast, in one of two ways: by a range from calibration, the same for all texts
(static), or each token by its own largest value (rows). ONNX Runtime's own dynamic quantization
takes one scale for the whole batch, padding included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from core.toolkit import ChannelRanges, WeightRounder, round_weights, smoothing_factors
from onnx_backend.presets import SUMS, SUMS_OF_16_BITS, SUMS_OF_32_BITS
from onnx_backend.rewriting.nodes import constants, users_of, values_of
from onnx_backend.rewriting.products import Inputs, weight_of

_MICROSOFT = "com.microsoft"
_MIDDLE, _LEVELS = 128, 127
#: GELU's smallest value is -0.17: with zero at 16 of 255, and rows that are scaled by at least
#: `_GELU_LEAST` / 239, nothing is below the range.
_GELU_ZERO, _GELU_LEVELS, _GELU_LEAST = 16, 239, 2.6
_SMALLEST = 1e-9
#: From this opset on, axes to reduce over are an input.
_AXES_AS_INPUT = 18
#: Smaller tables, of positions and token types, stay as they are.
_LEAST_TABLE_ROWS = 1_000


def to_int8(
    model: Any,
    inputs: Sequence[Inputs],
    ranges: Mapping[str, ChannelRanges],
    rounder: WeightRounder,
    *,
    static: Collection[str],
    kept: Collection[str] = (),
    adds_in_16_bits: bool = False,
) -> Any:
    """A copy of the model that multiplies in int8; what layer norms make is smoothed first.

    Args:
        ranges: Of the inputs, by name; those without any are neither smoothed nor static.
        rounder: Of the weights.
        static: Names of inputs that are rounded by their range.
        kept: Products that stay in floating point.
        adds_in_16_bits: Whether the rounder has sums of two products fit 16 bits.
    """
    return _Rewriting(model, inputs, ranges, rounder, static, kept, adds_in_16_bits).run()


class _Rewriting:
    """One graph on its way."""

    def __init__(
        self,
        model: Any,
        inputs: Sequence[Inputs],
        ranges: Mapping[str, ChannelRanges],
        rounder: WeightRounder,
        static: Collection[str],
        kept: Collection[str],
        adds_in_16_bits: bool,
    ) -> None:
        self._model = model
        self._known = constants(model)
        self._ranges, self._static, self._adds_in_16_bits = ranges, static, adds_in_16_bits
        self._rounder = rounder
        self._nodes: list[Any] = []
        self._added: dict[str, Any] = {}
        products = {node.name: node for node in model.graph.node}
        self._groups = {
            name: (entry, [products[n] for n in entry.products if n not in kept])
            for entry in inputs
            for name in entry.products
            if name not in kept
        }
        #: Value to its integers and what each row was scaled by; None for a static one.
        self._rounded: dict[str, tuple[str, str | None]] = {}
        self._factors: dict[str, NDArray[np.float32]] = {}
        #: Sums that a product before them does as well.
        self._folded: set[str] = set()
        self._users = users_of(model.graph)
        self._outputs = {value.name for value in model.graph.output}
        self._weights = {tensor.name for tensor in model.graph.initializer}
        self._opset = next(
            entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")
        )

    def run(self) -> Any:
        for node in self._model.graph.node:
            if node.name in self._groups:
                self._product(node)
            elif node.name in self._folded:
                continue
            elif node.op_type == "Gather" and self._is_large_table(node):
                self._table(node)
            else:
                self._nodes.append(node)
        return self._whole()

    def _whole(self) -> Any:
        used = {name for node in self._nodes for name in values_of(node)} | self._outputs
        # Constants may be nodes, too: those of weights that are integers now are not needed.
        nodes = [n for n in self._nodes if n.op_type != "Constant" or n.output[0] in used]
        weights = [w for w in self._model.graph.initializer if w.name in used]
        graph = onnx.GraphProto()
        graph.name = self._model.graph.name
        graph.input.extend(self._model.graph.input)
        graph.output.extend(self._model.graph.output)
        graph.initializer.extend(weights)
        graph.initializer.extend(self._added.values())
        graph.node.extend(nodes)
        result = onnx.ModelProto()
        result.ir_version = self._model.ir_version
        result.opset_import.extend(self._model.opset_import)
        if not any(entry.domain == _MICROSOFT for entry in result.opset_import):
            result.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
        result.functions.extend(self._model.functions)
        width = SUMS_OF_16_BITS if self._adds_in_16_bits else SUMS_OF_32_BITS
        result.metadata_props.add(key=SUMS, value=width)
        result.graph.CopyFrom(graph)
        return result

    def _product(self, node: Any) -> None:
        entry, products = self._groups[node.name]
        if entry.name not in self._rounded:
            self._rounded[entry.name] = self._round(entry, products)
        integers, row_scale = self._rounded[entry.name]
        weight, factors = weight_of(node, self._known), self._factors.get(entry.name)
        rounded, scale = self._rounder.round(node.name, entry.name, weight, factors)
        name = node.output[0]
        operands = [
            integers,
            self._constant(f"{name}_weight", rounded),
            self._input_scale(entry),
            self._constant(f"{name}_weight_scale", scale),
            self._zero_point(entry),
            self._constant(f"{name}_weight_zero", np.zeros(len(scale), dtype=np.int8)),
        ]
        bias = node.input[2] if len(node.input) > 2 else None
        if row_scale is None:
            if bias is None and (following := self._bias_after(name)) is not None:
                add, bias = following
                self._folded.add(add.name)
                name = add.output[0]
            operands += [] if bias is None else [bias]
            self._add("MatMulIntegerToFloat", operands, name, domain=_MICROSOFT)
            return
        unscaled = f"{name}_unscaled"
        self._add("MatMulIntegerToFloat", operands, unscaled, domain=_MICROSOFT)
        product = name if bias is None else f"{name}_product"
        self._add("Mul", [unscaled, row_scale], product)
        if bias is not None:
            self._add("Add", [product, bias], name)

    def _bias_after(self, name: str) -> tuple[Any, str] | None:
        """The sum that adds a bias to a product, and the bias; None without such a sum."""
        users = self._users.get(name, [])
        if len(users) != 1 or users[0].op_type != "Add" or name in self._outputs:
            return None
        bias = next(n for n in users[0].input if n != name)
        tensor = self._known.get(bias)
        one_row = tensor is not None and len(tensor.dims) == 1 and tensor.dims[0] > 1
        return (users[0], bias) if one_row and bias in self._weights else None

    def _round(self, entry: Inputs, products: Sequence[Any]) -> tuple[str, str | None]:
        value, ranges = entry.name, self._ranges.get(entry.name)
        if entry.is_norm and ranges is not None:
            weights = [weight_of(product, self._known) for product in products]
            factors = self._factors[entry.name] = smoothing_factors(ranges.largest, weights)
            inverse = self._constant(f"{value}_smoothing", np.float32(1) / factors)
            value = self._add("Mul", [value, inverse], f"{entry.name}_smoothed")
        integers = f"{entry.name}_int8"
        if self._is_static(entry):
            scale, zero = self._input_scale(entry), self._zero_point(entry)
            return self._add("QuantizeLinear", [value, scale, zero], integers), None
        levels = _GELU_LEVELS if entry.is_gelu else _LEVELS
        largest = value
        if not entry.is_gelu:
            largest = self._add("Abs", [value], f"{entry.name}_absolute")
        largest = self._reduced(largest, f"{entry.name}_row_maximum")
        least = self._number(_GELU_LEAST if entry.is_gelu else _SMALLEST)
        largest = self._add("Max", [largest, least], f"{entry.name}_row_range")
        inverse = self._add("Div", [self._number(levels), largest], f"{entry.name}_row_steps")
        steps = self._add("Mul", [value, inverse], f"{entry.name}_in_steps")
        self._add("QuantizeLinear", [steps, self._number(1.0), self._zero_point(entry)], integers)
        row_scale = self._add("Mul", [largest, self._number(1 / levels)], f"{entry.name}_row_scale")
        return integers, row_scale

    def _is_static(self, entry: Inputs) -> bool:
        return entry.name in self._static and entry.name in self._ranges

    def _bounds(self, entry: Inputs) -> tuple[np.float32, np.uint8]:
        """Scale and zero point of a static input."""
        low, high = self._ranges[entry.name].bounds(self._factors.get(entry.name))
        scale = np.float32(max((high - low) / 255, _SMALLEST))
        return scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255))

    def _input_scale(self, entry: Inputs) -> str:
        if not self._is_static(entry):
            return self._number(1.0)
        return self._constant(f"{entry.name}_scale", self._bounds(entry)[0])

    def _zero_point(self, entry: Inputs) -> str:
        if self._is_static(entry):
            return self._constant(f"{entry.name}_zero", self._bounds(entry)[1])
        zero = _GELU_ZERO if entry.is_gelu else _MIDDLE
        return self._constant(f"int8_zero_{zero}", np.uint8(zero))

    def _reduced(self, value: str, name: str) -> str:
        if self._opset < _AXES_AS_INPUT:
            return self._add("ReduceMax", [value], name, axes=[-1], keepdims=1)
        axes = self._constant("int8_last_axis", np.array([-1], dtype=np.int64))
        return self._add("ReduceMax", [value, axes], name, keepdims=1)

    def _is_large_table(self, node: Any) -> bool:
        """Whether rows of a table of embeddings are looked up."""
        table = self._known.get(node.input[0])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return (
            table is not None
            and axis == 0
            and len(table.dims) == 2
            and table.dims[0] >= _LEAST_TABLE_ROWS
            and table.data_type == TensorProto.FLOAT
        )

    def _table(self, node: Any) -> None:
        """Store the rows in int8, with a scale for each."""
        table, ids, name = node.input[0], node.input[1], node.output[0]
        integers, scale = round_weights(numpy_helper.to_array(self._known[table]).T)
        stored = self._constant(f"{table}_int8", np.ascontiguousarray(integers.T))
        scales = self._constant(f"{table}_scale", scale[:, None])
        rows = self._add("Gather", [stored, ids], f"{name}_int8")
        factors = self._add("Gather", [scales, ids], f"{name}_scale")
        real = self._add("Cast", [rows], f"{name}_steps", to=TensorProto.FLOAT)
        self._add("Mul", [real, factors], name)

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, name: str, value: Any) -> str:
        if name not in self._added:
            self._added[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _number(self, value: float) -> str:
        return self._constant(f"int8_{value:.9g}", np.float32(value))
