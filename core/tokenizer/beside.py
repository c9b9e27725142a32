"""Tokenizing in processes beside this one, for a device that this one keeps busy.

A program that starts a GPU's work holds the interpreter's lock nearly all the time: a thread that
tokenizes beside it waits for that lock, or makes the GPU wait for it.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import threading
import weakref
from collections.abc import Sequence

from core.machine.child import Child, ChildDiedError
from core.machine.cpus import available_cpus
from core.machine.surroundings import is_frozen
from core.tokenizer.tokenizer import Text, TokenizedTexts, Tokenizer

logger = logging.getLogger("core")

#: Each tokenizes several times as fast as a program starts batches.
PROCESSES = 2
#: Words that each keeps, some 100 MB at most: of 200,000 passages half as many differ, and with
#: fewer places than that most texts would have a word that was forgotten.
_KEPT_WORDS = 262_144

#: With fewer processors, they would take the program's own time.
_LEAST_CPUS = 2 * PROCESSES


class TokenizingProcesses:
    """Processes with a tokenizer each. Safe to use from several threads.

    Until they have started, where they cannot be, and after one has died, this process tokenizes
    instead. They end with the tokenizer, and with this process.

    Attributes:
        process: The number of the process that they are beside.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.process = os.getpid()
        self._closed = False
        self._free: queue.SimpleQueue[Child] = queue.SimpleQueue()
        state = pickle.dumps(tokenizer.with_kept_words(_KEPT_WORDS))
        threads = max(available_cpus() // PROCESSES, 1)
        self._children = [Child("core.tokenizer.worker", state, threads) for _ in range(PROCESSES)]

    def start(self) -> None:
        """Begin to start the processes; nothing waits for them."""
        for child in self._children:
            threading.Thread(
                target=self._start, args=(child,), daemon=True, name="core-tokenizer-start"
            ).start()

    def _start(self, child: Child) -> None:
        try:
            child.start()
            child.wait_until_loaded()
        except Exception as error:
            if not self._closed:
                logger.info("Texts are tokenized in this process: no other could start: %s", error)
        else:
            self._free.put(child)
        if self._closed:  # perhaps before there was a process to end
            child.kill()

    @property
    def pids(self) -> list[int]:
        """Process numbers of those that have started."""
        return [child.pid for child in self._children if child.alive]

    def encode(self, tokenizer: Tokenizer, texts: Sequence[Text]) -> TokenizedTexts:
        """`tokenizer.encode(texts)`, in another process where one is free.

        Raises:
            Exception: What it raises there.
        """
        message = pickle.dumps(texts, protocol=5)
        child = self._taken()
        if child is None:
            return tokenizer.encode(texts)
        try:
            answer = child.ask(message)
        except ChildDiedError as error:
            logger.info("Texts are tokenized in this process: another that did so died: %s", error)
            return tokenizer.encode(texts)
        finally:
            if child.alive:
                self._free.put(child)
        if isinstance(answer, BaseException):
            raise answer
        found: TokenizedTexts = answer
        return found

    def _taken(self) -> Child | None:
        if os.getpid() != self.process:  # forked: the pipes are the parent's
            return None
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the processes."""
        if os.getpid() == self.process:
            self._closed = True
            for child in self._children:
                child.kill()


_beside: weakref.WeakKeyDictionary[Tokenizer, TokenizingProcesses] = weakref.WeakKeyDictionary()


def processes_beside(tokenizer: Tokenizer, *, start: bool = True) -> TokenizingProcesses | None:
    """Those of this tokenizer; None where there can be none.

    Args:
        start: Whether to start them where there are none yet.
    """
    found = _beside.get(tokenizer)
    if found is not None and found.process == os.getpid():
        return found
    if not start or is_frozen() or available_cpus() < _LEAST_CPUS:
        return None
    if found is not None:  # of the process that this one was forked from
        del _beside[tokenizer]
    new = TokenizingProcesses(tokenizer)
    found = _beside.setdefault(tokenizer, new)
    if found is new:  # and not another thread's
        weakref.finalize(tokenizer, found.close)
        found.start()
    return found


def end_processes_beside(tokenizer: Tokenizer) -> None:
    """End those of this tokenizer, if there are any."""
    found = _beside.pop(tokenizer, None)
    if found is not None:
        found.close()
