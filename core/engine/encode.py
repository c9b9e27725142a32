"""The shared encode engine: a backend's `encode` hook is one call of `encode_texts`.

Each text is tokenized once, texts are sorted by token count and cut into batches under a token
budget, several batches run at once where the runtime allows it, and rows go straight into one
array in the caller's order. Equal texts are computed once.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from core.architecture.architecture import Architecture
from core.architecture.batch import TokenBatch
from core.architecture.heads import Scoring
from core.architecture.kinds import MULTI_VECTOR, RERANKER, SPARSE
from core.architecture.modules import of_tokens, pools_prompt, run_token_modules
from core.engine.ahead import TokenizedAhead, read_behind
from core.engine.batching import ACCELERATOR_BATCH_TOKENS, Batches, cpu_batch_tokens, cut_batches
from core.engine.limits import check_tokens, known_vocabulary, padding_id
from core.engine.outputs import (
    Outputs,
    batch_outputs,
    join_outputs,
    no_outputs,
    take_texts,
)
from core.engine.runtime import Runtime
from core.engine.sparse import SparseEmbeddings, gather_rows
from core.engine.token_vectors import ScoredBatches, ScoringRules, cut_out
from core.errors import CoreError, ModelFormatError, OptionError, PluginError
from core.machine.forks import check_fork
from core.options import DENSE, EncodeOptions
from core.tokenizer.beside import processes_beside
from core.tokenizer.tokenizer import Text, TokenizedTexts, Tokenizer

logger = logging.getLogger("core")

_SHOWN_POSITIONS = 5

#: Texts for which processes are started that tokenize, in parts of those that are tokenized at a
#: time: fewer would be done before these have started.
_LEAST_BESIDE = 2

# How runtimes and drivers say that memory ran out; most raise nothing more than a RuntimeError.
_OUT_OF_MEMORY = re.compile(
    r"alloc|out ?of ?memory|(not enough|insufficient) memory|memory object|CL_OUT_OF_",
    re.IGNORECASE,
)


class BatchSource(Protocol):
    """Batches, and the text at each of their rows."""

    @property
    def order(self) -> NDArray[np.int64]: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], TokenBatch]]: ...


_Start = Callable[[TokenBatch], Callable[[], NDArray[np.float32]]]


class Encodable(Protocol):
    """What the engine needs of a model."""

    runtime: Any

    @property
    def closed(self) -> bool: ...

    @property
    def tokenizer(self) -> Tokenizer: ...


def encode_texts(model: Encodable, texts: Sequence[Text], options: EncodeOptions) -> Any:
    """Run `texts`, or pairs of texts, with the model's tokenizer and runtime.

    Returns:
        Of an embedding model float32 [len(texts), dimension]; for
        `output_value="token_embeddings"` a list of float32 [tokens, hidden], those that are pooled,
        padding removed; for `outputs` a mapping of `core.engine.outputs`. Of a reranker float32
        [len(texts), labels], before any activation function. Of a sparse encoder `SparseEmbeddings`
        [len(texts), dimension]. Of a multi-vector model a list of float32 [tokens, dimension],
        tokens without a vector left out.

    Raises:
        PluginError: A batch failed; the message names positions of its texts.
    """
    runtime = model.runtime
    if model.closed:
        raise OptionError(f"{model!r} is closed. Load it again to use it.")
    if not isinstance(runtime, Runtime):
        raise OptionError(
            f"encode_texts runs models whose runtime is a core.Runtime; this one's is "
            f"{type(runtime).__name__}."
        )
    check_fork(runtime)
    if runtime.architecture.kind == RERANKER:
        width = runtime.architecture.dimension
        return _rows(model, runtime, texts, options, runtime.scores, lambda: width)
    if runtime.architecture.kind == MULTI_VECTOR:
        return _token_vectors(cast("Any", model), runtime, texts, options)
    if runtime.architecture.kind == SPARSE:
        return _sparse_rows(model, runtime, cast("Sequence[str]", texts), options)
    if options.output_value == "token_embeddings":
        return _token_embeddings(model, runtime, texts, options)
    if options.outputs is not None:
        return _outputs(model, runtime, texts, options, options.outputs)
    compute, any_model = runtime.sentence_embeddings, cast("Any", model)
    start = runtime.start_sentence_embeddings if runtime.batches_ahead else None
    return _rows(model, runtime, texts, options, compute, lambda: any_model.full_dimension, start)


def _rows(
    model: Encodable,
    runtime: Runtime,
    texts: Sequence[Text],
    options: EncodeOptions,
    compute: Callable[..., NDArray[np.float32]],
    width: Callable[[], int],
    start: _Start | None = None,
) -> NDArray[np.float32]:
    """One row of numbers for each text."""
    if not texts:
        return np.empty((0, width()), dtype=np.float32)
    firsts, duplicates, originals = find_duplicates(texts)
    batches: BatchSource
    part = runtime.texts_ahead
    if part is None or len(texts) - len(duplicates) <= part:
        batches = _prepare(model, runtime, texts, options, firsts)
    else:
        order = np.arange(len(texts)) if firsts is None else firsts
        batches = _tokenized_ahead(model, runtime, texts, options, order, part)
    result: NDArray[np.float32] | None = None
    with _progress(options, len(batches.order)) as advance:
        for positions, rows in _run(runtime, batches, compute, options, start):
            if result is None:
                _check_rows(runtime.architecture, rows, len(positions))
                result = np.empty((len(texts), rows.shape[1]), dtype=np.float32)
            result[positions] = rows
            advance(len(positions))
    assert result is not None
    if len(duplicates):
        result[duplicates] = result[originals]
    return result


def _tokenized_ahead(
    model: Encodable,
    runtime: Runtime,
    texts: Sequence[Text],
    options: EncodeOptions,
    order: NDArray[np.int64],
    part: int,
) -> TokenizedAhead:
    """Batches of the texts at the positions `order`, so many of them tokenized at a time."""
    prepare = functools.partial(_prepare, model, runtime, texts, options)
    tokenizer = model.tokenizer
    beside = processes_beside(tokenizer, start=len(order) >= _LEAST_BESIDE * part)
    if beside is None:
        return TokenizedAhead(order, part, prepare)
    tokenize = functools.partial(beside.encode, tokenizer)
    # Until they have started, two parts at a time would only get into each other's way.
    at_once = max(len(beside.pids), 1)
    return TokenizedAhead(order, part, functools.partial(prepare, tokenize=tokenize), at_once)


def _check_rows(architecture: Architecture, rows: Any, count: int) -> None:
    """Refuse rows of another model's width, as the first batch shows it."""
    expected = architecture.dimension
    scores = architecture.kind == RERANKER
    if rows.ndim != 2 or len(rows) != count:
        raise ModelFormatError(
            f"The model gives an array of shape {list(rows.shape)} for {count} texts, which is not "
            f"one {'row of scores' if scores else 'embedding'} for each. Its file and its modules "
            "do not fit together."
        )
    if scores and rows.shape[1] != expected:
        raise ModelFormatError(
            f"The model gives {rows.shape[1]} scores for a pair, and there are {expected} labels "
            f"(id2label in config.json). {cast('Scoring', architecture.head).mend}"
        )
    # The model's own code may give what no configuration file states.
    if expected and rows.shape[1] != expected and "auto_map" not in architecture.config:
        raise ModelFormatError(
            f"The model gives embeddings of {rows.shape[1]} dimensions, and its configuration says "
            f"{expected}. File and configuration belong to different models."
        )


