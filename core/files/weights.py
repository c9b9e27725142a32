"""Reading weight files without torch: safetensors, and pytorch_model.bin without running it.

Only the small modules after the transformer and static embeddings are read here; a transformer's
weights are its runtime's business. safetensors' own numpy reader refuses bfloat16, which published
models use, so the format (an 8-byte little-endian header length, a JSON header, raw tensors) is
read directly: https://huggingface.co/docs/safetensors#format
"""

from __future__ import annotations

import collections
import io
import json
import math
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelFormatError
from core.files.pointers import check_fetched
from core.files.source import Source

Tensors = dict[str, NDArray[Any]]

#: Names of a folder's weights, first choice first.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

_SAFETENSORS_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}

# The format allows 100 MB; published models stay under one, and parsing costs ten times the size.
_MAX_HEADER = 16_000_000

#: Dimensions of a tensor that every numpy can have.
_MAX_RANK = 32

_MAX_PICKLE = 16_000_000

#: How many times the size of a checkpoint its tensors may have together: tied weights are one
#: storage with several names, and float16 is widened.
_MOST_EXPANDED = 8


def read_weights(path: Path) -> Tensors:
    """Tensors of a `.safetensors` or `.bin` file; float16 and bfloat16 come back as float32.

    Raises:
        ModelFormatError: Truncated, not of the format, or a pickle that holds more than tensors.
    """
    try:
        check_fetched(path, str(path))
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        return _read_torch_pickle(path)
    except OSError as error:
        raise ModelFormatError(f"Cannot read the weights {path}: {error}.") from error


def read_folder(source: Source, folder: str, what: str) -> Tensors:
    """The weights that lie in a folder of a model ("" for its top).

    Raises:
        ModelFormatError: There are no weights; the message calls them `what`.
    """
    for name in WEIGHT_FILES:
        full = f"{folder}/{name}" if folder else name
        if source.has(full):
            return read_weights(source.path(full))
    raise ModelFormatError(
        f"{source}: the weights of {what} are missing: neither {' nor '.join(WEIGHT_FILES)} is in "
        f"{folder or 'the top folder'!r}."
    )


def read_tensor(source: Source, name: str) -> NDArray[Any]:
    """One tensor of the weights at the top of a model; of safetensors no other is read.

    Raises:
        ModelFormatError: There are no weights, or none of this name among them.
    """
    file = next((file for file in WEIGHT_FILES if source.has(file)), None)
    for index in (f"{file}.index.json" for file in WEIGHT_FILES):
        if file is None and source.has(index):  # in parts
            places = source.read_json(index).get("weight_map")
            stated = places.get(name) if isinstance(places, dict) else None
            file = stated if isinstance(stated, str) and source.has(stated) else None
    if file is None:
        raise ModelFormatError(
            f"{source}: the weights that hold {name!r} are missing: neither "
            f"{' nor '.join(WEIGHT_FILES)} is there."
        )
    path = source.path(file)
    check_fetched(path, str(path))
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path, only=name)
    else:
        tensors = read_weights(path)
    if name not in tensors:
        raise ModelFormatError(
            f"{source}: {file} holds no {name!r}: the projection of its token embeddings is "
            "missing. Restore or download the weights again."
        )
    return tensors[name]


def checked_weights(tensor: NDArray[Any], what: str) -> NDArray[np.float32]:
    """A tensor of fractions as float32 in C order.

    Raises:
        ModelFormatError: It holds integers, or values that are not finite; the message starts with
            `what`.
    """
    if tensor.dtype.kind != "f":
        raise ModelFormatError(
            f"{what} has dtype {tensor.dtype}; weights are float32, float16, bfloat16 or float64. "
            "They were damaged, or belong to another kind of model: restore or download them again."
        )
    # The extremes are NaN where any value is, and need no array of their own.
    if tensor.size and not (np.isfinite(tensor.min()) and np.isfinite(tensor.max())):
        raise ModelFormatError(
            f"{what} holds values that are not finite numbers, which would spread to every "
            "embedding. Restore or download the weights again."
        )
    return np.ascontiguousarray(tensor, dtype=np.float32)


def check_safetensors(path: Path) -> None:
    """Raise `ModelFormatError` unless header and size of the file fit together."""
    check_fetched(path, str(path))
    _safetensors_header(path)


def _safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    size = path.stat().st_size

    def bad(why: str) -> ModelFormatError:
        return ModelFormatError(
            f"{path} is not a whole safetensors file: {why} (the file has {size:,} bytes). "
            "Download or copy it again."
        )

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_MAX_HEADER, size - 8):
            raise bad(f"its header claims {length:,} bytes")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise bad("its header is not JSON") from error
    if not isinstance(header, dict):
        raise bad("its header is not a JSON object")
    header.pop("__metadata__", None)
    start = 8 + length
    for name, entry in header.items():
        try:
            dtype, shape = entry["dtype"], entry["shape"]
            begin, end = entry["data_offsets"]
            if not all(type(n) is int and 0 <= n < 2**63 for n in (begin, end, *shape)):
                raise ValueError("sizes are whole numbers")
            if not isinstance(dtype, str):
                raise ValueError("a dtype has a name")
            # Of an empty tensor, too, the other sizes are multiplied by what makes an array of it.
            if len(shape) > _MAX_RANK or math.prod(n or 1 for n in shape) >= 2**59:
                raise ValueError("no array has such a shape")
            count = math.prod(shape)
        except (TypeError, KeyError, ValueError) as error:
            raise bad(f"its entry {name[:100]!r} is malformed") from error
        if start + end > size:
            raise bad(f"tensor {name!r} ends at byte {start + end:,}")
        known = _SAFETENSORS_DTYPES.get(dtype)
        if known is not None and end - begin != count * known.itemsize:
            raise bad(f"tensor {name!r} has {end - begin} bytes for shape {shape}")
    # The format leaves no gap and no overlap, which would make much of a small file.
    place = 0
    for begin, end, name in sorted((*entry["data_offsets"], n) for n, entry in header.items()):
        if begin != place or end < begin:
            raise bad(f"tensor {name!r} begins at byte {begin:,} of the data, not at {place:,}")
        place = end
    if start + place != size:
        raise bad(f"its tensors end at byte {start + place:,}")
    return header, start


