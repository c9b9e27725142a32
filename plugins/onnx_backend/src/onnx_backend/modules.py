"""The modules after the transformer as an ONNX graph, for devices other than the CPU.

Token embeddings stay in the device's memory, a second small session pools them there, and only
[batch, dimension] comes back. Formulas are those of `core.modules`, which tests compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from core import TokenBatch
from core.errors import UnsupportedOperation
from core.toolkit import Dense, LayerNorm, Module, Normalize, Pooling

_OPSET, _IR_VERSION = 17, 8
_HIDDEN, _MASK, _POOLING_MASK, _RESULT = "hidden", "mask", "pooling_mask", "sentence_embedding"


class DevicePooler:
    """Runs the module chain where the token embeddings are.

    Args:
        modules: The chain.
        open_session: Opens a serialised graph on the device.
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
    """A serialised model of `modules`: from token embeddings of `dtype` and both masks."""
    graph = _Builder()
    element = TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT
    features = {"token_embeddings": graph.add("Cast", _HIDDEN, to=TensorProto.FLOAT)}
    for module in modules:
        _MODULES.get(type(module), _unknown)(graph, module, features)
    # Reading both masks everywhere keeps one set of inputs, whatever the chain uses.
    unused = graph.add("Mul", graph.sum(graph.add("Add", _MASK, _POOLING_MASK)), graph.number(0.0))
    graph.add("Add", features["sentence_embedding"], graph.column(unused), output=_RESULT)
    inputs = [helper.make_tensor_value_info(_HIDDEN, element, ["batch", "tokens", "hidden"])]
    for name in (_MASK, _POOLING_MASK):
        shape = ["batch", "tokens"]
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    outputs = [helper.make_tensor_value_info(_RESULT, TensorProto.FLOAT, ["batch", "dimension"])]
    built = helper.make_graph(graph.nodes, "pooling", inputs, outputs, graph.weights)
    model = helper.make_model(
        built, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


class _Builder:
    """Collects nodes and constants; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, dtype=np.float32))

    def axis(self, number: int) -> str:
        return self.constant(np.array([number], dtype=np.int64))

    def sum(self, value: str) -> str:
        """[batch, tokens] to [batch]."""
        return self.add("ReduceSum", value, self.axis(1), keepdims=0)

    def column(self, value: str) -> str:
        """[batch] to [batch, 1]."""
        return self.add("Unsqueeze", value, self.axis(1))

    def at_least(self, value: str, least: float) -> str:
        return self.add("Max", value, self.number(least))

    def rows_at(self, values: str, index: str) -> str:
        """`values[i, index[i]]` for every i."""
        return self.add("GatherND", values, self.column(index), batch_dims=1)

    def weighted_mean(self, tokens: str, weights: str, total: str) -> str:
        row = self.add("Unsqueeze", weights, self.axis(1))
        summed = self.add("Squeeze", self.add("MatMul", row, tokens), self.axis(1))
        return self.add("Div", summed, self.column(total))


def _cls(graph: _Builder, tokens: str, mask: str) -> str:
    return graph.rows_at(tokens, graph.add("ArgMax", mask, axis=1, keepdims=0))


def _max(graph: _Builder, tokens: str, mask: str) -> str:
    zero = graph.number(0.0)
    real = graph.add("Unsqueeze", graph.add("Greater", mask, zero), graph.axis(2))
    shown = graph.add("Where", real, tokens, graph.number(-np.inf))
    highest = graph.add("ReduceMax", shown, axes=[1], keepdims=0)
    some = graph.column(graph.add("Greater", graph.sum(mask), zero))
    return graph.add("Where", some, highest, zero)


def _mean(graph: _Builder, tokens: str, mask: str) -> str:
    return graph.weighted_mean(tokens, mask, graph.at_least(graph.sum(mask), 1e-9))


def _mean_sqrt_len(graph: _Builder, tokens: str, mask: str) -> str:
    total = graph.add("Sqrt", graph.at_least(graph.sum(mask), 1e-9))
    return graph.weighted_mean(tokens, mask, total)


def _weightedmean(graph: _Builder, tokens: str, mask: str) -> str:
    position = graph.add("CumSum", _MASK, graph.constant(np.array(1, dtype=np.int64)))
    weights = graph.add("Mul", position, mask)
    return graph.weighted_mean(tokens, weights, graph.at_least(graph.sum(weights), 1e-9))


def _lasttoken(graph: _Builder, tokens: str, mask: str) -> str:
    last = graph.add("ArgMax", mask, axis=1, keepdims=0, select_last_index=1)
    shown = graph.column(graph.rows_at(mask, last))
    return graph.add("Mul", graph.rows_at(tokens, last), shown)


_POOL: dict[str, Callable[[_Builder, str, str], str]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weightedmean,
    "lasttoken": _lasttoken,
}


def _pooling(graph: _Builder, module: Pooling, features: dict[str, str]) -> None:
    mask = _MASK if module.include_prompt else _POOLING_MASK
    pooled = [_POOL[mode](graph, features["token_embeddings"], mask) for mode in module.modes]
    joined = pooled[0] if len(pooled) == 1 else graph.add("Concat", *pooled, axis=-1)
    features["sentence_embedding"] = joined


def _normalize(graph: _Builder, module: Normalize, features: dict[str, str]) -> None:
    value = features["sentence_embedding"]
    length = graph.add("ReduceL2", value, axes=[1], keepdims=1)
    features["sentence_embedding"] = graph.add("Div", value, graph.at_least(length, 1e-12))


def _dense(graph: _Builder, module: Dense, features: dict[str, str]) -> None:
    value = features[module.input_name]
    out = graph.add("MatMul", value, graph.constant(module.weight.T))
    if module.bias is not None:
        out = graph.add("Add", out, graph.constant(module.bias))
    out = _ACTIVATIONS[module.activation](graph, out)
    if module.use_residual:
        kept = value
        if module.residual is not None:
            kept = graph.add("MatMul", value, graph.constant(module.residual.T))
        out = graph.add("Add", out, kept)
    features[module.output_name] = out


def _layer_norm(graph: _Builder, module: LayerNorm, features: dict[str, str]) -> None:
    features["sentence_embedding"] = graph.add(
        "LayerNormalization",
        features["sentence_embedding"],
        graph.constant(module.weight),
        graph.constant(module.bias),
        epsilon=1e-5,
    )


def _unknown(graph: _Builder, module: Module, features: dict[str, str]) -> None:
    raise UnsupportedOperation(
        f"The module {type(module).__name__} is not run by ONNX Runtime on this device. Pass "
        "device='cpu'."
    )


_MODULES: dict[type, Callable[[_Builder, Any, dict[str, str]], None]] = {
    Pooling: _pooling,
    Normalize: _normalize,
    Dense: _dense,
    LayerNorm: _layer_norm,
}


def _gelu(graph: _Builder, x: str) -> str:
    erf = graph.add("Erf", graph.add("Mul", x, graph.number(0.5**0.5)))
    half = graph.add("Mul", x, graph.number(0.5))
    return graph.add("Mul", half, graph.add("Add", erf, graph.number(1.0)))


def _gelu_tanh(graph: _Builder, x: str) -> str:
    cube = graph.add("Mul", graph.add("Mul", x, x), x)
    inner = graph.add("Add", x, graph.add("Mul", cube, graph.number(0.044715)))
    tanh = graph.add("Tanh", graph.add("Mul", inner, graph.number((2.0 / np.pi) ** 0.5)))
    half = graph.add("Mul", x, graph.number(0.5))
    return graph.add("Mul", half, graph.add("Add", tanh, graph.number(1.0)))


def _single(operator: str, **attributes: Any) -> Callable[[_Builder, str], str]:
    return lambda graph, x: graph.add(operator, x, **attributes)


#: Activation names of `core.modules.ACTIVATIONS` as ONNX operators.
_ACTIVATIONS: dict[str, Callable[[_Builder, str], str]] = {
    "Identity": lambda graph, x: x,
    "Tanh": _single("Tanh"),
    "ReLU": _single("Relu"),
    "GELU": _gelu,
    "GELUTanh": _gelu_tanh,
    "Sigmoid": _single("Sigmoid"),
    "SiLU": lambda graph, x: graph.add("Mul", x, graph.add("Sigmoid", x)),
    "Mish": lambda graph, x: graph.add("Mul", x, graph.add("Tanh", graph.add("Softplus", x))),
    "LeakyReLU": _single("LeakyRelu", alpha=0.01),
    "ELU": _single("Elu", alpha=1.0),
    "Softplus": _single("Softplus"),
}