def _token_embeddings(
    model: Encodable, runtime: Runtime, texts: Sequence[Text], options: EncodeOptions
) -> list[NDArray[np.float32]]:
    modules = of_tokens(runtime.architecture.modules)

    def compute(batch: TokenBatch, *, workers: int) -> list[NDArray[np.float32]]:
        hidden = runtime.token_embeddings(batch, workers=workers)
        return cut_out(run_token_modules(np, modules, hidden), batch)

    def prepare(firsts: NDArray[np.int64] | None) -> Batches:
        return _prepare(model, runtime, texts, options, firsts)

    return _arrays(runtime, texts, options, compute, prepare)


def _token_vectors(
    model: Any, runtime: Runtime, texts: Sequence[Text], options: EncodeOptions
) -> list[NDArray[np.float32]]:
    def compute(batch: TokenBatch, *, workers: int) -> list[NDArray[np.float32]]:
        vectors = runtime.token_vectors(batch, workers=workers)
        _check_vectors(runtime.architecture, vectors, batch)
        return cut_out(vectors, batch)

    def prepare(firsts: NDArray[np.int64] | None) -> ScoredBatches:
        return scored_batches(model, texts, options, firsts)

    return _arrays(runtime, texts, options, compute, prepare)


def scored_batches(
    model: Any,
    texts: Sequence[Text],
    options: EncodeOptions,
    chosen: NDArray[np.int64] | None = None,
) -> ScoredBatches:
    """Batches of texts of a multi-vector model, or of those at the positions `chosen`.

    Args:
        model: A `core.MultiVectorEncoder`.
    """
    runtime: Runtime = model.runtime
    rules: ScoringRules = model.scoring_rules
    tokenizer: Tokenizer = model.tokenizer_for(options.task)
    plain = tokenizer.encode(texts if chosen is None else [texts[i] for i in chosen])
    tokenized = rules.expand(plain, options.task)
    check_tokens(runtime, tokenizer, tokenized, chosen)
    batches = cut_batches(
        tokenized,
        batch_tokens=_batch_tokens(runtime, options),
        batch_size=options.batch_size,
        pad_id=padding_id(runtime, tokenizer),
        padding_side="right",
        workers=_most_workers(runtime, options),
        equal_lengths=runtime.equal_lengths,
    )
    lengths = plain.lengths[batches.order]
    if chosen is not None:
        batches = replace(batches, order=chosen[batches.order])
    return ScoredBatches(batches, lengths, rules, options.task)