def _read_safetensors(path: Path, only: str | None = None) -> Tensors:
    header, start = _safetensors_header(path)
    if only is not None:
        header = {name: entry for name, entry in header.items() if name == only}
    data = np.memmap(path, dtype=np.uint8, mode="r") if header else np.empty(0, np.uint8)
    tensors: Tensors = {}
    for name, entry in header.items():
        dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ModelFormatError(
                f"{path}: tensor {name!r} has dtype {entry['dtype']}, which is not supported here."
            )
        begin, end = entry["data_offsets"]
        raw = data[start + begin : start + end]
        array = np.frombuffer(raw, dtype=dtype).reshape(entry["shape"])
        tensors[name] = _widen(array, bfloat16=entry["dtype"] == "BF16")
    return tensors


def _widen(array: NDArray[Any], *, bfloat16: bool) -> NDArray[Any]:
    if bfloat16:  # bfloat16 is the upper half of a float32
        wide = array.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array


class _Storage:
    def __init__(self, dtype: np.dtype[Any] | None) -> None:
        self.dtype = dtype


_TORCH_STORAGES: dict[str, np.dtype[Any] | None] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": None,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class _TensorUnpickler(pickle.Unpickler):
    """Builds tensors and nothing else: any other global in the pickle is refused."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        pickled = archive.read(f"{prefix}data.pkl")
        _check_memo(pickled)
        super().__init__(io.BytesIO(pickled))
        self._archive, self._prefix = archive, prefix
        self._read: dict[str, bytes] = {}
        self._room = _MOST_EXPANDED * sum(member.file_size for member in archive.infolist())

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _TORCH_STORAGES:
            return _Storage(_TORCH_STORAGES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"it wants to run {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, *_ = pid
        if kind != "storage" or not isinstance(storage, _Storage):
            raise pickle.UnpicklingError(f"unknown persistent id {kind!r}")
        name = f"{self._prefix}data/{key}"
        if name not in self._read:
            self._read[name] = self._archive.read(name)
        dtype = storage.dtype
        raw = self._read[name]
        return np.frombuffer(raw, np.dtype("<u2") if dtype is None else dtype), dtype is None

    def _rebuild_tensor(
        self,
        storage: tuple[NDArray[Any], bool],
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        *_: Any,
    ) -> NDArray[Any]:
        array, bfloat16 = storage
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        outside = min((offset, *shape, *stride), default=0) < 0 or last >= array.size
        # A stride of 0 would make any number of rows out of one.
        if (0 not in shape and outside) or math.prod(shape) > array.size:
            raise pickle.UnpicklingError("a tensor reaches out of its storage")
        view = np.lib.stride_tricks.as_strided(
            array[offset:], shape, [s * array.itemsize for s in stride], writeable=False
        )
        tensor = _widen(np.ascontiguousarray(view).reshape(shape), bfloat16=bfloat16)
        self._room -= tensor.nbytes
        if self._room < 0:
            raise pickle.UnpicklingError("its tensors repeat its storages without end")
        return tensor


def _check_memo(pickled: bytes) -> None:
    """Unpickling makes room for every place up to the highest, however few there are."""
    for operation, place, _ in pickletools.genops(pickled):
        if "PUT" in operation.name and isinstance(place, int) and place > len(pickled):
            raise pickle.UnpicklingError(f"it puts something into the place {place:,}")


def _read_torch_pickle(path: Path) -> Tensors:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(path, archive)
            inner = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(inner) != 1:
                raise ModelFormatError(f"{path} is not a torch checkpoint: no data.pkl inside.")
            loaded = _TensorUnpickler(archive, inner[0].removesuffix("data.pkl")).load()
    except zipfile.BadZipFile as error:
        raise ModelFormatError(
            f"{path} is not a whole torch checkpoint (torch 1.6 or newer): {error}. "
            "Download or copy it again, or convert it to safetensors."
        ) from error
    except ModelFormatError:
        raise
    except Exception as error:  # a pickle can fail in any way
        raise ModelFormatError(
            f"{path} was not loaded, because it is not only tensors: {error}. Only weights are "
            "read from a pickle, never code; ask its author for a safetensors file."
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(v, np.ndarray) for v in loaded.values()):
        raise ModelFormatError(f"{path} does not hold a state dict of tensors.")
    return {str(name): tensor for name, tensor in loaded.items()}


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """torch stores without compressing: what claims to unpack to more is not a checkpoint."""
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    pickled = sum(m.file_size for m in members if m.filename.endswith("/data.pkl"))
    if unpacked > path.stat().st_size or pickled > _MAX_PICKLE:
        raise ModelFormatError(
            f"{path} is not a torch checkpoint: it has {path.stat().st_size:,} bytes and claims to "
            f"unpack to {unpacked:,}. Ask its author for a safetensors file."
        )


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """Write contiguous arrays as a `.safetensors` file.

    Raises:
        KeyError: A dtype the format lacks.
    """
    names = {dtype: name for name, dtype in _SAFETENSORS_DTYPES.items() if name != "BF16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, array in tensors.items():
        end = offset + array.nbytes
        header[name] = {
            "dtype": names[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors start at a multiple of 8
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).data)
