"""What an ONNX file holds, read without the `onnx` package and without its weights.

Loading must stay light, and an untrusted file must be looked at before a runtime opens it: where
its external data lies, and whether it is whole. The file is a protocol buffer message; every field
that is not needed is stepped over by its length, so a large file costs no more than a small one.
Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the wire format
is described at https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import ModelFormatError
from core.files.paths import check_relative
from core.files.pointers import check_fetched
from core.files.source import Source

#: TensorProto.DataType of the types that tell a graph's precision.
FLOAT, FLOAT16, DOUBLE, BFLOAT16 = 1, 10, 11, 16
INT8 = 3
_WEIGHT_ELEMENTS = 256  # smaller tensors are constants of the graph, not weights

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 32
#: Dimensions of a tensor; their sizes are multiplied.
_MAX_RANK = 64
#: The highest version of a set of operators; of a larger one OpenVINO tries each below it.
_LAST_OPSET = 1_000
#: What external data may be called. "*/_ORT_MEM_ADDR_/*" names memory of this very process.
_LOCATION = re.compile(r"(?!.*_ORT_MEM)[^*?<>|\\\x00-\x1f]+", re.IGNORECASE)

#: Operators that only quantized graphs have.
QUANTIZED_OPERATORS = (
    "DynamicQuantizeLinear",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QAttention",
    "QEmbedLayerNormalization",
    "QGemm",
    "QLinearMatMul",
    "QuantizeLinear",
    "MatMulNBits",
)
# Operators that look rows up: which input holds the ids, and which the table.
_ID_TABLES = {
    "Gather": (1, 0),
    "EmbedLayerNormalization": (0, 2),
    "QEmbedLayerNormalization": (0, 2),
}


@dataclass(frozen=True)
class OnnxFile:
    """A summary of an ONNX file.

    Attributes:
        operators: How often each operator occurs, subgraphs included.
        weights: Elements held by weights of each TensorProto.DataType.
        external: Files with external data, relative to the ONNX file, as written in it.
        vocabulary: Rows of the table that `input_ids` are looked up in; None where none is found.
        metadata: What its maker wrote into it, by name.
    """

    operators: Counter[str]
    weights: Counter[int]
    external: tuple[str, ...]
    vocabulary: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_quantized(self) -> bool:
        """Whether any operator computes with integers of a quantized graph."""
        return any(name in self.operators for name in QUANTIZED_OPERATORS)

    @property
    def has_signed_weights(self) -> bool:
        """Whether any of its weights are signed bytes."""
        return self.weights[INT8] > 0

    @property
    def dtype(self) -> str:
        """What it computes in: "int8", "float16", "bfloat16" or "float32"."""
        if self.is_quantized:
            return "int8"
        if not self.weights:
            return "float32"
        largest, _ = self.weights.most_common(1)[0]
        return {FLOAT16: "float16", BFLOAT16: "bfloat16", DOUBLE: "float64"}.get(largest, "float32")


def read_onnx_file(path: Path, shown: str) -> OnnxFile:
    """Look through an ONNX file; `shown` names it in messages.

    Raises:
        ModelFormatError: Not an ONNX model, or not all of it.
    """
    size = path.stat().st_size
    if size == 0:
        raise ModelFormatError(f"{shown} is empty. Download or copy it again.")
    check_fetched(path, shown)
    scan = _Scan()
    try:
        with path.open("rb") as file:
            # Not closed by hand: views of it live as long as an error's traceback.
            scan.model(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except _Malformed as error:
        raise ModelFormatError(
            f"{shown} is not a whole ONNX model ({size:,} bytes): {error}. It was truncated or is "
            "another kind of file: download, copy or export it again."
        ) from error
    external = tuple(sorted(scan.external))
    return OnnxFile(scan.operators, scan.weights, external, scan.vocabulary(), scan.metadata)


def external_files(source: Source, file_name: str, external: tuple[str, ...]) -> list[str]:
    """Names in the checkpoint of a file's external data.

    Raises:
        ModelFormatError: One is missing, not fetched, outside the folder of the ONNX file, or no
            file at all.
    """
    folder = file_name.rpartition("/")[0]
    names = []
    for location in external:
        check_relative(location, f"external data of {file_name}")
        if not _LOCATION.fullmatch(location):
            raise ModelFormatError(
                f"{source}: {file_name} keeps its weights in {location!r}, which is not the plain "
                "name of a file: runtimes take such names for addresses in memory. Do not use this "
                "model unless you trust where it is from; its author can export it again."
            )
        name = f"{folder}/{location}" if folder else location
        name = name.replace("/./", "/").removeprefix("./")
        if not source.has(name):
            raise ModelFormatError(
                f"{source}: {file_name} keeps its weights in {location!r}, which is missing: there "
                f"is no {name}. Copy or download it beside {file_name}."
            )
        check_fetched(source.path(name), f"{source}: {name}")
        names.append(name)
    return names


class _Malformed(Exception):  # noqa: N818 - a reason on its way to a message
    """Why the bytes are not a message."""


class _Scan:
    """Collects from a ModelProto what `OnnxFile` holds."""

    def __init__(self) -> None:
        self.operators: Counter[str] = Counter()
        self.weights: Counter[int] = Counter()
        self.external: set[str] = set()
        self.metadata: dict[str, str] = {}
        self._ids = {"input_ids"}  # and what they are called once converted
        self._tables: list[str] = []
        self._made_of: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def vocabulary(self) -> int | None:
        """Rows of the first table that input ids are looked up in."""
        for name in self._tables:
            while name in self._made_of:
                name = self._made_of.pop(name)
            shape = self._shapes.get(name, ())
            if len(shape) == 2:
                return shape[0]
        return None

    def model(self, data: memoryview) -> None:
        graphs = 0
        for number, value in _fields(data):
            if number == 7 and isinstance(value, memoryview):
                graphs += 1
                self.graph(value, 0)
            elif number == 8 and isinstance(value, memoryview):
                self.opset(value)
            elif number == 25 and isinstance(value, memoryview):
                self.function(value)
            elif number == 14 and isinstance(value, memoryview):
                # Runtimes do not read it: whatever it holds, the model is whole.
                name, told = _entry(value, errors="replace")
                self.metadata[name] = told
        if not graphs:
            raise _Malformed("there is no graph in it")

    def graph(self, data: memoryview, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _Malformed("its subgraphs are nested too deeply")
        for number, value in _fields(data):
            if not isinstance(value, memoryview):
                continue
            if number == 1:
                self.node(value, depth)
            elif number == 5:
                self.tensor(value)
            elif number == 15:  # SparseTensorProto: values and indices
                self.sparse(value)

    def function(self, data: memoryview) -> None:
        for number, value in _fields(data):
            if number == 7 and isinstance(value, memoryview):
                self.node(value, 0)
            elif number == 9 and isinstance(value, memoryview):
                self.opset(value)
            elif number == 11 and isinstance(value, memoryview):  # values by default
                self.attribute(value, 0)

    def opset(self, data: memoryview) -> None:
        for number, value in _fields(data):
            if number == 2 and isinstance(value, int) and value > _LAST_OPSET:
                raise _Malformed(f"it asks for operators of version {value}, which there is not")

    def node(self, data: memoryview, depth: int) -> None:
        inputs, outputs, operator = list[str](), list[str](), ""
        for number, value in _fields(data):
            if not isinstance(value, memoryview):
                continue
            if number == 1:
                inputs.append(_text(value))
            elif number == 2:
                outputs.append(_text(value))
            elif number == 4:
                operator = _text(value)
                self.operators[operator] += 1
            elif number == 5:
                self.attribute(value, depth)
        if depth == 0:
            self.lookup(operator, inputs, outputs)

    def lookup(self, operator: str, inputs: list[str], outputs: list[str]) -> None:
        """Follow input ids to the table they are looked up in; nodes come in order."""
        table = _ID_TABLES.get(operator)
        if operator == "Cast" and self._ids & set(inputs):
            self._ids.update(outputs)
        elif operator in ("Cast", "DequantizeLinear") and inputs and outputs:
            self._made_of[outputs[0]] = inputs[0]
        elif table is not None and len(inputs) > max(table) and inputs[table[0]] in self._ids:
            self._tables.append(inputs[table[1]])

    def attribute(self, data: memoryview, depth: int) -> None:
        for number, value in _fields(data):
            if not isinstance(value, memoryview):
                continue
            if number in (5, 10):
                self.tensor(value)
            elif number in (6, 11):
                self.graph(value, depth + 1)
            elif number in (22, 23):
                self.sparse(value)

    def sparse(self, data: memoryview) -> None:
        for number, value in _fields(data):
            if number in (1, 2) and isinstance(value, memoryview):
                self.tensor(value)

    def tensor(self, data: memoryview) -> None:
        elements, data_type, external, name = 1, 0, False, ""
        shape: list[int] = []
        for number, value in _fields(data):
            if number == 1:
                for size in [value] if isinstance(value, int) else _packed(value):
                    shape.append(size)
                    if len(shape) > _MAX_RANK:
                        raise _Malformed("a tensor in it has dimensions without end")
                    elements *= max(size, 0)
            elif number == 8 and isinstance(value, memoryview):
                name = _text(value)
            elif number == 2 and isinstance(value, int):
                data_type = value
            elif number == 13 and isinstance(value, memoryview):
                external = True
                self.entry(value)
            elif number == 14 and value == 1:
                external = True
        if elements >= _WEIGHT_ELEMENTS or external:
            self.weights[data_type] += elements
            self._shapes.setdefault(name, tuple(shape))

    def entry(self, data: memoryview) -> None:
        """What a tensor says of its external data."""
        name, told = _entry(data)
        if name == "location":
            self.external.add(told)


def _entry(data: memoryview, errors: str = "strict") -> tuple[str, str]:
    """A StringStringEntryProto."""
    pair = {n: _text(v, errors) for n, v in _fields(data) if isinstance(v, memoryview)}
    return pair.get(1, ""), pair.get(2, "")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a message: integers as they are, all else as bytes."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position, end)
        number, kind = key >> 3, key & 7
        if number == 0:  # no field has it: zeros, such as of a download that was not finished
            raise _Malformed(f"byte {position - 1} is not part of a model")
        if kind == _VARINT:
            value, position = _varint(data, position, end)
            yield number, value
            continue
        if kind == _LENGTH:
            length, position = _varint(data, position, end)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise _Malformed(f"byte {position} is not part of a model")
        if position + length > end:
            raise _Malformed(f"a field ends {position + length - end:,} bytes after the file's end")
        yield number, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise _Malformed("a number in it is too long")
    raise _Malformed("it ends in the middle of a number")


def _packed(data: memoryview) -> Iterator[int]:
    position, end = 0, len(data)
    while position < end:
        value, position = _varint(data, position, end)
        yield value


def _text(data: memoryview, errors: str = "strict") -> str:
    try:
        return bytes(data).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise _Malformed("a name in it is not UTF-8") from error
