"""One model's queue, and the threads that take batches out of it.

There is no delay: a thread that is free takes what waits, at once. What arrives while a batch is
computed is the next batch.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Iterable
from typing import Any

from core.errors import CoreError
from core_server.engine import Engine, Padding, rows_of
from core_server.failures import RequestFailedError
from core_server.fair_queue import FairQueue
from core_server.job import Call, Job
from core_server.lengths import Lengths
from core_server.metrics import ModelMetrics

logger = logging.getLogger("core_server")

# A job on which the backend died this often is not tried again.
_MOST_DEATHS = 3
_LONGEST_PAUSE = 10.0
_LONGEST_ADVICE = 60
_PROBE = "probe"
#: Answers that are written before others get their turn; each takes about 0.2 ms.
_ANSWERS_A_TURN = 4

Taken = list[tuple[Job, int]]


class Dispatcher:
    """Batches of everybody's inputs for one model.

    Args:
        engine: What computes them.
        metrics: What is counted of them.
        lengths: How many tokens inputs have.
        padding: How much padding a batch has.
        batch_tokens: About how many tokens a batch has.
        turn: Tokens of a client's turn: the longest input's.
        max_inputs: How many inputs may wait.
    """

    def __init__(
        self,
        engine: Engine,
        metrics: ModelMetrics,
        lengths: Lengths,
        padding: Padding,
        *,
        batch_tokens: int,
        turn: int,
        max_inputs: int,
    ) -> None:
        self.engine = engine
        self.lengths = lengths
        self._metrics = metrics
        self._padding = padding
        self._batch_tokens = batch_tokens
        self._max_inputs = max_inputs
        self._queue: FairQueue[Job] = FairQueue(turn)
        self._changed = threading.Condition()
        self._closing = False
        self._restarting = threading.Lock()
        self._restarts = 0
        self._failing = False
        self._inputs = 0
        self._tokens = 0
        self._rate = 0.0  # tokens a second, of late
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._serve, daemon=True, name=f"core-serve-{i}")
            for i in range(engine.threads)
        ]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to compute; results are delivered on `loop`."""
        self._loop = loop
        for thread in self._threads:
            thread.start()

    @property
    def up(self) -> bool:
        """Whether the backend works, as far as is known."""
        return not self._failing and self.engine.up

    @property
    def alive(self) -> bool:
        """Whether the threads that take batches run."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def full(self) -> bool:
        """Whether a request would be refused, whatever it holds."""
        return self._inputs >= self._max_inputs

    @property
    def retry_after(self) -> int:
        """Seconds until what waits now will be done."""
        seconds = self._tokens / self._rate if self._rate else 1.0
        return min(max(math.ceil(seconds), 1), _LONGEST_ADVICE)

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            RequestFailedError: Too much waits already (429), or the server ends (503).
        """
        inputs, tokens = job.waiting
        with self._changed:
            if self._closing:
                raise RequestFailedError(503, "The server is shutting down.", retry_after=1)
            if self._inputs and self._inputs + inputs > self._max_inputs:
                raise RequestFailedError(
                    429,
                    f"{self._inputs} inputs wait for the model already, and no more than "
                    f"{self._max_inputs} may. Try again later.",
                    code="rate_limit_exceeded",
                    retry_after=self.retry_after,
                )
            self._count(inputs, tokens)
            self._queue.put(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Forget a job that nobody waits for; what is not computed yet will not be."""
        with self._changed:
            if not job.cancelled:
                inputs, tokens = job.waiting
                job.cancelled = True
                self._count(-inputs, -tokens)

    def close(self) -> None:
        """Finish what waits, then end the threads and the engine."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self.engine.close()

    def _count(self, inputs: int, tokens: int) -> None:
        self._inputs += inputs
        self._tokens += tokens
        self._metrics.queue(self._inputs, self._tokens)

    # The threads

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            if taken:
                try:
                    self._compute(taken)
                except BaseException as error:  # the thread must go on, and nobody wait for ever
                    logger.exception("a batch failed in an unexpected way")
                    self._deliver([(job, error) for job in {id(j): j for j, _ in taken}.values()])

    def _take(self) -> Taken | None:
        """The next batch; None when the server ends."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            if not self._queue:
                return None
            taken = self._queue.take(self._batch_tokens)
            self._count(-len(taken), -sum(job.costs[i] for job, i in taken))
            now = time.monotonic()
            for job, _ in taken:
                if job.started_at is None:
                    job.started_at = now
                    self._metrics.waited(now - job.queued_at)
            return taken

    def _compute(self, taken: Taken) -> None:
        groups: dict[Call, Taken] = {}
        for job, position in taken:
            groups.setdefault(job.call, []).append((job, position))
        for call, group in groups.items():
            started = time.monotonic()
            try:
                finished = self._run(call, group)
            except Exception as error:
                self._recover(call, group, error)
                continue
            seconds = time.monotonic() - started
            self._note(self._counted(call, group), seconds)
            self._deliver([(job, None) for job in finished])

    def _run(self, call: Call, group: Taken) -> list[Job]:
        """Compute; the jobs that are complete now."""
        results = rows_of(self.engine.run(call, [job.inputs[i] for job, i in group]))
        pairs = zip(group, results, strict=True)
        return [job for (job, i), result in pairs if job.fill(i, result)]

    def _counted(self, call: Call, group: Taken) -> list[int]:
        """Tokens of the inputs, noted in their jobs."""
        lengths = self.lengths.count([job.inputs[i] for job, i in group], call.prompt)
        for (job, _), length in zip(group, lengths, strict=True):
            job.tokens += length
        return lengths

    def _note(self, lengths: list[int], seconds: float) -> None:
        tokens = sum(lengths)
        if seconds > 0:
            rate = tokens / seconds
            self._rate = rate if not self._rate else 0.8 * self._rate + 0.2 * rate
        share = tokens / self._batch_tokens
        self._metrics.batch(len(lengths), tokens, self._padding.of(lengths), share, seconds)

    # What fails

    def _recover(self, call: Call, group: Taken, error: Exception) -> None:
        """Find out who is to blame: the backend is started again, or one request is refused."""
        restarts = self._restarts
        if not self._works(call, group):
            self._metrics.died()
            logger.error("the backend failed: %s", error)
            self._restart(restarts)
            for job, _ in group:
                job.deaths += 1
        elif len({id(job) for job, _ in group}) == 1:
            self._deliver([(group[0][0], _refusal(error))])
            return
        for own in _by_job(group):
            if own[0][0].deaths >= _MOST_DEATHS:
                self._deliver([(own[0][0], _refusal(error))])
                continue
            try:
                finished = self._run(call, own)
                self._counted(call, own)
                self._deliver([(job, None) for job in finished])
            except Exception as again:
                if own[0][0].deaths:
                    self._recover(call, own, again)
                else:
                    self._deliver([(own[0][0], _refusal(again))])

    def _works(self, call: Call, group: Taken) -> bool:
        """Whether the backend computes something that is not these inputs."""
        pair = isinstance(group[0][0].inputs[0], tuple)
        try:
            self.engine.run(call, [(_PROBE, _PROBE) if pair else _PROBE])
        except Exception:
            return False
        return True

    def _restart(self, seen: int) -> None:
        """Start the backend again, however long it takes; once for all threads."""
        with self._restarting:
            if self._restarts != seen:
                return
            self._failing = True
            pause = 0.1
            while not self._closing:
                try:
                    self.engine.restart()
                    break
                except Exception as error:
                    logger.error("the backend does not start again: %s", error)
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
            self._restarts += 1
            self._failing = False
            self._metrics.restarted()
            logger.warning("the backend was started again")

    def _deliver(self, ended: Iterable[tuple[Job, BaseException | None]]) -> None:
        ended = list(ended)
        if ended and self._loop is not None:
            self._loop.call_soon_threadsafe(_finish, self._loop, ended)


def _finish(loop: asyncio.AbstractEventLoop, ended: list[tuple[Job, Any]]) -> None:
    """Wake who waits: a few in each turn of the loop, so that requests that come are not kept
    waiting while the answers of a whole batch are written."""
    for job, failure in ended[:_ANSWERS_A_TURN]:
        job.finish(failure)
    if len(ended) > _ANSWERS_A_TURN:
        loop.call_soon(_finish, loop, ended[_ANSWERS_A_TURN:])


def _by_job(group: Taken) -> list[Taken]:
    found: dict[int, Taken] = {}
    for job, position in group:
        found.setdefault(id(job), []).append((job, position))
    return list(found.values())


def _refusal(error: Exception) -> RequestFailedError:
    """What a client learns of a failure that its own inputs cause: no more than core says."""
    shown = str(error) if isinstance(error, CoreError) else type(error).__name__
    return RequestFailedError(424, f"The model failed on this request: {shown}", code="backend")
