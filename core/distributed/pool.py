"""Encoding in several processes, with any backend.

    with core.ProcessPool(model, processes=4) as pool:
        embeddings = pool.encode(texts)
        for block in pool.encode_stream(generator):
            ...

One process already uses every core of a machine. More are for several devices, for backends that
run one batch at a time, and for keeping a crash of a runtime away from the program: a process that
dies is started again and does its work once more.

Each process loads the model by itself from its original source, so any start method of the
program's own works, and no `if __name__ == "__main__"` is needed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from core.arguments import check_keywords, check_kind
from core.engine.encode import find_duplicates
from core.errors import OptionError, PluginError, UnsupportedOperation
from core.machine.child import Child, ChildDiedError
from core.machine.cpus import MOST_THREADS, available_cpus
from core.machine.surroundings import is_frozen
from core.models.model import Model
from core.models.truncation import check_truncation
from core.options import EncodeOptions, check_positive
from core.texts.inputs import check_stream, choose_prompt, take_window
from core.texts.pairs import is_one_pair

#: Texts given to a process at once.
CHUNK_TEXTS = 1_024

#: The same of a process with a device of its own: a GPU takes more to be filled.
DEVICE_CHUNK_TEXTS = 16_384

# Work that has ended this many processes is not given to another.
_MOST_DEATHS = 3

# An idle worker process is looked after this often.
_LOOK_SECONDS = 1.0


@dataclass
class _Task:
    texts: Sequence[Any]
    start: int
    options: EncodeOptions
    future: Future[Any] = field(default_factory=Future)
    deaths: int = 0


class ProcessPool:
    """Processes that each hold a copy of a model, of any kind. Safe to use from several threads.

    Prompts and truncation are those of `model` at the time of a call. Its `max_seq_length` is
    that of the time the pool was made.

    Args:
        model: From `core.load`, or another function that loads one.
        processes: How many; None for the processors this process may use.
        threads: Each process's own; None shares the processors out.
        devices: One process for each of these instead, its model loaded there.

    Raises:
        CoreError: The model cannot be loaded again in another process; what its load raised.
    """

    @check_keywords
    def __init__(
        self,
        model: Model,
        processes: int | None = None,
        *,
        threads: int | None = None,
        devices: Sequence[str] | None = None,
    ) -> None:
        check_kind("model", model, Model)
        if devices is not None:
            if not isinstance(devices, list | tuple) or not all(
                isinstance(device, str) for device in devices
            ):
                raise OptionError(f"devices must be a list of names, not {devices!r}.")
            if not devices or processes not in (None, len(devices)):
                raise OptionError(
                    f"devices={list(devices)!r} asks for one process each: name at least one, and "
                    "leave out processes."
                )
            processes = len(devices)
        for name, value in (("processes", processes), ("threads", threads)):
            check_positive(name, value)
        if threads is not None and threads > MOST_THREADS:
            raise OptionError(f"threads must be {MOST_THREADS:,} or less, not {threads!r}.")
        if is_frozen():
            raise UnsupportedOperation(
                "ProcessPool starts Python processes, and this program is a frozen application: "
                "its executable would start itself again. Encode in this process, which uses every "
                "processor, or call model.encode from several threads."
            )
        if not model.hooks.distribution:
            raise OptionError(
                f"The {model.backend} backend was registered in code, which other processes do not "
                "run: they find installed backends only. Install it (`core new-backend` writes the "
                "package)."
            )
        self.model: Any = model
        self.processes = processes or available_cpus()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        self._owner = os.getpid()
        self._most_texts = CHUNK_TEXTS if devices is None else DEVICE_CHUNK_TEXTS
        places: Sequence[str | None] = devices or [None]
        states = [pickle.dumps(_OnDevice(model, place)) for place in places]
        own = threads or max(available_cpus() // self.processes, 1)
        self._workers = [
            Child("core.distributed.worker", states[i % len(states)], own)
            for i in range(self.processes)
        ]
        try:
            for worker in self._workers:  # all of them load at once
                worker.start()
            for worker in self._workers:
                worker.wait_until_loaded()
        except BaseException as error:
            self._stop()
            if isinstance(error, ChildDiedError):
                raise PluginError(
                    f"A worker process ended while it loaded the model: {error}."
                ) from error
            raise
        self._threads = [
            threading.Thread(target=self._serve, args=(w,), daemon=True, name="core-pool")
            for w in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def encode(self, texts: str | Sequence[str], **options: Any) -> Any:
        """As `model.encode`, the texts spread over the processes.

        An exception in a process is raised here, as it was, with a note that tells which texts
        the process had; the pool stays usable.
        """
        self._check_method("encode")
        if isinstance(texts, str):
            return self.model.first_of(self.encode([texts], **options))
        return self._all(texts, self._parse(options))

    def predict(self, pairs: Any, **options: Any) -> Any:
        """As `Reranker.predict`, the pairs spread over the processes; see `encode`."""
        self._check_method("predict")
        if is_one_pair(pairs):
            return self.predict([pairs], **options)[0]
        return self._all(pairs, self._parse(options))

    def _all(self, inputs: Any, parsed: EncodeOptions) -> Any:
        rows = self.model.checked(inputs)
        if not rows:
            return self.model.hooks.encode(model=self.model, texts=rows, options=parsed)
        check_truncation(self.model, rows, parsed)
        parsed = replace(parsed, truncation=None)
        firsts, duplicates, originals = find_duplicates(rows)
        if parsed.output_value == "token_embeddings" or firsts is None:
            return self.model.finish(self._gather(rows, parsed), parsed)
        unique = self._gather([rows[i] for i in firsts], parsed)
        result = self.model.spread(unique, len(rows), firsts, duplicates, originals)
        return self.model.finish(result, parsed)

    def encode_stream(
        self, texts: Iterable[str], *, window: int = CHUNK_TEXTS, **options: Any
    ) -> Iterator[Any]:
        """As `model.encode_stream`: one array for each `window` texts, in order.

        Takes a few windows ahead of the one it yields, no more.
        """
        self._check_method("encode")
        return self._stream(texts, window, options)

    def predict_stream(
        self, pairs: Iterable[Any], *, window: int = CHUNK_TEXTS, **options: Any
    ) -> Iterator[Any]:
        """As `Reranker.predict_stream`; see `encode_stream`."""
        self._check_method("predict")
        return self._stream(pairs, window, options)

    def _stream(self, inputs: Iterable[Any], window: int, given: dict[str, Any]) -> Iterator[Any]:
        parsed = self._parse(given)
        check_stream(inputs, window, parsed, self.model.method)
        source = iter(inputs)
        chunks = iter(lambda: take_window(source, window), [])
        # What the model does after the backend happens here: int8's ranges come from all rows.
        return (self.model.finish(block, parsed) for block in self._run(chunks, parsed))

    def close(self) -> None:
        """End the processes. Work in progress fails; closing twice does nothing.

        Nor does closing in a forked process: the pool is that of the process it was forked from.
        """
        if os.getpid() != self._owner:
            return
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for _ in self._threads:
                self._tasks.put(None)
        self._stop()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers; of one that is being started again, the last it had."""
        return [worker.pid for worker in self._workers]

    @property
    def running(self) -> list[bool]:
        """Of each worker whether it is there: one that died is started again within a second."""
        return [worker.alive for worker in self._workers]

    def _parse(self, options: dict[str, Any]) -> EncodeOptions:
        if self._closed:
            raise OptionError("The pool is closed. Make a new one.")
        self._check_process()
        parsed: EncodeOptions = self.model.parse_options(options)
        self.model.check_options(parsed)
        return parsed

    def _check_process(self) -> None:
        if os.getpid() != self._owner:
            raise OptionError(
                f"The pool is of process {self._owner}, and this one was forked from it, without "
                "the threads that ask the pool's processes. Make a pool in each forked process."
            )

    def _check_method(self, name: str) -> None:
        own = self.model.method
        if name != own:
            raise OptionError(
                f"{name} is not what {self.model!r} does: call pool.{own}, or pool.{own}_stream."
            )

    def _gather(self, rows: Sequence[Any], options: EncodeOptions) -> Any:
        # Several chunks for each process, so that all end at about the same time.
        size = min(max(-(-len(rows) // (4 * self.processes)), 16), self._most_texts)
        chunks = (rows[i : i + size] for i in range(0, len(rows), size))
        return self.model.join(list(self._run(chunks, options)))

    def _run(self, chunks: Iterable[Sequence[Any]], options: EncodeOptions) -> Iterator[Any]:
        """Results of the chunks in order; a bounded number of them is under way at once."""
        # The copies are as the model was when they were made; it may have other prompts by now.
        prompt = choose_prompt(options, self.model.prompts, self.model.default_prompt_name)
        inner = replace(
            options,
            prompt=prompt,
            prompt_name=None,
            show_progress_bar=False,
            truncation=None,
            activation_fn=None,  # which happens here, and may not be for another process
        )
        waiting: deque[_Task] = deque()
        failure: Exception | None = None
        source, start = iter(chunks), 0
        try:
            while True:
                try:
                    chunk = self.model.checked(next(source), start)
                    check_truncation(self.model, chunk, options, start)
                    task = _Task(chunk, start, inner)
                    self._submit(task)
                except StopIteration:
                    break
                except Exception as error:  # what was read before it is still answered
                    failure = error
                    break
                start += len(chunk)
                waiting.append(task)
                if len(waiting) > 2 * self.processes:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            for task in waiting:
                task.future.cancel()
        if failure is not None:
            raise failure

    def _submit(self, task: _Task) -> None:
        """Let a task wait for a process; one that comes when the threads end would wait for ever.

        Raises:
            OptionError: The pool is closed, or another process's.
        """
        self._check_process()
        with self._closing:
            if self._closed:
                raise OptionError("The pool is closed. Make a new one.")
            self._tasks.put(task)

    def _result(self, task: _Task) -> Any:
        """Wait for what a process makes of a task; raises what it raised."""
        self._check_process()
        return task.future.result()

    def _serve(self, worker: Child) -> None:
        """A thread's life: give one process one task after the other, and keep it running."""
        while (task := self._next_task(worker)) is not None:
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                task.future.set_result(self._answer(worker, task))
            except BaseException as error:
                task.future.set_exception(error)

    def _next_task(self, worker: Child) -> _Task | None:
        """Wait for a task; a process that dies meanwhile is started again before it is needed."""
        while True:
            try:
                return self._tasks.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if worker.alive or self._closed:
                    continue
                # What is wrong shows to whoever brings the next task.
                with contextlib.suppress(Exception):
                    self._start(worker)

    def _answer(self, worker: Child, task: _Task) -> Any:
        last = task.start + len(task.texts) - 1
        while True:
            if self._closed:
                raise PluginError("The pool was closed while it was encoding.")
            try:
                if not worker.alive:
                    self._start(worker)
                result = worker.ask(pickle.dumps((task.texts, task.options), protocol=5))
            except ChildDiedError as died:
                worker.kill()
                task.deaths += 1
                if task.deaths >= _MOST_DEATHS and not self._closed:
                    raise PluginError(
                        f"{task.deaths} processes ended one after the other on inputs {task.start} "
                        f"to {last}: {died}. If memory ran out, use fewer processes or a smaller "
                        "batch_tokens."
                    ) from died
                continue
            if isinstance(result, BaseException):
                result.add_note(
                    f"In a worker process that had inputs {task.start} to {last}; positions in the "
                    f"message count from input {task.start}."
                )
                raise result
            return result

    def _start(self, worker: Child) -> None:
        worker.start()
        if self._closed:  # close() may have looked before there was a process to end
            worker.kill()
            raise PluginError("The pool was closed while it was encoding.")
        worker.wait_until_loaded()

    def _stop(self) -> None:
        for worker in self._workers:
            worker.kill()


class _OnDevice:
    """Pickles as a model that loads on another device; None for the model's own."""

    def __init__(self, model: Model, device: str | None) -> None:
        self._model, self._device = model, device

    def __reduce__(self) -> Any:
        reload = self._model.reload
        if self._device is not None:
            reload = reload.changed(device=self._device)
        return reload, (self._model.state(),)
