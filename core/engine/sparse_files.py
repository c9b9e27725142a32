"""Sparse embeddings as .npz files, in the format of `scipy.sparse.save_npz`."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from core.engine.sparse_arrays import Float32, Int32, Int64
from core.errors import CoreError
from core.files.staging import explained_writes, staging_directory


def save_csr(
    path: Path, indptr: Int64, indices: Int32, values: Float32, shape: tuple[int, int]
) -> Path:
    """Write a file that appears whole or not at all; `.npz` is added to a name without it.

    Raises:
        CoreError: Nothing can be written there.
    """
    target = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    with explained_writes(target), staging_directory(target) as folder:
        whole = folder / target.name
        with whole.open("wb") as file:
            write_csr(file, indptr, indices, values, shape)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(target)
    return target


def write_csr(
    file: BinaryIO, indptr: Int64, indices: Int32, values: Float32, shape: tuple[int, int]
) -> None:
    """Write the content of such a file."""
    np.savez(
        file,
        allow_pickle=False,
        format=np.array(b"csr"),
        shape=np.array(shape, dtype=np.int64),
        data=values,
        indices=indices,
        indptr=indptr,
        _is_array=np.array(True),
    )


def read_csr(
    path: Path,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], tuple[int, int]]:
    """`indptr`, `indices`, values and shape of a file; what they hold is not checked.

    Raises:
        CoreError: No such file, or another content.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):  # numpy's advice would be to unpickle it
                raise ValueError("it is no .npz file.")
        with np.load(path, allow_pickle=False) as content:
            if content["format"].item() != b"csr":
                raise ValueError(f"the format is {content['format'].item()!r}, not csr")
            rows, dimension = content["shape"].tolist()
            return content["indptr"], content["indices"], content["data"], (rows, dimension)
    except FileNotFoundError as error:
        raise CoreError(f"There is no file {str(path)!r}.") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise unreadable_csr(path, error) from error


def unreadable_csr(path: Path, error: Exception) -> CoreError:
    """The error of a file with another content."""
    return CoreError(
        f"{str(path)!r} holds no sparse embeddings: {error} Write them with SparseEmbeddings.save "
        "or scipy.sparse.save_npz."
    )
