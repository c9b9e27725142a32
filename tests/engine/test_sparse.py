"""`core.SparseEmbeddings` against scipy and plain arrays."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray

import core
from core import SparseEmbeddings


def dense(rows: int = 7, dimension: int = 40, seed: int = 0) -> NDArray[np.float32]:
    """Random rows of which about a fifth is not zero; row 2 is empty, some values are negative."""
    generator = np.random.default_rng(seed)
    array = generator.normal(size=(rows, dimension)).astype(np.float32)
    array[generator.random(array.shape) > 0.2] = 0
    if rows > 2:
        array[2] = 0
    return array


@pytest.fixture
def embeddings() -> SparseEmbeddings:
    return SparseEmbeddings.from_dense(dense())


def test_a_dense_array_survives_both_ways(embeddings: SparseEmbeddings) -> None:
    assert np.array_equal(embeddings.to_dense(), dense())
    assert np.array_equal(np.asarray(embeddings), dense())
    assert np.asarray(embeddings, dtype=np.float64).dtype == np.float64
    assert embeddings.shape == (7, 40)
    assert len(embeddings) == 7
    assert embeddings.indptr.dtype == np.int64
    assert embeddings.indices.dtype == np.int32
    assert embeddings.values.dtype == np.float32
    assert "7 x 40" in repr(embeddings)
    one = SparseEmbeddings.from_dense(dense()[0])
    assert one == embeddings[0]


def test_arrays_are_those_of_scipy(embeddings: SparseEmbeddings) -> None:
    expected = scipy.sparse.csr_array(dense())
    assert np.array_equal(embeddings.indptr, expected.indptr)
    assert np.array_equal(embeddings.indices, expected.indices)
    assert np.array_equal(embeddings.values, expected.data)
    matrix = embeddings.to_scipy()
    assert (matrix != expected).nnz == 0
    matrix.data[:] = 0  # a copy
    assert np.array_equal(embeddings.to_dense(), dense())
    for made in (expected, expected.tocoo(), expected.tocsc(), scipy.sparse.csr_matrix(dense())):
        assert SparseEmbeddings.from_scipy(made) == embeddings


def test_scipy_matrices_with_zeros_and_repeated_places() -> None:
    rows, columns = [0, 0, 0, 1], [3, 1, 3, 2]
    matrix = scipy.sparse.coo_array(([1.0, 2.0, 0.5, 0.0], (rows, columns)), shape=(2, 5))
    made = SparseEmbeddings.from_scipy(matrix)
    assert made.to_dicts() == [{1: 2.0, 3: 1.5}, {}]


@pytest.mark.parametrize(
    "layout", [torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc]
)
@pytest.mark.filterwarnings("ignore:Sparse (CSR|CSC) tensor support is in beta")
def test_tensors_of_every_layout(layout: torch.layout, embeddings: SparseEmbeddings) -> None:
    tensor = torch.from_numpy(dense())
    if layout != torch.strided:
        tensor = tensor.to_sparse(layout=layout)
    assert SparseEmbeddings.from_torch(tensor) == embeddings


def test_to_torch_is_what_to_sparse_gives(embeddings: SparseEmbeddings) -> None:
    tensor, expected = embeddings.to_torch(), torch.from_numpy(dense()).to_sparse()
    assert tensor.layout == torch.sparse_coo
    assert tensor.is_coalesced()
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor.indices(), expected.indices())
    assert torch.equal(tensor.values(), expected.values())
    assert tensor.shape == expected.shape
    one = SparseEmbeddings.from_torch(expected[0])
    assert one == embeddings[0]
    half = SparseEmbeddings.from_torch(expected.to(torch.bfloat16))
    assert half.values.dtype == np.float32


def test_a_tensor_whose_stored_values_are_zero() -> None:
    places, values = torch.tensor([[0, 1], [4, 2]]), torch.tensor([0.0, 3.0])
    tensor = torch.sparse_coo_tensor(places, values, (2, 5), check_invariants=True)
    assert SparseEmbeddings.from_torch(tensor).to_dicts() == [{}, {2: 3.0}]


KEYS: list[Any] = [
    0,
    -1,
    np.int64(3),
    slice(2, 5),
    slice(None, None, 2),
    slice(5, 2),
    slice(None, None, -1),
    slice(-3, None),
    [4, 0, 4],
    [],
    np.array([2, 2, 6]),
    np.arange(7) % 2 == 0,
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_rows_are_chosen_as_numpy_chooses(key: Any, embeddings: SparseEmbeddings) -> None:
    key = np.array(key, dtype=np.int64) if isinstance(key, list) and not key else key
    expected = np.atleast_2d(dense()[key])
    chosen = embeddings[key]
    assert chosen == SparseEmbeddings.from_dense(expected)
    assert chosen.indptr[0] == 0


def test_rows_that_are_not_there(embeddings: SparseEmbeddings) -> None:
    with pytest.raises(IndexError, match="Row 7 of 7"):
        _ = embeddings[7]
    with pytest.raises(core.OptionError, match=r"Rows \[9\]"):
        _ = embeddings[[9]]
    with pytest.raises(core.OptionError, match="cannot be chosen"):
        _ = embeddings["first"]
    with pytest.raises(core.OptionError, match="one axis"):
        _ = embeddings[np.zeros((2, 2), dtype=int)]


def test_iteration_and_single_rows(embeddings: SparseEmbeddings) -> None:
    rows = list(embeddings)
    assert [len(row) for row in rows] == [1] * 7
    assert SparseEmbeddings.concatenate(rows) == embeddings
    indices, values = embeddings.row(3)
    assert np.array_equal(indices, np.flatnonzero(dense()[3]))
    assert np.array_equal(values, dense()[3][indices])
    assert embeddings.row(2)[0].size == 0


def test_concatenation(embeddings: SparseEmbeddings) -> None:
    empty = embeddings[:0]
    joined = SparseEmbeddings.concatenate([empty, embeddings, embeddings[2:4], empty])
    assert np.array_equal(joined.to_dense(), np.concatenate([dense(), dense()[2:4]]))
    with pytest.raises(core.OptionError, match="found 39, 40"):
        SparseEmbeddings.concatenate([embeddings, SparseEmbeddings.from_dense(np.ones((1, 39)))])
    with pytest.raises(core.OptionError, match="no parts"):
        SparseEmbeddings.concatenate([])
    with pytest.raises(core.OptionError, match="not ndarray"):
        SparseEmbeddings.concatenate([dense()])  # type: ignore[list-item]


def test_equality_is_of_content(embeddings: SparseEmbeddings) -> None:
    assert embeddings == SparseEmbeddings.from_dense(dense())
    assert embeddings != SparseEmbeddings.from_dense(dense() * 2)
    assert embeddings != embeddings[:-1]
    assert embeddings != dense().tolist()
    wider = np.pad(dense(), ((0, 0), (0, 1)))
    assert embeddings != SparseEmbeddings.from_dense(wider)
    with pytest.raises(TypeError, match="unhashable"):
        hash(embeddings)


def test_they_are_frozen_and_pickle(embeddings: SparseEmbeddings) -> None:
    with pytest.raises(ValueError, match="read-only"):
        embeddings.values[0] = 1
    with pytest.raises(AttributeError):
        embeddings.shape = (1, 1)  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(embeddings)) == embeddings


@pytest.mark.parametrize("count", [1, 3, 8, 40, 100])
def test_the_largest_values_are_kept(count: int, embeddings: SparseEmbeddings) -> None:
    array = dense()
    expected = np.zeros_like(array)
    for row, kept in zip(array, expected, strict=True):
        largest = np.argsort(-np.abs(row), kind="stable")[:count]
        kept[largest] = row[largest]
    assert np.array_equal(SparseEmbeddings.from_dense(array, count).to_dense(), expected)
    assert np.array_equal(embeddings.top(count).to_dense(), expected)
    assert embeddings.top(None) == embeddings


def test_of_equal_values_the_lower_dimensions_stay() -> None:
    embeddings = SparseEmbeddings.from_dense([[1.0, -2.0, 1.0, 1.0]])
    assert embeddings.top(3).to_dicts() == [{0: 1.0, 2: 1.0, 1: -2.0}]


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_counts_are_positive_whole_numbers(count: Any, embeddings: SparseEmbeddings) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: embeddings.top(count),
        lambda: embeddings.ranked(count),
        lambda: SparseEmbeddings.from_dense(dense(), count),
    ]
    for call in calls:
        with pytest.raises(core.OptionError):
            call()


def test_rows_in_any_order() -> None:
    made = SparseEmbeddings.from_rows([([5, 1], [1.0, 2.0]), ([], []), ([0, 3], [0.0, -1.0])], 6)
    assert made.to_dicts() == [{1: 2.0, 5: 1.0}, {}, {3: -1.0}]
    assert SparseEmbeddings.from_rows([], 6).shape == (0, 6)


def test_names_of_dimensions() -> None:
    made = SparseEmbeddings.from_dense([[0, 2.0, 0.5], [1.0, 0, 0]])
    assert made.to_dicts(["a", "b", "c"]) == [{"b": 2.0, "c": 0.5}, {"a": 1.0}]
    assert made.to_dicts({0: "a", 1: "b", 2: "c"}) == made.to_dicts("abc")
    assert list(made.to_dicts("abc")[0]) == ["b", "c"]  # largest first
    assert made.ranked(1) == [[(1, 2.0)], [(0, 1.0)]]
    with pytest.raises(core.OptionError, match="3 dimensions"):
        made.to_dicts(["a"])


def test_sparsity() -> None:
    made = SparseEmbeddings.from_dense([[0, 2.0, 0.5, 0], [1.0, 0, 0, 0]])
    assert made.sparsity() == {"active_dims": 1.5, "sparsity_ratio": 0.625}
    assert made[:0].sparsity() == {"active_dims": 0.0, "sparsity_ratio": 1.0}


def test_files(tmp_path: Path, embeddings: SparseEmbeddings) -> None:
    written = embeddings.save(tmp_path / "rows")
    assert written == tmp_path / "rows.npz"
    assert SparseEmbeddings.load(written) == embeddings
    assert SparseEmbeddings.from_scipy(scipy.sparse.load_npz(written)) == embeddings
    scipy.sparse.save_npz(tmp_path / "theirs.npz", scipy.sparse.csr_matrix(dense()))
    assert SparseEmbeddings.load(tmp_path / "theirs.npz") == embeddings
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["rows.npz", "theirs.npz"]


def test_files_that_cannot_be_read(tmp_path: Path, embeddings: SparseEmbeddings) -> None:
    with pytest.raises(core.CoreError, match="no file"):
        SparseEmbeddings.load(tmp_path / "none.npz")
    for name, content in {"text.npz": b"no archive", "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(core.CoreError, match=r"no sparse embeddings: it is no \.npz file"):
            SparseEmbeddings.load(tmp_path / name)
    np.savez(tmp_path / "dense.npz", embeddings=dense())
    scipy.sparse.save_npz(tmp_path / "columns.npz", scipy.sparse.csc_matrix(dense()))
    unordered = {"indptr": [0, 2], "indices": [3, 1], "data": [1.0, 2.0], "shape": [1, 5]}
    np.savez(tmp_path / "unordered.npz", format=np.array(b"csr"), **unordered)  # type: ignore[arg-type]
    np.save(tmp_path / "array.npy", dense())
    (tmp_path / "folder").mkdir()
    for name in ("dense.npz", "columns.npz", "unordered.npz", "array.npy", "folder"):
        with pytest.raises(core.CoreError, match="no sparse embeddings"):
            SparseEmbeddings.load(tmp_path / name)


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, embeddings: SparseEmbeddings
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(core.CoreError, match="Cannot write"):
        embeddings.save(tmp_path / "file" / "rows.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert embeddings.save(tmp_path / "new" / "rows.npz").is_file()  # as core.save makes folders


WRONG: dict[str, tuple[Any, Any, Any, Any, str]] = {
    "indptr too short": ([0, 1], [1], [1.0], (2, 4), "3 numbers for 2 rows"),
    "indptr falls": ([0, 2, 1], [1], [1.0], (2, 4), "ascend"),
    "indptr from one": ([1, 1], [1], [1.0], (1, 4), "from 0 to 1"),
    "lengths": ([0, 2], [1, 2], [1.0], (1, 4), "2 indices and 1 values"),
    "outside": ([0, 0, 1], [4], [1.0], (2, 4), "Row 1 has the dimension 4"),
    "negative": ([0, 1], [-1], [1.0], (1, 4), "Row 0 has the dimension -1"),
    "order": ([0, 1, 3], [1, 3, 2], [1.0, 1, 1], (2, 4), "row 1 must ascend.*2 follows 3"),
    "twice": ([0, 2], [1, 1], [1.0, 1], (1, 4), "1 follows 1"),
    "zero": ([0, 0, 2], [1, 3], [1.0, 0], (2, 4), "Row 1 holds a zero for dimension 3"),
    "fractions": ([0, 1], [0.5], [1.0], (1, 4), "indices must hold integers"),
    "words": ([0, 1], [0], ["x"], (1, 4), "values must hold numbers"),
    "too large": ([0, 1], [2**40], [1.0], (1, 4), "fit into int32"),
    "matrix": ([0, 1], [[0]], [1.0], (1, 4), "one dimension"),
    "shape": ([0, 1], [0], [1.0], 4, "shape must be"),
    "negative shape": ([0], [], [], (0, -1), "0 or more"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_named(case: str) -> None:
    indptr, indices, values, shape, message = WRONG[case]
    with pytest.raises(core.OptionError, match=message):
        SparseEmbeddings(indptr, indices, values, shape)


def test_wrong_rows_are_named() -> None:
    for rows, message in (
        ([([1, 2], [1.0])], "Row 0 has 2 dimensions and 1 values"),
        ([([], []), 5], "Row 1 must be a pair"),
        ([([1, 1], [1.0, 2.0])], "none come twice"),
        ([([1], ["x"])], "values of row 0"),
    ):
        with pytest.raises(core.OptionError, match=message):
            SparseEmbeddings.from_rows(rows, 4)  # type: ignore[arg-type]
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: SparseEmbeddings.from_dense(np.ones((2, 2, 2))), r"\[n, dimension\]"),
        (lambda: SparseEmbeddings.from_dense("no numbers"), "array of numbers"),
        (lambda: SparseEmbeddings.from_scipy(dense()), "scipy sparse matrix"),
        (lambda: SparseEmbeddings.from_torch(dense()), "torch.Tensor"),
    ]
    for call, message in calls:
        with pytest.raises(core.OptionError, match=message):
            call()


def test_the_boundary_between_empty_rows_is_no_order() -> None:
    indptr, indices = np.array([0, 0, 1, 1, 2, 2]), np.array([3, 1], np.int32)
    made = SparseEmbeddings(indptr, indices, np.array([1, 2], np.float32), (5, 4))
    assert made.to_dicts() == [{}, {3: 1.0}, {}, {1: 2.0}, {}]
