"""The reference's MaxSim functions: `core.engine.maxsim`, with its arguments and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.arguments import check_flag
from core.engine import maxsim as engine
from core.engine.maxsim import as_token_vectors
from core.errors import OptionError
from core.options import check_positive
from core.sentence_transformers.tensors import as_array, as_tensor, is_tensor


def maxsim(
    a: Any,
    b: Any,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: Any = None,
) -> Any:
    """MaxSim of every query and every document: a float32 tensor [len(a), len(b)].

    Args:
        a, b: Lists of tensors or arrays [tokens, dimension], one of them alone, or
            [n, tokens, dimension], whose rows of zeros are padding where there is no mask.
        a_mask, b_mask: [n, tokens] or a list of [tokens]: vectors to leave out are 0 or False.
        chunk_elements: Accepted; memory is bounded without it.
        length_normalize: The mean over the query's vectors, not their sum.
        device: Accepted; the scores are on the documents' device, as in the reference.
    """
    queries, documents = _chosen(a, b, a_mask, b_mask, chunk_elements)
    scores = engine.maxsim(queries, documents, _function(length_normalize))
    return as_tensor(scores, device=_device(b) or _device(a))


def maxsim_pairwise(
    a: Any,
    b: Any,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: Any = None,
) -> Any:
    """MaxSim of each query and the same document: a float32 tensor [n]; arguments of `maxsim`."""
    queries, documents = _chosen(a, b, a_mask, b_mask, chunk_elements)
    scores = engine.maxsim_pairwise(queries, documents, _function(length_normalize))
    return as_tensor(scores, device=_device(b) or _device(a))


def mean_maxsim(
    a: Any,
    b: Any,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
    device: Any = None,
) -> Any:
    """`maxsim`, as the mean over a query's vectors."""
    return maxsim(a, b, a_mask, b_mask, chunk_elements, length_normalize, device)


def mean_maxsim_pairwise(
    a: Any,
    b: Any,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
    device: Any = None,
) -> Any:
    """`maxsim_pairwise`, as the mean over a query's vectors."""
    return maxsim_pairwise(a, b, a_mask, b_mask, chunk_elements, length_normalize, device)


def _function(length_normalize: bool) -> str:
    check_flag("length_normalize", length_normalize)
    return "meanmaxsim" if length_normalize else "maxsim"


def _chosen(
    a: Any, b: Any, a_mask: Any, b_mask: Any, chunk_elements: int | None
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    check_positive("chunk_elements", chunk_elements)
    return _masked(a, a_mask, "a"), _masked(b, b_mask, "b")


def _masked(vectors: Any, mask: Any, name: str) -> list[NDArray[np.float32]]:
    if mask is None:
        return as_token_vectors(vectors, name)
    rows = as_array(vectors) if is_tensor(vectors) else vectors
    if isinstance(rows, np.ndarray) and rows.ndim == 2:
        rows = rows[None]
    rows = as_token_vectors(list(rows), name)
    masks = as_array(mask) if is_tensor(mask) else mask
    masks = [masks] if isinstance(masks, np.ndarray) and masks.ndim == 1 else list(masks)
    if len(masks) != len(rows):
        raise OptionError(f"{name}_mask is for {len(masks)} texts, and {name} has {len(rows)}.")
    return [_kept(one, as_array(m), f"{name}_mask") for one, m in zip(rows, masks, strict=True)]


def _kept(rows: NDArray[np.float32], mask: NDArray[Any], name: str) -> NDArray[np.float32]:
    # A mask of several texts is as wide as the longest.
    if mask.ndim != 1 or len(mask) < len(rows):
        raise OptionError(f"{name} covers {list(mask.shape)} of {len(rows)} vectors.")
    chosen: NDArray[np.float32] = rows[mask[: len(rows)].astype(bool)]
    return chosen


def _device(vectors: Any) -> Any:
    first: Any = vectors if is_tensor(vectors) else next(iter(vectors), None)
    return first.device if is_tensor(first) else None
