"""Measuring the variants, the hopeless ones less than the good ones.

First each is loaded in a process of its own and embeds a few texts: that is enough to drop what is
far too slow or far from float32. The others run in interleaved rounds, each on another part of the
held-out texts, and after the second and the fourth round the slower half leaves (successive
halving). What stays has embedded all held-out texts in the end, so its speed and its fidelity come
from the same calls. Every step is recorded in the `Store`; a run that finds a record goes on.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.checkpoint.checkpoint import Checkpoint
from core.errors import CoreError, OptionError, PluginError
from core.files.paths import is_same_file
from core.machine.stages import announce
from core.operations.file_choice import companions
from core.plugin.registry import registry
from core.tuning.benches import Benches
from core.tuning.candidates import Candidate, base_candidates, other_candidates
from core.tuning.fidelity import Floats
from core.tuning.goal import Goal
from core.tuning.labels import Labels, pairs_quality, retrieval_quality
from core.tuning.making import Maker
from core.tuning.measure import Budget, rotated
from core.tuning.process import Bench, DiedError, TooSlowError
from core.tuning.results import PROBE, Results
from core.tuning.store import Store
from core.tuning.texts import TuningTexts, chunks_of

_WARM_TEXTS = 16
_MOST_PROBE_TEXTS = 128
_PROBE_SINGLES = 3

#: Rounds of whoever stays to the end, and after which of them the slower half leaves.
ROUNDS = 8
_HALVINGS = (2, 4)
_LEAST_ROUNDS = 2

#: A variant slower than this share of the best is dropped: after its first texts, alone; and in a
#: halving, where rounds are compared.
_FAR_TOO_SLOW = 0.4
_NOT_MUCH_SLOWER = 0.9
_KEPT_AT_LEAST = 3

#: Shares of the time: to make files in; to keep for labelled data, at most.
_MAKING = 0.5
_LABELS = 0.4

#: Seconds that a process may take for one answer where the time budget is no measure, at least:
#: loading may export, and the least rounds run whatever is left. One that hangs is ended then.
_PATIENCE = 600.0

#: Texts of a round: all of them where the time allows, since a call with few is slower for each.
_CHUNK_SIZES = (32, 64, 128, 256, 512, 1_024, 2_048)
_MOST_SINGLES = {"throughput": 20, "latency": 40, "memory": 20}


@dataclass(frozen=True)
class TuneProgress:
    """Where a run is.

    Attributes:
        text: What is being tried.
        seconds_left: Of the time budget.
        done: Variants that failed or were dropped.
        total: Variants there are.
    """

    text: str
    seconds_left: float
    done: int
    total: int


class Race:
    """One run over the variants of a model.

    Args:
        name: What to load, as the caller named it.
        source: Its files.
        arguments: Of `core.load`, the same for all.
        backends: Whose variants to try.
        texts: To calibrate and to judge with.
        labels: To judge with, too.
        labels_digest: Stands for them in the record.
        goal: What the choice is for.
        store: Where everything is recorded.
        budget: How long it may take.
        watch: Told of each step.

    Attributes:
        candidates: Everything that could be tried, once `run` was called.
        results: Their figures.
    """

    def __init__(
        self,
        name: str,
        source: Checkpoint,
        arguments: Mapping[str, Any],
        backends: Sequence[str],
        texts: TuningTexts,
        labels: Labels,
        labels_digest: str,
        goal: Goal,
        store: Store,
        budget: Budget,
        watch: Callable[[TuneProgress], None] | None,
    ) -> None:
        self.candidates = base_candidates(source, backends)
        self.results = Results(store, goal, labels_digest, self.candidates[0])
        self._name, self._source, self._arguments = name, source, dict(arguments)
        self._texts, self._labels = texts, labels
        self._goal, self._store = goal, store
        self._budget, self._watch = budget, watch
        self._total = max(budget.left, 1.0)
        self._reserved = 0.0
        self._benches = Benches()
        self._maker = Maker(name, arguments, store.made, texts.calibration)

    @property
    def _reference(self) -> Candidate:
        return self.results.reference

    def run(self) -> None:
        """Make, measure and record.

        Raises:
            CoreError: No backend runs the model at all; what the first one raised.
        """
        known = self.results.known
        for record in self._store.variants.values():
            if record.pop("may_pass", False):
                record.pop("error", None)
        try:
            self._start()
            self._make_all()
            for candidate in self.candidates:
                made = "made" in known(candidate) and "facts" not in known(candidate)
                if made and not self.results.is_out(candidate):
                    self._probe(candidate)
            self._drop_hopeless()
            self._run_rounds()
            self._measure_quality()
        finally:
            self._maker.close()
            self._benches.close_all()

    def _start(self) -> None:
        """The variants that need no work, and which of them is the reference."""
        known = self.results.known
        errors = []
        for candidate in self.candidates:
            known(candidate)["made"] = None
            if "facts" not in known(candidate):
                known(candidate).pop("error", None)
                try:
                    self._tell(f"loading {self._name} with {candidate.backend}")
                    # An export takes its time and memory there, not in what is measured.
                    self._maker.load(candidate.backend, self._patience)
                    self._probe(candidate, patient=True)
                except CoreError as error:
                    known(candidate)["error"] = str(error)
                    errors.append(_named(candidate, error))
        # An earlier run may have dropped one: what is made of it counts all the same.
        running = [c for c in self.candidates if "facts" in known(c) and "error" not in known(c)]
        if not running:
            raise errors[0] if errors else OptionError(f"No backend runs {self._name}.")
        origins = {registry.backend(c.backend).capabilities.exports_from for c in running}
        # The model itself rather than an export of it, or a file of fewer bits.
        running.sort(key=lambda c: (c.file_name is not None, c.backend not in origins))
        full = [c for c in running if known(c)["facts"]["dtype"] == "float32"]
        self.results.reference = (full or running)[0]
        devices = {c.backend: known(c)["facts"]["device"] for c in running}
        loaded = {known(c)["facts"]["file_name"] for c in running}
        others = other_candidates(self._source, devices)
        self.candidates += [c for c in others if c.file_name is None or c.file_name not in loaded]
        if self._labels:
            rate = self.results.probe_rate(self._reference)
            self._reserved = min(self._total * _LABELS, 3 * self._labels.texts / rate)

    def _note(self, candidate: Candidate, error: CoreError) -> None:
        """Record why a candidate is out: for good, or until the next run, which may find memory or
        room on the disk."""
        known = self.results.known(candidate)
        known["error"] = str(error)
        known["may_pass"] = type(error) in (CoreError, DiedError)

    def _make_all(self) -> None:
        known = self.results.known
        budget = Budget(max(self._left, 0.0) * _MAKING)
        for candidate in self.candidates:
            if {"made", "error"} & known(candidate).keys():
                continue
            if not candidate.operation:
                known(candidate)["made"] = candidate.file_name
                continue
            if budget.left <= 0:
                continue
            self._tell(f"making {candidate.name}")
            try:
                known(candidate)["made"] = self._maker.make(candidate, max(budget.left, 5.0))
            except TooSlowError:
                continue  # another run may have the time
            except CoreError as error:
                self._note(candidate, error)
            self._store.save()
        self._maker.close()
        self._drop_twins()

    def _drop_twins(self) -> None:
        """Of several candidates that came to the same file, keep the first.

        A file of the model that is unlike the one made of the same name stays instead of that.
        """
        seen: dict[tuple[str, str], Candidate] = {}
        for candidate in self.candidates:
            file = self.results.known(candidate).get("made")
            if file is None:
                continue
            twin = seen.setdefault((candidate.backend, file), candidate)
            if twin == candidate:
                continue
            gone, stays = candidate, twin
            if candidate.file_name and not self._is_made(candidate):
                gone, stays = twin, candidate
            self.results.known(gone)["twin"] = stays.name

    def _is_made(self, candidate: Candidate) -> bool:
        """Whether a file of the model is what was made under its name."""
        assert candidate.file_name is not None
        capabilities = registry.backend(candidate.backend).capabilities
        beside = companions(candidate.file_name, self._source.names, capabilities)
        return all(
            is_same_file(self._store.made / name, self._source.path(name))
            for name in (candidate.file_name, *beside)
        )

    # Loading

    def _open(self, candidate: Candidate, seconds: float | None = None) -> Bench:
        """The candidate's process, with the model loaded and warm."""
        bench, told = self._benches.get(
            candidate.name,
            candidate.backend,
            lambda bench: bench.ask("load", *self._place(candidate), seconds=seconds),
        )
        if told is not None:
            self.results.known(candidate).setdefault("start_s", told[0])
            self.results.known(candidate).setdefault("facts", told[1])
            texts = self._texts.held_out[:_WARM_TEXTS]
            bench.ask("encode", "encode", texts, seconds=seconds)
            bench.ask("singles", texts[:_PROBE_SINGLES], seconds=seconds)
        return bench

    def _place(self, candidate: Candidate) -> tuple[str, dict[str, Any]]:
        """What `core.load` is called with."""
        arguments = {**self._arguments, "backend": candidate.backend}
        if candidate.options:
            arguments["model_kwargs"] = dict(candidate.options)
        if candidate.operation:
            gone = ("revision", "token", "cache_dir")
            arguments = {name: value for name, value in arguments.items() if name not in gone}
            arguments["file_name"] = self.results.known(candidate)["made"]
            return str(self._store.made), arguments
        if candidate.file_name:
            arguments["file_name"] = candidate.file_name
        return self._name, arguments

    # Measuring

    def _probe(self, candidate: Candidate, *, patient: bool = False) -> None:
        """Load a candidate for the first time and have it embed the first texts.

        Args:
            patient: Wait whatever time is left, and raise what goes wrong.
        """
        known = self.results.known(candidate)
        if not patient and self._left <= 0:
            return
        self._tell(f"trying {candidate.name}")
        seconds = self._patience if patient else max(self._left, 10.0)
        try:
            bench = self._open(candidate, seconds)
            texts = self._texts.held_out[: self._probe_texts(bench)]
            first, _ = bench.ask("encode", "encode", texts, seconds=seconds)
            again, embeddings = bench.ask("encode", "encode", texts, seconds=seconds)
            alone = bench.ask("singles", texts[:_PROBE_SINGLES], seconds=seconds)
            _check_finite(embeddings)
            known["resident_bytes"] = self._benches.size(candidate.name, bench)
            self._store.keep(candidate.name, PROBE, embeddings)
            # Another program, or the first batch of its shape, is no property of the variant.
            known["probe_s"], known["probe_singles"] = min(first, again), alone
        except CoreError as error:
            self._benches.close(candidate.name)
            known.pop("facts", None)
            if patient:
                raise
            if not isinstance(error, TooSlowError):
                self._note(candidate, error)
        self._store.save()

    def _probe_texts(self, bench: Bench) -> int:
        """How many texts a probe has: as many as the first candidate embeds in a few seconds."""
        if "probe_texts" not in self._store.settings:
            first = self._texts.held_out[:_WARM_TEXTS]
            taken, _ = bench.ask("encode", "encode", first)
            affordable = int(len(first) / taken * self._total / 400)
            sizes = [2**power for power in range(4, 8) if 2**power <= affordable]
            size = min(max(sizes, default=_WARM_TEXTS), _MOST_PROBE_TEXTS)
            self._store.settings["probe_texts"] = min(size, len(self._texts.held_out))
        return self._store.settings["probe_texts"]

    def _drop_hopeless(self) -> None:
        """After their first texts: what is far too slow, or far from float32."""
        good = []
        for candidate in [c for c in self.candidates if self.results.is_running(c)]:
            why = "" if candidate == self._reference else self.results.hopeless(candidate)
            if why:
                self._drop(candidate, why)
            else:
                good.append(candidate)
        self._drop_outdone(good, _FAR_TOO_SLOW)

    def _drop_outdone(self, candidates: Sequence[Candidate], share: float) -> None:
        """Drop what has less than this share of the score of one that serves as well."""
        shares = {c: self.results.outdone(c, candidates) for c in candidates}
        for candidate, found in shares.items():
            if found < share and candidate != self._reference:
                self._drop(candidate, self._goal.behind(found))
        self._store.save()

    def _drop(self, candidate: Candidate, why: str) -> None:
        self.results.drop(candidate, why)
        self._benches.close(candidate.name)

    def _run_rounds(self) -> None:
        chunks = self._chunks()
        count = self.results.round_count
        while True:
            waiting = [
                c
                for c in self.candidates
                if c != self._reference and self.results.is_running(c) and count(c) < ROUNDS
            ]
            if not waiting and count(self._reference) >= ROUNDS:
                return
            fewest = min(map(count, waiting or [self._reference]))
            if fewest >= _LEAST_ROUNDS and self._round_seconds(waiting) > self._left:
                return
            if self._left < -self._total / 4:  # what there is must do
                return
            self._tell(f"round {fewest + 1} of {ROUNDS}, {len(waiting) + 1} variants")
            self._run_round(waiting, chunks, fewest % len(chunks))
            if fewest + 1 in _HALVINGS:
                self._halve(waiting)

    def _chunks(self) -> list[list[str]]:
        """The held-out texts in chunks that a round can afford."""
        settings = self._store.settings
        if "chunk_texts" not in settings:
            running = [c for c in self.candidates if self.results.is_running(c)]
            left = max(self._left, 1.0)
            # All of them run two rounds, half of them two more, the last few the rest.
            runs = len(running) * 3 + _KEPT_AT_LEAST * (ROUNDS - 4)
            rate = statistics.median(map(self.results.probe_rate, running))
            affordable = rate * left * 0.7 / runs
            settings["chunk_texts"] = max(
                (size for size in _CHUNK_SIZES if size <= affordable), default=_CHUNK_SIZES[0]
            )
            one = statistics.median(self.results.singles(self._reference))
            most = _MOST_SINGLES[self._goal.objective]
            settings["singles"] = int(min(max(left * 0.2 / runs / one, _PROBE_SINGLES), most))
        return chunks_of(self._texts.held_out, settings["chunk_texts"])[:ROUNDS]

    def _run_round(
        self, waiting: Sequence[Candidate], chunks: list[list[str]], number: int
    ) -> None:
        texts = chunks[number]
        singles = self._store.settings["singles"]
        start = len(self._store.rounds) * singles
        alone = [texts[(start + i) % len(texts)] for i in range(singles)]
        seconds: dict[str, float] = {}
        each: dict[str, list[float]] = {}
        for candidate in rotated([self._reference, *waiting], len(self._store.rounds)):
            known = self.results.known(candidate)
            try:
                bench, seconds_at_most = self._open(candidate, self._patience), self._patience
                taken, embeddings = bench.ask("encode", "encode", texts, seconds=seconds_at_most)
                _check_finite(embeddings)
                each[candidate.name] = bench.ask("singles", alone, seconds=seconds_at_most)
                self._store.keep(candidate.name, number, embeddings)
                size = self._benches.size(candidate.name, bench)
                known["resident_bytes"] = max(known["resident_bytes"], size)
                seconds[candidate.name] = taken
            except CoreError as error:
                self._benches.close(candidate.name)
                if candidate == self._reference:
                    raise _named(candidate, error) from error
                self._note(candidate, error)
        self._store.rounds.append(
            {"chunk": number, "texts": len(texts), "seconds": seconds, "singles": each}
        )
        self._store.save()

    def _round_seconds(self, waiting: Sequence[Candidate]) -> float:
        """What another round will take, by the last one."""
        last = self._store.rounds[-1]
        names = {candidate.name for candidate in (self._reference, *waiting)}
        bulk = sum(taken for name, taken in last["seconds"].items() if name in names)
        alone = sum(sum(taken) for name, taken in last["singles"].items() if name in names)
        return float(bulk + alone)

    def _halve(self, candidates: Sequence[Candidate]) -> None:
        """Drop the slower half, but nothing near the best, nor what is more faithful than that."""
        good = []
        for candidate in candidates:
            if not self.results.is_running(candidate):
                continue
            if why := self.results.hopeless(candidate):
                self._drop(candidate, why)
            else:
                good.append(candidate)
        good.sort(key=self.results.score, reverse=True)
        kept = max(_KEPT_AT_LEAST, math.ceil(len(good) / 2))
        shares = {c: self.results.outdone(c, good) for c in good[kept:]}
        for candidate, share in shares.items():
            if share < _NOT_MUCH_SLOWER:
                self._drop(candidate, self._goal.behind(share))
        self._store.save()

    # Labelled data

    def _measure_quality(self) -> None:
        """Of the reference and of the variants that may be chosen, the best first."""
        if not self._labels:
            return
        ranked = sorted(
            (c for c in self.candidates if c != self._reference and self.results.is_running(c)),
            key=self.results.score,
            reverse=True,
        )
        accepted = False
        for candidate in (self._reference, *ranked):
            if candidate.name not in self.results.scores:
                # The reference and one that keeps the quality are the least an answer needs.
                if self.results.hopeless(candidate) or (accepted and self._budget.left <= 0):
                    continue
                self._tell(f"quality of {candidate.name} on labelled data")
                try:
                    self.results.scores[candidate.name] = self._scores_of(candidate)
                except CoreError as error:
                    if candidate == self._reference:
                        raise _named(candidate, error) from error
                    self.results.known(candidate)["error"] = str(error)
                    continue
                self._store.save()
            if candidate != self._reference:
                accepted = accepted or not self.results.shortfalls(candidate)

    def _scores_of(self, candidate: Candidate) -> dict[str, float]:
        bench = self._open(candidate, self._patience)
        similarity = self.results.known(self._reference)["facts"]["similarity"]
        found = {}
        if (pairs := self._labels.pairs) is not None:
            texts = pairs.texts
            rows = bench.ask("encode", "encode", texts)[1]
            place = {text: number for number, text in enumerate(texts)}
            first, second = (
                rows[[place[text] for text in side]] for side in (pairs.first, pairs.second)
            )
            found["pairs"] = pairs_quality(first, second, pairs, similarity)
        if (retrieval := self._labels.retrieval) is not None:
            queries = bench.ask("encode", "encode_query", list(retrieval.queries.values()))[1]
            documents = bench.ask("encode", "encode_document", list(retrieval.corpus.values()))[1]
            found["retrieval"] = retrieval_quality(queries, documents, retrieval, similarity)
        return found

    @property
    def _left(self) -> float:
        """Seconds left for everything but labelled data."""
        return self._budget.left - self._reserved

    @property
    def _patience(self) -> float:
        return max(self._total, _PATIENCE)

    def _tell(self, text: str) -> None:
        left = max(self._budget.left, 0.0)
        announce(f"{text} ({left / 60:.0f} min left)" if left >= 90 else f"{text} ({left:.0f} s)")
        if self._watch is not None:
            out = sum(map(self.results.is_out, self.candidates))
            self._watch(TuneProgress(text, left, out, len(self.candidates)))


def _named(candidate: Candidate, error: CoreError) -> CoreError:
    """What became of a process, with the variant that it ran; other errors say what they are of."""
    if isinstance(error, DiedError | TooSlowError):
        return type(error)(f"{candidate.name}: {error}")
    return error


def _check_finite(embeddings: Floats) -> None:
    if not np.isfinite(embeddings).all():
        raise PluginError("its embeddings are not finite numbers")
