"""Sparse embeddings: the few dimensions of each row that are not zero, in compressed rows (CSR)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.arguments import check_path
from core.engine.numbers import as_numbers
from core.engine.sparse_arrays import (
    Float32,
    Int32,
    Int64,
    as_vector,
    check_rows,
    check_shape,
)
from core.engine.sparse_files import read_csr, save_csr, unreadable_csr, write_csr
from core.errors import OptionError, UnsupportedOperation
from core.options import check_positive


@dataclass(frozen=True, eq=False, repr=False)
class SparseEmbeddings:
    """Embeddings [n, dimension] of which only the values that are not zero are kept.

    Row `i` has the value `values[j]` in the dimension `indices[j]` for every `j` from `indptr[i]`
    up to `indptr[i + 1]`. The dimensions of a row ascend and none comes twice, so that equal
    embeddings have equal arrays. The arrays cannot be written to.

    Indexing takes what numpy's does along the first axis: a number (a result of one row), a slice,
    row numbers, or a mask of booleans. Iteration gives results of one row.

    Attributes:
        indptr: int64 [n + 1]: where each row begins in the other two, and the end of the last.
        indices: int32 [values in all rows]: dimensions, for SPLADE ids of the vocabulary.
        values: float32, as long as `indices`, none of them zero.
        shape: (n, dimension).

    Raises:
        OptionError: Arrays that are no such embeddings; the message says where.
    """

    indptr: Int64
    indices: Int32
    values: Float32
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        rows, dimension = check_shape(self.shape)
        object.__setattr__(self, "shape", (rows, dimension))
        for name, dtype in (("indptr", np.int64), ("indices", np.int32), ("values", np.float32)):
            array = as_vector(name, getattr(self, name), np.dtype(dtype)).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        check_rows(self.indptr, self.indices, self.values, rows, dimension)

    @classmethod
    def from_rows(
        cls, rows: Iterable[tuple[ArrayLike, ArrayLike]], dimension: int
    ) -> SparseEmbeddings:
        """Embeddings of (dimensions, values) pairs, one a row, in any order; zeros are left out.

        Raises:
            OptionError: A dimension twice in a row, or outside of 0 to `dimension` - 1.
        """
        indices: list[NDArray[Any]] = []
        values: list[Float32] = []
        lengths = [0]
        for number, row in enumerate(rows):
            try:
                given_indices, given_values = row
            except (TypeError, ValueError) as error:
                raise OptionError(
                    f"Row {number} must be a pair (dimensions, values), not {row!r:.60}."
                ) from error
            where = as_vector(f"dimensions of row {number}", given_indices, np.dtype(np.int32))
            what = as_vector(f"values of row {number}", given_values, np.dtype(np.float32))
            if len(where) != len(what):
                raise OptionError(
                    f"Row {number} has {len(where)} dimensions and {len(what)} values."
                )
            order = np.argsort(where, kind="stable")
            order = order[what[order] != 0]
            indices.append(where[order])
            values.append(what[order])
            lengths.append(len(order))
        return cls(
            np.cumsum(lengths, dtype=np.int64),
            np.concatenate(indices) if indices else np.empty(0, np.int32),
            np.concatenate(values) if values else np.empty(0, np.float32),
            (len(lengths) - 1, dimension),
        )

    @classmethod
    def from_dense(cls, array: ArrayLike, max_active_dims: int | None = None) -> SparseEmbeddings:
        """The values of an array [n, dimension], or of one row [dimension], that are not zero.

        Args:
            max_active_dims: Keep at most this many of each row, the largest by absolute value.
        """
        dense = np.atleast_2d(as_numbers("array", array))
        if dense.ndim != 2:
            raise OptionError(f"array must have shape [n, dimension], not {list(dense.shape)}.")
        count = check_positive("max_active_dims", max_active_dims)
        if count is not None and count < dense.shape[1]:
            kept = np.argpartition(-np.abs(dense), count - 1, axis=1)[:, :count]
            rows = np.repeat(np.arange(len(dense)), count)
            mask = np.zeros(dense.shape, dtype=bool)
            mask[rows, kept.ravel()] = True
            mask &= dense != 0
        else:
            mask = dense != 0
        row, column = np.nonzero(mask)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(dense)))])
        return cls(indptr, column.astype(np.int32), dense[row, column], dense.shape)

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseEmbeddings:
        """Embeddings of a scipy sparse matrix or array [n, dimension], of any format."""
        try:
            csr = matrix.tocsr(copy=True)
        except AttributeError as error:
            raise OptionError(
                f"matrix must be a scipy sparse matrix, not {type(matrix).__name__}."
            ) from error
        csr.sum_duplicates()
        csr.eliminate_zeros()
        return cls(csr.indptr, csr.indices, csr.data, csr.shape)

    @classmethod
    def from_torch(cls, tensor: Any) -> SparseEmbeddings:
        """Embeddings of a torch tensor [n, dimension] or [dimension], sparse or not."""
        if not hasattr(tensor, "detach"):
            raise OptionError(f"tensor must be a torch.Tensor, not {type(tensor).__name__}.")
        tensor = tensor.detach().cpu()
        tensor = tensor[None] if tensor.ndim == 1 else tensor
        if str(tensor.layout) == "torch.strided":
            return cls.from_dense(tensor.float().numpy())
        coordinates = tensor.to_sparse_coo().coalesce()
        row, column = coordinates.indices().numpy()
        values = coordinates.values().float().numpy()
        kept = values != 0
        lengths = np.bincount(row[kept], minlength=tensor.shape[0])
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        return cls(indptr, column[kept], values[kept], tuple(tensor.shape))

    @classmethod
    def concatenate(cls, parts: Iterable[SparseEmbeddings]) -> SparseEmbeddings:
        """The rows of several one after another.

        Raises:
            OptionError: No parts, or parts of different dimensions.
        """
        given = list(parts)
        for part in given:
            if not isinstance(part, SparseEmbeddings):
                raise OptionError(f"parts must be SparseEmbeddings, not {type(part).__name__}.")
        if len(dimensions := {part.shape[1] for part in given}) != 1:
            found = ", ".join(map(str, sorted(dimensions))) or "no parts"
            raise OptionError(f"parts must have the same number of dimensions; found {found}.")
        ends = np.cumsum([0, *(len(part.indices) for part in given)])
        starts = [part.indptr[:-1] + end for part, end in zip(given, ends, strict=False)]
        return cls._trusted(
            np.concatenate([*starts, ends[-1:]]),
            np.concatenate([part.indices for part in given]),
            np.concatenate([part.values for part in given]),
            (sum(map(len, given)), dimensions.pop()),
        )

    @classmethod
    def _trusted(
        cls, indptr: Int64, indices: Int32, values: Float32, shape: tuple[int, int]
    ) -> SparseEmbeddings:
        # Made from embeddings that were checked: not again for every slice.
        made = object.__new__(cls)
        for name, array in (("indptr", indptr), ("indices", indices), ("values", values)):
            array = array.view()
            array.flags.writeable = False
            object.__setattr__(made, name, array)
        object.__setattr__(made, "shape", shape)
        return made

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[SparseEmbeddings]:
        return (self[number : number + 1] for number in range(len(self)))

    def __getitem__(self, key: Any) -> SparseEmbeddings:
        if isinstance(key, slice) and key.step in (None, 1):
            start, stop, _ = key.indices(len(self))
            first, last = self.indptr[start], self.indptr[max(start, stop)]
            return self._trusted(
                self.indptr[start : max(start, stop) + 1] - first,
                self.indices[first:last],
                self.values[first:last],
                (max(0, stop - start), self.shape[1]),
            )
        try:
            rows = np.atleast_1d(np.arange(len(self))[key])
        except IndexError as error:
            if isinstance(key, int | np.integer):  # ends a loop, as Python's own sequences do
                raise IndexError(f"Row {key} of {len(self)}.") from error
            raise OptionError(f"Rows {key!r:.60} cannot be chosen of {len(self)}.") from error
        if rows.ndim != 1:
            raise OptionError(f"Rows must be chosen along one axis, not by {key!r:.60}.")
        lengths = (self.indptr[1:] - self.indptr[:-1])[rows]
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        # From a position in the result to one here: each row is shifted as a whole.
        places = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)
        shape = (len(rows), self.shape[1])
        return self._trusted(indptr, self.indices[places], self.values[places], shape)

    def __eq__(self, other: object) -> bool:
        """Whether shape, dimensions and values are the same, the values exactly."""
        if not isinstance(other, SparseEmbeddings):
            return NotImplemented
        return (
            self.shape == other.shape
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
            and np.array_equal(self.values, other.values)
        )

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        # numpy would otherwise ask for rows of rows.
        return self.to_dense() if dtype is None else self.to_dense().astype(dtype)

    def __repr__(self) -> str:
        rows, dimension = self.shape
        return f"SparseEmbeddings({rows} x {dimension}, {len(self.values)} values)"

    def row(self, number: int) -> tuple[Int32, Float32]:
        """The dimensions and the values of one row, as views."""
        one = self[number]
        return one.indices, one.values

    def top(self, max_active_dims: int | None) -> SparseEmbeddings:
        """At most this many values of each row, the largest by absolute value; None for all.

        Of equally large values, those of the lower dimensions stay.
        """
        count = check_positive("max_active_dims", max_active_dims)
        lengths = np.diff(self.indptr)
        if count is None or not len(self) or lengths.max() <= count:
            return self
        rows = np.repeat(np.arange(len(self)), lengths)
        order = np.lexsort((self.indices, -np.abs(self.values), rows))
        rank = np.arange(len(order)) - np.repeat(self.indptr[:-1], lengths)
        kept = np.sort(order[rank < count])
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.minimum(lengths, count))])
        return self._trusted(indptr, self.indices[kept], self.values[kept], self.shape)

    def ranked(self, top_k: int | None = None) -> list[list[tuple[int, float]]]:
        """For each row its (dimension, value) pairs, the largest value first.

        Args:
            top_k: At most this many of each row; None for all.
        """
        count = check_positive("top_k", top_k)
        ranked = []
        for start, stop in zip(self.indptr[:-1], self.indptr[1:], strict=True):
            order = np.argsort(-self.values[start:stop], kind="stable")[:count] + start
            pairs = zip(self.indices[order].tolist(), self.values[order].tolist(), strict=True)
            ranked.append(list(pairs))
        return ranked

    def to_dicts(
        self, tokens: Sequence[str] | Mapping[int, str] | None = None
    ) -> list[dict[int, float]] | list[dict[str, float]]:
        """For each row a mapping from dimension to value, the largest value first.

        Args:
            tokens: Names of the dimensions, as the tokens of a vocabulary: keys become names.

        Raises:
            OptionError: `tokens` lacks a dimension.
        """
        if tokens is None:
            return [dict(row) for row in self.ranked()]
        try:
            return [{tokens[index]: value for index, value in row} for row in self.ranked()]
        except (IndexError, KeyError, TypeError) as error:
            raise OptionError(
                f"tokens must name each of the {self.shape[1]} dimensions; it lacks one ({error})."
            ) from error

    def to_dense(self) -> Float32:
        """float32 [n, dimension], zeros included."""
        dense = np.zeros(self.shape, dtype=np.float32)
        dense[np.repeat(np.arange(len(self)), np.diff(self.indptr)), self.indices] = self.values
        return dense

    def to_scipy(self) -> Any:
        """A `scipy.sparse.csr_array` [n, dimension] over copies of the arrays.

        Raises:
            UnsupportedOperation: scipy is not installed.
        """
        try:
            from scipy.sparse import csr_array
        except ImportError as error:
            raise UnsupportedOperation(
                "to_scipy needs scipy, which is not installed: `pip install scipy`, or use the "
                "arrays indptr, indices and values."
            ) from error
        arrays = (self.values.copy(), self.indices.copy(), self.indptr.copy())
        return csr_array(arrays, shape=self.shape)

    def to_torch(self, device: Any = None) -> Any:
        """A sparse COO tensor, float32 [n, dimension], as sentence-transformers returns.

        Raises:
            UnsupportedOperation: PyTorch is not installed.
        """
        try:
            import torch
        except ImportError as error:
            raise UnsupportedOperation(
                "to_torch needs PyTorch, which is not installed: `pip install core[torch]`, or use "
                "to_scipy, or the arrays indptr, indices and values."
            ) from error
        rows = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        indices = torch.from_numpy(np.stack([rows, self.indices.astype(np.int64)]))
        values = torch.from_numpy(self.values.copy())
        tensor = torch.sparse_coo_tensor(
            indices, values, self.shape, is_coalesced=True, check_invariants=False
        )
        return tensor if device is None else tensor.to(device)

    def sparsity(self) -> dict[str, float]:
        """`active_dims`: mean number of values a row; `sparsity_ratio`: the share of zeros."""
        rows, dimension = self.shape
        if not rows or not dimension:
            return {"active_dims": 0.0, "sparsity_ratio": 1.0}
        active = len(self.values) / rows
        return {"active_dims": active, "sparsity_ratio": 1.0 - active / dimension}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an .npz file that `load` and `scipy.sparse.load_npz` read; the path written."""
        return save_csr(
            check_path("path", path), self.indptr, self.indices, self.values, self.shape
        )

    def write(self, file: BinaryIO) -> None:
        """Write the content of an .npz file, as `save` does, to a file opened in binary."""
        write_csr(file, self.indptr, self.indices, self.values, self.shape)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SparseEmbeddings:
        """Read an .npz file that `save` or `scipy.sparse.save_npz` (format csr) wrote.

        Raises:
            CoreError: No such file, or another content.
        """
        source = check_path("path", path)
        indptr, indices, values, shape = read_csr(source)
        try:
            return cls(indptr, indices, values, shape)
        except OptionError as error:
            raise unreadable_csr(source, error) from error


def gather_rows(parts: Sequence[SparseEmbeddings], rows: Int64) -> SparseEmbeddings:
    """Rows of several, numbered as if they stood one after another, in the order of `rows`.

    Each is copied once: `SparseEmbeddings.concatenate(parts)[rows]` holds all of them twice, and a
    place for every value.
    """
    sources = [(part, row) for part in parts for row in range(len(part))]
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])[rows]
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    for number, source in enumerate(rows.tolist()):
        part, row = sources[source]
        here = slice(indptr[number], indptr[number + 1])
        there = slice(part.indptr[row], part.indptr[row + 1])
        indices[here], values[here] = part.indices[there], part.values[there]
    return SparseEmbeddings._trusted(indptr, indices, values, (len(rows), parts[0].shape[1]))