def _check_vectors(architecture: Architecture, vectors: Any, batch: TokenBatch) -> None:
    """Refuse vectors of another model's width."""
    shape, width = tuple(vectors.shape), architecture.dimension
    if len(shape) != 3 or shape[:2] != (batch.rows, batch.width) or shape[2] != (width or shape[2]):
        raise ModelFormatError(
            f"The model gives an array of shape {list(shape)} for {batch.rows} texts of "
            f"{batch.width} tokens, and its configuration says a vector of {width} dimensions for "
            "each token. File and configuration belong to different models."
        )


def _arrays(
    runtime: Runtime,
    texts: Sequence[Text],
    options: EncodeOptions,
    compute: Callable[..., list[NDArray[np.float32]]],
    prepare: Callable[[NDArray[np.int64] | None], BatchSource],
) -> list[NDArray[np.float32]]:
    """An array of its own for each text."""
    if not texts:
        return []
    results: list[NDArray[np.float32] | None] = [None] * len(texts)
    firsts, duplicates, originals = find_duplicates(texts)
    batches = prepare(firsts)
    with _progress(options, len(batches.order)) as advance:
        for positions, rows in _run(runtime, batches, compute, options):
            for position, row in zip(positions, rows, strict=True):
                results[position] = row
            advance(len(positions))
    for duplicate, original in zip(duplicates, originals, strict=True):
        computed = results[original]
        assert computed is not None
        results[duplicate] = computed.copy()
    return [row for row in results if row is not None]


