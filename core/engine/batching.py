"""Texts into padded batches under a token budget.

Sorting by token count keeps padding at a few percent, and small batches keep activations in the
processor's cache: docs/performance.md has the measurements.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.batch import TokenBatch
from core.machine.processor import cache_bytes
from core.tokenizer.tokenizer import TokenizedTexts

#: An accelerator wants to be filled.
ACCELERATOR_BATCH_TOKENS = 16_384

# A batch's widest activations (the feed-forward layer's, float32) should stay in a core's share of
# the cache beside the weights in use; measured in docs/performance.md.
_ACTIVATION_SHARE = 0.2

_USUAL_CACHE_BYTES = 16 * 1024 * 1024

# Fewer rows than this and a matrix product waits for its weights; many more gain nothing.
_CPU_BATCH_TOKENS = (256, 1_024)

# Logits of a batch, float32.
_LOGITS = 8 * 1024 * 1024

# Below this many tokens a batch of its own costs more than it saves.
_LEAST_BATCH_TOKENS = 64

# What a batch costs beside its tokens, in tokens: 27 with MiniLM on ONNX Runtime.
_BATCH_COST = 32

# With so many batches for each worker only the last ones are made equal.
_FEW = 8

# Of more texts little is padding, and smaller batches would cost more than they save.
_MOST_PLANNED = 128


def cpu_batch_tokens(config: Mapping[str, Any], cpus: int, cache: int | None = None) -> int:
    """Tokens per batch that run fastest on a CPU.

    Args:
        config: The model's config.json, for its width.
        cpus: Cores with a batch each.
        cache: Bytes of cache for each of them; this machine's by default.
    """
    names = ("intermediate_size", "d_ff", "ffn_dim", "hidden_dim")
    width = next((config[name] for name in names if isinstance(config.get(name), int)), 0)
    if width < 1:
        hidden = config.get("hidden_size", config.get("dim", config.get("d_model")))
        width = 4 * hidden if isinstance(hidden, int) and hidden > 0 else 1_536
    least, most = _CPU_BATCH_TOKENS
    room = int(_ACTIVATION_SHARE * (cache or cache_bytes(cpus) or _USUAL_CACHE_BYTES))
    tokens = room // (4 * width)
    # A power of two, so that texts cut at the usual limits fill a batch.
    return min(max(1 << max(tokens, 1).bit_length() - 1, least), most)


def logits_batch_tokens(vocabulary: int) -> int:
    """Tokens per batch of a runtime that holds the logits of a whole vocabulary for each of them:
    32 MB of logits, but never so few tokens that texts of a usual length are alone in a batch."""
    return max(_LOGITS // max(vocabulary, 1), _LEAST_BATCH_TOKENS)


@dataclass(frozen=True)
class Batches:
    """Texts sorted by length and cut into batches.

    Attributes:
        order: int64 [texts]: the text at each sorted position.
        bounds: (first, last + 1) sorted position of each batch.
    """

    tokenized: TokenizedTexts
    order: NDArray[np.int64]
    bounds: list[tuple[int, int]]
    pad_id: int
    padding_side: str
    prompt_tokens: int

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], TokenBatch]]:
        """(positions of the texts in the caller's list, the padded batch), longest first."""
        ends = np.cumsum(self.tokenized.lengths)
        for first, last in self.bounds:
            lengths = self.tokenized.lengths[first:last]
            part = slice(int(ends[first] - lengths[0]), int(ends[last - 1]))
            ids, types = self.tokenized.ids[part], self.tokenized.type_ids
            types = None if types is None else types[part]
            batch = pad(ids, lengths, self.pad_id, self.padding_side, self.prompt_tokens, types)
            yield self.order[first:last], batch


def cut_batches(
    tokenized: TokenizedTexts,
    *,
    batch_tokens: int,
    batch_size: int | None,
    pad_id: int,
    padding_side: str,
    prompt_tokens: int = 0,
    workers: int = 1,
    equal_lengths: bool = False,
) -> Batches:
    """Sort by token count, longest first, and fill batches up to `batch_tokens` padded tokens.

    A single text over the budget makes a batch of its own. For several workers, batches of few
    texts are cut so that all of them are done soonest: with little padding, and so that the workers
    end together. Of many texts only the last batches are made equal. With `equal_lengths` only
    texts of the same token count share a batch, and nothing is padded.
    """
    if len(tokenized.lengths) == 1:
        alone = np.zeros(1, dtype=np.int64)
        return Batches(tokenized, alone, [(0, 1)], pad_id, padding_side, prompt_tokens)
    # Longest first: the last batch to finish is a short one, and memory peaks at once.
    order = np.argsort(-tokenized.lengths, kind="stable")
    lengths = tokenized.lengths[order]
    rows = len(lengths) if batch_size is None else min(batch_size, len(lengths))
    bounds = _fill(lengths, batch_tokens, rows)
    if equal_lengths:
        bounds = [part for first, last in bounds for part in _equal_runs(lengths, first, last)]
    elif workers > 1:
        few = len(bounds) < _FEW * workers
        bounds = _share_rest(lengths, bounds, workers, batch_tokens, rows)
        if few:
            bounds = _soonest(lengths, bounds, workers, batch_tokens, rows)
    return Batches(tokenized.reorder(order), order, bounds, pad_id, padding_side, prompt_tokens)


def _fill(lengths: NDArray[np.int64], budget: int, most_rows: int) -> list[tuple[int, int]]:
    bounds = []
    first, count = 0, len(lengths)
    while first < count:
        width = max(int(lengths[first]), 1)
        last = min(first + min(max(budget // width, 1), most_rows), count)
        bounds.append((first, last))
        first = last
    return bounds


def _equal_runs(lengths: NDArray[np.int64], first: int, last: int) -> list[tuple[int, int]]:
    """A batch cut wherever the next text is shorter."""
    steps = np.flatnonzero(np.diff(lengths[first:last])) + first + 1
    return list(itertools.pairwise([first, *steps.tolist(), last]))


def _soonest(
    lengths: NDArray[np.int64],
    filled: list[tuple[int, int]],
    workers: int,
    budget: int,
    most_rows: int,
) -> list[tuple[int, int]]:
    """Of several ways to cut few texts, the one whose last batch ends first."""
    least = -(-len(filled) // workers) * workers
    equal = [_equal_parts(lengths, n, budget, most_rows) for n in (least, least + workers)]
    ways = [filled, *(way for way in equal if way is not None)]
    if len(lengths) <= _MOST_PLANNED:
        ways += [_least_padded(lengths, tokens, most_rows) for tokens in (budget, budget // 2)]
    return min(ways, key=lambda bounds: _seconds(lengths, bounds, workers))


def _seconds(lengths: NDArray[np.int64], bounds: list[tuple[int, int]], workers: int) -> int:
    """When the last batch ends if each goes to whichever worker is free first; in tokens' time."""
    ends = [0] * workers
    for first, last in bounds:
        heapq.heapreplace(ends, ends[0] + _BATCH_COST + (last - first) * int(lengths[first]))
    return max(ends)


def _least_padded(lengths: NDArray[np.int64], budget: int, most_rows: int) -> list[tuple[int, int]]:
    """The batches that cost least, padding and batches counted: a shortest path over the cuts."""
    widths = [max(width, 1) for width in lengths.tolist()]
    count = len(widths)
    cost = [0] + [sys.maxsize] * count  # of the first texts
    start = [0] * (count + 1)  # of the batch that ends there
    for first, width in enumerate(widths):
        before = cost[first] + _BATCH_COST
        stop = min(first + min(max(budget // width, 1), most_rows), count)
        for last in range(first, stop):
            # Alone, a text that is so much shorter would cost less.
            if width - widths[last] > _BATCH_COST:
                break
            before += width
            if before < cost[last + 1]:
                cost[last + 1], start[last + 1] = before, first
    bounds = []
    end = count
    while end:
        bounds.append((start[end], end))
        end = start[end]
    return bounds[::-1]


def _share_rest(
    lengths: NDArray[np.int64],
    bounds: list[tuple[int, int]],
    workers: int,
    budget: int,
    most_rows: int,
) -> list[tuple[int, int]]:
    """The batches; those that are left when every worker has done as many, cut into one for each.

    Of 35 equal batches one of two workers would do 18 and the other wait for it.
    """
    rest = len(bounds) % workers
    if not rest:
        return bounds
    first = bounds[-rest][0]
    parts = _equal_parts(lengths[first:], workers, budget, most_rows)
    if parts is None:
        return bounds
    return [*bounds[:-rest], *((first + start, first + stop) for start, stop in parts)]


def _equal_parts(
    lengths: NDArray[np.int64], count: int, budget: int, most_rows: int
) -> list[tuple[int, int]] | None:
    """`count` batches of about equal token counts.

    None where that would break a limit or cut texts into batches too small to be worth it.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    if count > len(lengths) or total < count * _LEAST_BATCH_TOKENS:
        return None
    cuts = np.searchsorted(ends, np.arange(1, count) * (total / count)) + 1
    cuts = np.unique(np.concatenate([[0], np.minimum(cuts, len(lengths) - 1), [len(lengths)]]))
    sizes = np.diff(cuts)
    padded = sizes * lengths[cuts[:-1]]
    fits = len(sizes) == count and sizes.max() <= most_rows
    if not fits or not ((padded <= budget) | (sizes == 1)).all():
        return None
    return list(itertools.pairwise(cuts.tolist()))


def pad(
    ids: NDArray[np.int32],
    lengths: NDArray[np.int64],
    pad_id: int,
    padding_side: str,
    prompt_tokens: int = 0,
    type_ids: NDArray[np.int32] | None = None,
) -> TokenBatch:
    """One batch of the texts whose token ids (and token types) lie end to end in `ids`."""
    width = max(int(lengths.max()), 1)
    if len(ids) == width * len(lengths):
        input_ids = ids.reshape(len(lengths), width).astype(np.int64)
        types = np.zeros_like(input_ids)
        if type_ids is not None:
            types[:] = type_ids.reshape(types.shape)
        return TokenBatch(input_ids, np.ones_like(input_ids), types, prompt_tokens)
    columns = np.arange(width)
    if padding_side == "left":
        real = columns >= (width - lengths)[:, None]
    else:
        real = columns < lengths[:, None]
    input_ids = np.full((len(lengths), width), pad_id, dtype=np.int64)
    input_ids[real] = ids
    types = np.zeros_like(input_ids)
    if type_ids is not None:
        types[real] = type_ids
    return TokenBatch(
        input_ids=input_ids,
        attention_mask=real.astype(np.int64),
        token_type_ids=types,
        prompt_tokens=prompt_tokens,
    )
