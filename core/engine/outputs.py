"""Several kinds of embeddings of the same texts: of batches, joined, spread over equal texts.

Such a result is a mapping: "dense" float32 [n, dimension], "sparse" `SparseEmbeddings` [n,
vocabulary], "multi_vector" a list of n arrays float32 [tokens, dimension]. What belongs to a text
is as in FlagEmbedding (M3-Embedding, arXiv:2402.03216).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.batch import TokenBatch
from core.engine.maxsim import maxsim, maxsim_pairwise
from core.engine.postprocessing import postprocess, to_tensor
from core.engine.similarity import similarity, similarity_pairwise
from core.engine.sparse import SparseEmbeddings
from core.engine.sparse_similarity import sparse_similarity, sparse_similarity_pairwise
from core.errors import OptionError
from core.options import DENSE, MULTI_VECTOR, SPARSE, EncodeOptions

Outputs = dict[str, Any]


def batch_outputs(
    computed: Mapping[str, NDArray[np.float32]],
    batch: TokenBatch,
    vocabulary: int,
    unweighted: Sequence[int],
) -> Outputs:
    """What `Runtime.outputs` gave for a batch, as embeddings of its texts.

    Args:
        vocabulary: How many dimensions sparse embeddings have.
        unweighted: Token ids that have no weight.
    """
    found: Outputs = dict(computed)
    if SPARSE in found:
        found[SPARSE] = _sparse(found[SPARSE], batch, vocabulary, unweighted)
    if MULTI_VECTOR in found:
        found[MULTI_VECTOR] = _vectors(found[MULTI_VECTOR], batch)
    return found


def _sparse(
    weights: NDArray[np.float32], batch: TokenBatch, vocabulary: int, unweighted: Sequence[int]
) -> SparseEmbeddings:
    """The largest weight of each word, of those over 0."""
    # Not `weights > 0`: what is no number shall show.
    kept = (batch.attention_mask > 0) & ~(weights <= 0) & ~np.isin(batch.input_ids, unweighted)
    row, column = np.nonzero(kept)
    places = row * vocabulary + batch.input_ids[row, column]
    order = np.argsort(places, kind="stable")
    places = places[order]
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    values = weights[row, column][order].astype(np.float32)
    if len(values):
        values = np.maximum.reduceat(values, starts)
    rows, indices = np.divmod(places[starts], vocabulary)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=batch.rows))])
    return SparseEmbeddings(
        indptr.astype(np.int64), indices.astype(np.int32), values, (batch.rows, vocabulary)
    )


def _vectors(vectors: NDArray[np.float32], batch: TokenBatch) -> list[NDArray[np.float32]]:
    """The vectors of each text's tokens but the first, which stands for the whole text."""
    masks = batch.attention_mask.astype(bool)
    return [row[mask][1:] for row, mask in zip(vectors, masks, strict=True)]


def no_outputs(names: Sequence[str], dimension: int, vocabulary: int) -> Outputs:
    """The result for no texts."""
    nothing: Outputs = {
        DENSE: np.empty((0, dimension), np.float32),
        SPARSE: SparseEmbeddings.from_dense(np.empty((0, vocabulary), np.float32)),
        MULTI_VECTOR: [],
    }
    return {name: nothing[name] for name in names}


def join_outputs(blocks: Sequence[Mapping[str, Any]]) -> Outputs:
    """One result of several, their texts one after another."""
    joined: Outputs = {}
    for name in blocks[0]:
        parts = [block[name] for block in blocks]
        if name == DENSE:
            joined[name] = np.concatenate(parts)
        elif name == SPARSE:
            joined[name] = SparseEmbeddings.concatenate(parts)
        else:
            joined[name] = [row for part in parts for row in part]
    return joined


def take_texts(result: Mapping[str, Any], rows: NDArray[np.int64]) -> Outputs:
    """The texts at these positions of a result, in this order; a text may come again."""
    taken: Outputs = {}
    for name, value in result.items():
        if name == MULTI_VECTOR:
            again = np.ones(len(rows), dtype=bool)
            again[np.unique(rows, return_index=True)[1]] = False
            # Each is the caller's own, to write to.
            pairs = zip(rows.tolist(), again.tolist(), strict=True)
            taken[name] = [value[row].copy() if repeats else value[row] for row, repeats in pairs]
        else:
            taken[name] = value[rows]
    return taken


def first_output(result: Mapping[str, Any]) -> Outputs:
    """The result of a single text: `[dimension]`, one row of `SparseEmbeddings`, and `[tokens,
    dimension]`."""
    return {name: value[:1] if name == SPARSE else value[0] for name, value in result.items()}


def output_similarity(
    a: Any, b: Any, function: str, *, pairwise: bool = False
) -> NDArray[np.float32]:
    """How alike embeddings of one kind are: float32 [len(a), len(b)], or [len(a)] row by row.

    Args:
        function: For dense embeddings. Sparse ones are compared by dot product, and lists of
            arrays [tokens, dimension] by the mean of MaxSim over the vectors of `a`.

    Raises:
        OptionError: Embeddings of different kinds, or such as cannot be compared.
    """
    kinds = {_kind_of(a), _kind_of(b)}
    if len(kinds) > 1:
        raise OptionError(
            f"similarity compares embeddings of one kind, not {' with '.join(sorted(kinds))} ones."
        )
    if kinds == {SPARSE}:
        return (sparse_similarity_pairwise if pairwise else sparse_similarity)(a, b)
    if kinds == {MULTI_VECTOR}:
        return (maxsim_pairwise if pairwise else maxsim)(a, b, "meanmaxsim")
    return (similarity_pairwise if pairwise else similarity)(a, b, function)


def _kind_of(embeddings: Any) -> str:
    if isinstance(embeddings, SparseEmbeddings):
        return SPARSE
    rows = embeddings if isinstance(embeddings, list | tuple) else ()
    return MULTI_VECTOR if rows and getattr(rows[0], "ndim", 1) == 2 else DENSE


def finish_outputs(
    result: Mapping[str, Any], options: EncodeOptions, truncate_dim: int | None, device: Any
) -> Outputs:
    """What the caller gets: the dense embeddings post-processed, tensors where that is asked for.

    Args:
        device: The `torch.device` that tensors belong on; None for the CPU.
    """
    tensors: dict[str, Callable[[Any], Any]] = {
        SPARSE: lambda value: value.to_torch(device),
        MULTI_VECTOR: lambda value: [to_tensor(row, device) for row in value],
    }
    finished: Outputs = {}
    for name, value in result.items():
        if name == DENSE:
            finished[name] = postprocess(value, options, truncate_dim, device)
        else:
            finished[name] = tensors[name](value) if options.convert_to_tensor else value
    return finished