def _sparse_rows(
    model: Any, runtime: Runtime, texts: Sequence[str], options: EncodeOptions
) -> SparseEmbeddings:
    """Each batch's rows without their zeros, put together at the end: all of them with zeros would
    be a hundred times as much."""
    lookup = model.lookup(options.task)
    if lookup is not None:
        found: SparseEmbeddings = lookup.encode(texts)
        return found.top(options.max_active_dims)
    if not texts:
        return SparseEmbeddings.from_rows([], model.dimension)

    def compute(batch: TokenBatch, *, workers: int) -> SparseEmbeddings:
        rows = runtime.sentence_embeddings(batch, workers=workers)
        _check_rows(runtime.architecture, rows, batch.rows)
        return SparseEmbeddings.from_dense(rows, options.max_active_dims)

    firsts, duplicates, originals = find_duplicates(texts)
    batches = _prepare(model, runtime, texts, options, firsts)
    order: list[NDArray[np.int64]] = []
    parts: list[SparseEmbeddings] = []
    with _progress(options, len(batches.order)) as advance:
        for positions, rows in _run(runtime, batches, compute, options):
            order.append(positions)
            parts.append(rows)
            advance(len(positions))
    place = np.empty(len(texts), dtype=np.int64)
    place[np.concatenate(order)] = np.arange(len(batches.order))
    place[duplicates] = place[originals]
    return gather_rows(parts, place)


def _outputs(
    model: Encodable,
    runtime: Runtime,
    texts: Sequence[Text],
    options: EncodeOptions,
    names: Sequence[str],
) -> Outputs:
    """Several kinds of embeddings of each text, of one pass."""
    known = known_vocabulary(runtime)
    vocabulary = known or model.tokenizer.backend.get_vocab_size(with_added_tokens=True)
    if not texts:
        return no_outputs(names, cast("Any", model).full_dimension, vocabulary)
    unweighted = model.tokenizer.special_ids

    def compute(batch: TokenBatch, *, workers: int) -> Outputs:
        computed = runtime.outputs(batch, names, workers=workers)
        return batch_outputs(computed, batch, vocabulary, unweighted)

    firsts, duplicates, originals = find_duplicates(texts)
    batches = _prepare(model, runtime, texts, options, firsts)
    blocks: list[Outputs] = []
    place = np.empty(len(texts), dtype=np.int64)  # of each text in the blocks
    count = 0
    with _progress(options, len(batches.order)) as advance:
        for positions, block in _run(runtime, batches, compute, options):
            if DENSE in block and not blocks:
                _check_rows(runtime.architecture, block[DENSE], len(positions))
            blocks.append(block)
            place[positions] = np.arange(count, count + len(positions))
            count += len(positions)
            advance(len(positions))
    place[duplicates] = place[originals]
    return take_texts(join_outputs(blocks), place)


def find_duplicates(
    texts: Sequence[Text],
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64], NDArray[np.int64]]:
    """(position of each distinct text, positions of repeats, where each was first).

    The first is None when nothing repeats.
    """
    nothing = np.empty(0, dtype=np.int64)
    if len(texts) == 1:
        return None, nothing, nothing
    seen: dict[Text, int] = {}
    owner = np.fromiter(
        map(seen.setdefault, texts, itertools.count()), dtype=np.int64, count=len(texts)
    )
    if len(seen) == len(texts):
        return None, nothing, nothing
    own = owner == np.arange(len(texts))
    return np.flatnonzero(own), np.flatnonzero(~own), owner[~own]


def _prepare(
    model: Encodable,
    runtime: Runtime,
    texts: Sequence[Text],
    options: EncodeOptions,
    chosen: NDArray[np.int64] | None = None,
    tokenize: Callable[[Sequence[Text]], TokenizedTexts] | None = None,
) -> Batches:
    """Batches of `texts`, or of those at the positions `chosen`.

    Args:
        tokenize: What the model's tokenizer does, done elsewhere.
    """
    tokenizer = model.tokenizer
    prompt_tokens = 0
    if options.prompt and not pools_prompt(runtime.architecture.modules):
        prompt_tokens = tokenizer.prompt_length(options.prompt)
    tokenized = (tokenize or tokenizer.encode)(
        texts if chosen is None else [texts[i] for i in chosen]
    )
    check_tokens(runtime, tokenizer, tokenized, chosen)
    batches = cut_batches(
        tokenized,
        batch_tokens=_batch_tokens(runtime, options),
        batch_size=options.batch_size,
        pad_id=padding_id(runtime, tokenizer),
        # Whatever the tokenizer's side: many models count positions by column, and only on the
        # right does padding leave a text where it stands alone.
        padding_side="right",
        prompt_tokens=prompt_tokens,
        workers=_most_workers(runtime, options),
        equal_lengths=runtime.equal_lengths,
    )
    return batches if chosen is None else replace(batches, order=chosen[batches.order])


