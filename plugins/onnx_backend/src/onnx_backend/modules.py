"""The modules after the transformer as an ONNX graph, for devices other than the CPU.

Token embeddings stay in the device's memory, a second small session pools them there, and only
[batch, dimension] comes back. The modules write that graph; `OnnxBuilder` makes its nodes. The
`onnx` package is imported inside: loading a model on a CPU does without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import TokenBatch
from core.errors import UnsupportedOperation
from core.toolkit import Elementwise, GraphBuilder, Module, Reduction, append_modules

_OPSET, _IR_VERSION = 17, 8
_HIDDEN, _MASK, _POOLING_MASK, _RESULT = "hidden", "mask", "pooling_mask", "sentence_embedding"

_ELEMENTWISE: dict[Elementwise, str] = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "greater": "Greater",
    "where": "Where",
    "sqrt": "Sqrt",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "erf": "Erf",
    "abs": "Abs",
}
_REDUCTIONS: dict[Reduction, str] = {"mean": "ReduceMean", "max": "ReduceMax"}


class DevicePooler:
    """Runs the module chain where the token embeddings are.

    Args:
        modules: The chain.
        open_session: Opens a serialized graph on the device.
    """

    def __init__(self, modules: Sequence[Module], open_session: Callable[[bytes], Any]) -> None:
        self._modules, self._open = modules, open_session
        self._sessions: dict[str, Any] = {}

    def __call__(self, hidden: Any, batch: TokenBatch) -> NDArray[np.float32]:
        """float32 [batch, dimension] from an OrtValue [batch, tokens, hidden] on the device."""
        session = self._session("float16" if "float16" in hidden.data_type() else "float32")
        binding = session.io_binding()
        binding.bind_ortvalue_input(_HIDDEN, hidden)
        for name, mask in ((_MASK, batch.attention_mask), (_POOLING_MASK, batch.pooling_mask)):
            binding.bind_cpu_input(name, mask.astype(np.float32))
        binding.bind_output(_RESULT)
        session.run_with_iobinding(binding)
        result: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return result

    def _session(self, dtype: str) -> Any:
        if dtype not in self._sessions:
            self._sessions[dtype] = self._open(pooling_graph(self._modules, dtype))
        return self._sessions[dtype]


def pooling_graph(modules: Sequence[Module], dtype: str = "float32") -> bytes:
    """A serialized model of `modules`: from token embeddings of `dtype` and both masks.

    Raises:
        UnsupportedOperation: A module has no operation in a graph.
    """
    import onnx
    from onnx import TensorProto, helper

    builder = OnnxBuilder()
    element = TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT
    tokens = builder.add("Cast", _HIDDEN, to=TensorProto.FLOAT)
    try:
        pooled = append_modules(builder, modules, tokens, _MASK, _POOLING_MASK)
    except UnsupportedOperation as error:
        raise UnsupportedOperation(
            f"ONNX Runtime does not pool on this device: {error} Pass device='cpu'."
        ) from error
    # Reading both masks everywhere keeps one set of inputs, whatever the chain uses.
    total = builder.reduce("sum", builder.add("Add", _MASK, _POOLING_MASK), 1, True)
    nothing = builder.add("Mul", total, builder.constant(np.zeros((), np.float32)))
    builder.add("Add", pooled, nothing, output=_RESULT)
    inputs = [helper.make_tensor_value_info(_HIDDEN, element, ["batch", "tokens", "hidden"])]
    for name in (_MASK, _POOLING_MASK):
        shape = ["batch", "tokens"]
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    outputs = [helper.make_tensor_value_info(_RESULT, TensorProto.FLOAT, ["batch", "dimension"])]
    built = helper.make_graph(builder.nodes, "pooling", inputs, outputs, builder.constants)
    model = helper.make_model(
        built, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


class OnnxBuilder(GraphBuilder):
    """Collects nodes and constants; a value is the name of a node's result."""

    def __init__(self) -> None:
        import onnx

        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """The result of one more node."""
        output = output or f"value_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        # np.ascontiguousarray would make a number an array of one.
        made = self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        self.constants.append(made)
        return name

    def elementwise(self, operation: Elementwise, *values: str) -> str:
        return self.add(_ELEMENTWISE[operation], *values)

    def matmul(self, left: str, right: str) -> str:
        return self.add("MatMul", left, right)

    def reduce(self, operation: Reduction, value: str, axis: int, keepdims: bool) -> str:
        if operation == "sum":  # the only one that takes its axis as an input in this opset
            return self.add("ReduceSum", value, self._axes(axis), keepdims=int(keepdims))
        return self.add(_REDUCTIONS[operation], value, axes=[axis], keepdims=int(keepdims))

    def first_argmax(self, value: str, axis: int) -> str:
        return self.add("ArgMax", value, axis=axis, keepdims=0)

    def cumsum(self, value: str, axis: int) -> str:
        return self.add("CumSum", value, self.constant(np.array(axis, dtype=np.int64)))

    def rows_at(self, values: str, index: str) -> str:
        return self.add("GatherND", values, self.unsqueeze(index, 1), batch_dims=1)

    def concatenate(self, values: list[str], axis: int) -> str:
        return self.add("Concat", *values, axis=axis)

    def unsqueeze(self, value: str, axis: int) -> str:
        return self.add("Unsqueeze", value, self._axes(axis))

    def squeeze(self, value: str, axis: int) -> str:
        return self.add("Squeeze", value, self._axes(axis))

    def _axes(self, axis: int) -> str:
        return self.constant(np.array([axis], dtype=np.int64))
