"""Where batches are computed: in this process, or in processes of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

import core
from core.toolkit import cpu_batch_tokens, cut_batches
from core_server import collector
from core_server.job import Call

#: An accelerator wants to be filled.
_ACCELERATOR_TOKENS = 16_384
#: A batch of the server holds so many of the engine's for each worker: fewer, and workers wait for
#: one another at its end; more, and those who come next wait longer.
_ENGINE_BATCHES = 4
#: Where the backend batches by itself.
_UNKNOWN_TOKENS = 4_096


class Engine(Protocol):
    """Computes batches for a dispatcher's threads."""

    @property
    def threads(self) -> int:
        """How many batches it can be given at once."""
        ...

    @property
    def up(self) -> bool:
        """Whether it would compute a batch now."""
        ...

    def run(self, call: Call, inputs: Sequence[Any]) -> Any:
        """One result for each input, in their order: an array, a list or `SparseEmbeddings`."""
        ...

    def restart(self) -> None:
        """Begin anew. Raises what loading the model raises."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class InProcess:
    """The model in this process, called from one thread: all processors belong to its batch.

    Args:
        model: It, loaded.
        load: Loads it again.
        batch_tokens: Of the engine's batches; None leaves it to the backend.
    """

    threads = 1

    def __init__(self, model: Any, load: Callable[[], Any], batch_tokens: int | None) -> None:
        self.model = model
        self._load = load
        self._batch_tokens = batch_tokens

    @property
    def up(self) -> bool:
        return not self.model.closed

    def run(self, call: Call, inputs: Sequence[Any]) -> Any:
        method = getattr(self.model, self.model.method)
        return method(inputs, **_options(self.model, call, self._batch_tokens))

    def restart(self) -> None:
        old, self.model = self.model, self._load()
        old.close()
        del old
        collector.renew()

    def close(self) -> None:
        self.model.close()


class InProcesses:
    """The model in processes of its own: what kills one of them kills nothing else.

    A process that ends is started again, and does the batch it had once more.

    Args:
        model: Loaded here; closed when every process has its own.
        count: How many processes.
        batch_tokens: Of the engine's batches; None leaves it to the backend.
    """

    def __init__(self, model: Any, count: int, batch_tokens: int | None) -> None:
        self._model = model
        self._batch_tokens = batch_tokens
        self._pool = core.ProcessPool(model, processes=count)
        self.threads = count
        model.close()  # it goes on to tokenize, and to finish what the processes computed

    @property
    def up(self) -> bool:
        return any(self._pool.running)

    @property
    def pids(self) -> list[int | None]:
        """Of each process; None while it is started again."""
        return [
            pid if alive else None
            for pid, alive in zip(self._pool.pids, self._pool.running, strict=True)
        ]

    def run(self, call: Call, inputs: Sequence[Any]) -> Any:
        method = getattr(self._pool, f"{self._model.method}_stream")
        options = _options(self._model, call, self._batch_tokens)
        # A stream's window goes to one process as it is; `encode` would cut it up.
        blocks = list(method(inputs, window=len(inputs), **options))
        return blocks[0] if len(blocks) == 1 else _joined(blocks)

    def restart(self) -> None:
        """Nothing to do: the pool has begun anew already."""

    def close(self) -> None:
        self._pool.close()


def _joined(blocks: list[Any]) -> Any:
    """What a stream cut up, because its texts are very long."""
    if isinstance(blocks[0], np.ndarray):
        return np.concatenate(blocks)
    return list(itertools.chain.from_iterable(rows_of(block) for block in blocks))


def rows_of(results: Any) -> list[Any]:
    """The result of each input."""
    if isinstance(results, dict):  # of a model with several heads, only one was asked for
        (results,) = results.values()
    if isinstance(results, core.SparseEmbeddings):
        return [results[i : i + 1] for i in range(len(results))]
    return list(results)


def _options(model: Any, call: Call, batch_tokens: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "prompt": call.prompt,
        "batch_tokens": batch_tokens,
        "show_progress_bar": False,
    }
    if call.task == "tokens":
        options["output_value"] = "token_embeddings"
    if call.role:
        options["task"] = call.role
    if call.task == "sparse" and model.kind == "embedding":
        options["outputs"] = ("sparse",)
    if call.task == "scores":
        options["activation_fn"] = "Identity"
    return options


def engine_batch_tokens(model: Any) -> int | None:
    """Tokens in a batch of the engine; None for backends that do not use core's."""
    runtime = model.runtime
    if not isinstance(runtime, core.Runtime):
        return None
    if runtime.batch_tokens is not None:
        return runtime.batch_tokens
    if not runtime.device.lower().startswith("cpu"):
        return _ACCELERATOR_TOKENS
    return cpu_batch_tokens(runtime.architecture.config, runtime.max_workers)


def server_batch_tokens(model: Any) -> int:
    """About how many tokens the dispatcher hands over at once, unless it is told."""
    tokens = engine_batch_tokens(model)
    if tokens is None:
        return _UNKNOWN_TOKENS
    return tokens * _ENGINE_BATCHES * int(model.runtime.max_workers)


class Padding:
    """How much padding the engine's batches have: cut as it cuts them, from the token counts."""

    def __init__(self, model: Any, batch_tokens: int | None) -> None:
        self._tokens = batch_tokens
        if batch_tokens is not None:
            self._workers = int(model.runtime.max_workers)
            self._equal_lengths = bool(model.runtime.equal_lengths)
            self._empty = model.tokenizer.encode([""])

    def of(self, lengths: Sequence[int]) -> int:
        """Tokens of padding, with inputs of these lengths in one call."""
        if self._tokens is None or len(lengths) < 2:
            return 0
        counts = np.asarray(lengths, dtype=np.int64)
        total = int(counts.sum())
        tokenized = replace(self._empty, ids=np.zeros(total, np.int32), lengths=counts)
        batches = cut_batches(
            tokenized,
            batch_tokens=self._tokens,
            batch_size=None,
            pad_id=0,
            padding_side="right",
            workers=self._workers,
            equal_lengths=self._equal_lengths,
        )
        ordered = counts[batches.order]
        return sum(int(ordered[a]) * (b - a) for a, b in batches.bounds) - total