def _batch_tokens(runtime: Runtime, options: EncodeOptions) -> int:
    if options.batch_tokens is not None:
        return int(options.batch_tokens)
    if runtime.batch_tokens is not None:
        return runtime.batch_tokens
    if not runtime.device.lower().startswith("cpu"):
        return ACCELERATOR_BATCH_TOKENS
    return cpu_batch_tokens(runtime.architecture.config, runtime.max_workers)


def _most_workers(runtime: Runtime, options: EncodeOptions) -> int:
    if options.workers is None:
        return runtime.max_workers
    return min(int(options.workers), runtime.max_workers)


def _run(
    runtime: Runtime,
    batches: BatchSource,
    compute: Callable[..., Any],
    options: EncodeOptions,
    start: _Start | None = None,
) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Results of `compute` over all batches, in any order, a bounded number of them at once.

    Args:
        start: Begins what `compute` does, where the runtime can; used with one worker.
    """
    workers = runtime.preferred_workers(len(batches))
    if options.workers is not None:
        workers = min(_most_workers(runtime, options), len(batches))

    def blamed(positions: NDArray[np.int64], batch: TokenBatch, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except CoreError:
            raise
        except Exception as error:
            raise _batch_error(positions, batch, error) from error

    def guarded(positions: NDArray[np.int64], batch: TokenBatch) -> Any:
        return blamed(positions, batch, lambda: compute(batch, workers=workers))

    if workers <= 1 and start is not None:

        def started(positions: NDArray[np.int64], batch: TokenBatch) -> Callable[[], Any]:
            read = blamed(positions, batch, lambda: start(batch))
            return lambda: blamed(positions, batch, read)

        yield from read_behind(batches, started, runtime.batches_ahead)
        return
    if workers <= 1:
        for positions, batch in batches:
            yield positions, guarded(positions, batch)
        return
    waiting: dict[Future[Any], NDArray[np.int64]] = {}
    source = iter(batches)
    with ThreadPoolExecutor(workers, thread_name_prefix="core-encode") as pool:
        try:
            # One batch more than workers is prepared, so that none waits for its padding.
            for positions, batch in itertools.islice(source, workers + 1):
                waiting[pool.submit(guarded, positions, batch)] = positions
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    finished = waiting.pop(future)
                    following = next(source, None)
                    if following is not None:
                        waiting[pool.submit(guarded, *following)] = following[0]
                    yield finished, future.result()
        finally:
            for future in waiting:
                future.cancel()


def _batch_error(positions: NDArray[np.int64], batch: TokenBatch, error: Exception) -> PluginError:
    shown = ", ".join(str(p) for p in positions[:_SHOWN_POSITIONS])
    more = ", ..." if len(positions) > _SHOWN_POSITIONS else ""
    advice = ""
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(f"{type(error).__name__} {error}"):
        advice = " If memory ran out, pass a smaller batch_tokens or batch_size."
    return PluginError(
        f"The runtime failed on the batch of {batch.rows} texts at positions {shown}{more} "
        f"({batch.width} tokens each with padding): {type(error).__name__}: "
        f"{str(error).strip().rstrip('.')}.{advice}"
    )


def _progress(options: EncodeOptions, total: int) -> AbstractContextManager[Callable[[int], Any]]:
    show = options.show_progress_bar
    if show is None:
        show = logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG)
    if not show or sys.stderr is None:
        return nullcontext(lambda count: None)
    return _ProgressBar(total)


class _ProgressBar(AbstractContextManager[Callable[[int], Any]]):
    def __init__(self, total: int) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, desc="Texts", unit="text")

    def __enter__(self) -> Callable[[int], Any]:
        advance: Callable[[int], Any] = self._bar.update
        return advance

    def __exit__(self, *_: object) -> None:
        self._bar.close()
