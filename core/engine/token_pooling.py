"""Fewer vectors for a text of which every token has one: close ones are replaced by their mean.

Vectors are joined by Ward's method on cosine distances, as sentence-transformers'
`HierarchicalTokenPooling` does with scipy (https://arxiv.org/abs/2409.14683). The nearest-neighbor
chain finds the same tree (F. Murtagh, A survey of recent advances in hierarchical clustering
algorithms, 1983), and clusters are numbered as `scipy.cluster.hierarchy.fcluster` does, so that the
pooled vectors come in the same order. Core needs no scipy.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.late_interaction import TokenPooling
from core.architecture.modules import unit_length
from core.engine.similarity import as_embeddings
from core.errors import OptionError
from core.options import TASKS, check_flag

Float64 = NDArray[np.float64]


def chosen_pooling(given: Any) -> TokenPooling | None:
    """What `token_pooling` of a call asks for: None, a `TokenPooling` or what is like one (such as
    sentence-transformers' `HierarchicalTokenPooling`), or a `pool_factor`.

    Raises:
        OptionError: Something else, or numbers out of range.
    """
    if given is None:
        return None
    if not isinstance(given, bool) and isinstance(given, Real):  # numpy's numbers are Real, too
        given = TokenPooling(float(given))
    names = ("pool_factor", "num_protected_tokens", "normalize_embeddings", "tasks")
    if not all(hasattr(given, name) for name in names):
        raise OptionError(
            "token_pooling must be a core.TokenPooling or a number, its pool_factor, not "
            f"{given!r:.80}."
        )
    factor, kept, scaled, tasks = (getattr(given, name) for name in names)
    _check_numbers(factor, kept)
    check_flag("normalize_embeddings of token_pooling", scaled)
    tasks = [tasks] if isinstance(tasks, str) else tasks
    if not isinstance(tasks, list | tuple) or not set(tasks) <= set(TASKS):
        raise OptionError(f"tasks of token_pooling must be some of {TASKS}, not {tasks!r:.80}.")
    return TokenPooling(float(factor), int(kept), scaled, tuple(tasks))


def pool_tokens(
    vectors: Any,
    pool_factor: float,
    num_protected_tokens: int = 1,
    normalize_embeddings: bool = True,
) -> NDArray[np.float32]:
    """About one vector in `pool_factor` of a text's vectors [tokens, dimension] of length 1.

    Args:
        pool_factor: 1 or more; 1 joins none.
        num_protected_tokens: So many leading vectors stay as they are, such as that of [CLS].
        normalize_embeddings: Scale all results to length 1.

    Returns:
        float32 [protected + (tokens - protected) // pool_factor, dimension]: the protected vectors,
        then the means. Fewer where distances are equal, and one mean at least.

    Raises:
        OptionError: Arguments out of range, or no such vectors.
    """
    _check_numbers(pool_factor, num_protected_tokens)
    rows = as_embeddings(vectors, "vectors")
    protected, rest = rows[:num_protected_tokens], rows[num_protected_tokens:]
    count = max(int(len(rest) // pool_factor), 1)
    if count < len(rest):
        distances = np.clip(1 - rest @ rest.T, 0, 2)
        labels = ward_clusters(distances, count)
        sums = np.zeros((labels.max() + 1, rest.shape[1]), dtype=np.float32)
        np.add.at(sums, labels, rest)
        means = sums / np.bincount(labels).astype(np.float32)[:, None]
        rows = np.concatenate([protected, means])
    return np.asarray(unit_length(np, rows)) if normalize_embeddings else rows


def _check_numbers(pool_factor: Any, num_protected_tokens: Any) -> None:
    number = isinstance(pool_factor, Real) and not isinstance(pool_factor, bool)
    if not number or not pool_factor >= 1:  # NaN is neither above nor below
        raise OptionError(f"pool_factor must be a number of 1 or more, not {pool_factor!r}.")
    if (
        isinstance(num_protected_tokens, bool)
        or not isinstance(num_protected_tokens, Integral)
        or num_protected_tokens < 0
    ):
        raise OptionError(
            f"num_protected_tokens must be a number of 0 or more, not {num_protected_tokens!r}."
        )


def ward_clusters(distances: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The cluster of each of n points, when at most `count` clusters are left; from 0.

    Args:
        distances: Symmetric [n, n]; n at least 2.
    """
    tree, heights = _ward_tree(distances)
    points = len(distances)
    # All joins as high as the last one needed are made.
    joined = heights <= heights[points - 1 - count] if count < points else heights < 0
    return _number_clusters(tree, joined, points)


def _ward_tree(distances: NDArray[Any]) -> tuple[NDArray[np.int64], Float64]:
    """Which two clusters are joined, lowest first [n - 1, 2], and at which height.

    The points are clusters 0 to n - 1; the join in row i makes cluster n + i.
    """
    points = len(distances)
    upper = np.triu(distances.astype(np.float64), 1)
    between = upper + upper.T
    np.fill_diagonal(between, np.inf)
    sizes = np.ones(points)
    joins = np.empty((points - 1, 2), dtype=np.int64)
    heights = np.empty(points - 1)
    chain: list[int] = []
    for number in range(points - 1):
        if not chain:
            chain.append(int(np.argmax(sizes > 0)))
        while True:
            last = chain[-1]
            nearest = int(np.argmin(between[last]))
            # Of equally near ones the one before in the chain, or it would go in circles.
            if len(chain) > 1 and between[last, nearest] >= between[last, chain[-2]]:
                break
            chain.append(nearest)
        first, second = sorted((chain.pop(), chain.pop()))
        height = between[first, second]
        joins[number], heights[number] = (first, second), height
        a, b = sizes[first], sizes[second]
        # The join takes the place of the second; the first is gone.
        others = np.flatnonzero(sizes > 0)
        others = others[(others != first) & (others != second)]
        to_first, to_second, size = between[first, others], between[second, others], sizes[others]
        share = 1.0 / (a + b + size)
        joined = np.sqrt(
            (size + a) * share * to_first * to_first
            + (size + b) * share * to_second * to_second
            - size * share * height * height
        )
        between[second, others] = between[others, second] = joined
        between[first, :] = between[:, first] = np.inf
        sizes[first], sizes[second] = 0, a + b
    order = np.argsort(heights, kind="stable")
    return _name_clusters(joins[order], points), heights[order]


def _name_clusters(joins: NDArray[np.int64], points: int) -> NDArray[np.int64]:
    """Joins of points become joins of the clusters that the points are in by then."""
    parent = list(range(2 * points - 1))

    def cluster_of(point: int) -> int:
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = parent[point]
        return point

    named = np.empty_like(joins)
    for number, (first, second) in enumerate(joins.tolist()):
        pair = sorted((cluster_of(first), cluster_of(second)))
        named[number] = pair
        parent[pair[0]] = parent[pair[1]] = points + number
    return named


def _number_clusters(
    tree: NDArray[np.int64], joined: NDArray[np.bool_], points: int
) -> NDArray[np.int64]:
    """Clusters of points, numbered from the top of the tree, its branches before its points."""
    labels = np.empty(points, dtype=np.int64)
    found = 0
    waiting: list[tuple[int, int]] = [(2 * points - 2, -1)]
    while waiting:
        node, cluster = waiting.pop()
        if node >= points:
            if cluster < 0 and joined[node - points]:
                cluster, found = found, found + 1
            children = tree[node - points].tolist()
            branches = [child for child in children if child >= points]
            leaves = [child for child in children if child < points]
            waiting += [(child, cluster) for child in reversed(branches + leaves)]
            continue
        if cluster < 0:
            cluster, found = found, found + 1
        labels[node] = cluster
    return labels
