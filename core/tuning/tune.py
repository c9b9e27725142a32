"""`core.tune`: try every variant on the user's own texts, and choose."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.api import check_source
from core.architecture.kinds import EMBEDDING
from core.arguments import check_flag, check_keywords, check_path_or_none, check_text_or_none
from core.artifacts.artifact import SIDECAR_SUFFIX
from core.artifacts.cache import cache_directory, locked
from core.artifacts.publish import check_destination, destination_of
from core.artifacts.tuned import LOCK_NAME
from core.checkpoint.checkpoint import Checkpoint, source_identity
from core.checkpoint.resolve import resolve
from core.errors import OptionError
from core.machine.cpus import available_cpus
from core.machine.processor import processor_flags, processor_name
from core.plugin.registry import registry
from core.tuning.candidates import Candidate, choose_backends
from core.tuning.findings import Status, TunedVariant, objective_words
from core.tuning.goal import Goal
from core.tuning.labels import Labels, read_labels
from core.tuning.measure import Budget
from core.tuning.publishing import publish_choice
from core.tuning.race import Race, TuneProgress
from core.tuning.report import TuneReport
from core.tuning.results import Results
from core.tuning.store import Store
from core.tuning.texts import TuningTexts, read_tuning_texts
from core.version import __version__

#: Speeds closer than this share cannot be told apart: the more faithful variant is chosen.
_SAME = 0.02
#: Some two years; what waits for a process takes no more.
_MOST_MINUTES = 1_000_000


@check_keywords
def tune(
    model_name_or_path: str | os.PathLike[str],
    texts: Iterable[str] | str | os.PathLike[str],
    *,
    backends: Iterable[str] | None = None,
    minutes: float = 10.0,
    objective: str = "throughput",
    min_recall: float | None = None,
    min_cosine: float | None = None,
    max_quality_loss: float | None = None,
    pairs: Any = None,
    corpus: Any = None,
    queries: Any = None,
    qrels: Any = None,
    target: str | os.PathLike[str] | None = None,
    field: str | None = None,
    device: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
    write: bool = True,
    fresh: bool = False,
    on_progress: Callable[[TuneProgress], None] | None = None,
) -> TuneReport:
    """Measure every variant of a model that this machine can run, and choose one.

    Each installed backend loads the model, optimizes and quantizes it in every way that fits this
    machine. The variants run in interleaved rounds on texts held out of the user's, each in a
    process of its own; the hopeless ones leave early. What was made and measured is kept in the
    cache: an interrupted run goes on when it is called again, and other requirements start from the
    same measurements.

    Args:
        model_name_or_path: As for `core.load`.
        texts: Some hundred texts like those to be embedded: a sequence, a `.txt` file (one a
            line) or a `.jsonl` file. A fifth, at most 256, calibrates static int8; at most 2,000
            others judge.
        backends: Names of those to compare; None for all that are installed.
        minutes: How long it may take. A large model or long texts need more for a sure answer.
        objective: `"throughput"` (texts a second in bulk), `"latency"` (one text) or `"memory"`.
        min_recall: Share of the ten nearest neighbours by float32 to keep, 0 to 1; 0.99 where
            nothing else is required.
        min_cosine: Every held-out text's embedding must be this close to its float32 one.
        max_quality_loss: Percent of the quality on labelled data that may be lost.
        pairs: Labelled pairs: a `.tsv`, `.csv` or `.jsonl` file with sentence1, sentence2 and
            score, or a sequence of such triples. Judged by Spearman's correlation.
        corpus: Documents for retrieval, judged by NDCG@10 with `queries` and `qrels`: BEIR's
            `corpus.jsonl`, or a mapping of id to text.
        queries: BEIR's `queries.jsonl`, or a mapping of id to text.
        qrels: BEIR's `qrels.tsv`, or a mapping of query id to document id to score.
        target: Directory for the chosen file and the lock; None for the model's own, or the cache
            for a Hub repository.
        field: Of each line of a `.jsonl` file of texts; None for "text".
        device: As for `core.load`, for every backend.
        revision: As for `core.load`.
        token: As for `core.load`.
        cache_dir: As for `core.load`.
        local_files_only: As for `core.load`.
        trust_remote_code: As for `core.load`.
        write: Put the chosen file and `core_tuned.json` into `target`; `TuneReport.write` does so
            later.
        fresh: Measure anew what an earlier run has measured; files that were made are kept.
        on_progress: Called with a `TuneProgress` at each step; what it raises ends the run.

    Raises:
        OptionError: Too few texts, labels that do not fit, a requirement without sense.
        CoreError: No backend runs the model.
    """
    started = time.monotonic()
    check_path_or_none("target", target)
    check_text_or_none("field", field)
    check_text_or_none("device", device)
    for name, flag in (
        ("write", write),
        ("fresh", fresh),
        ("trust_remote_code", trust_remote_code),
    ):
        check_flag(name, flag)
    if (
        isinstance(minutes, bool)
        or not isinstance(minutes, int | float)
        or not 0 < minutes <= _MOST_MINUTES
    ):
        raise OptionError(
            f"minutes must be a positive number, of at most {_MOST_MINUTES:,}, not {minutes!r}."
        )
    check_source(revision, token, cache_dir, local_files_only)
    if on_progress is not None and not callable(on_progress):
        raise OptionError(f"on_progress must be a function or None, not {on_progress!r}.")
    labels = read_labels(pairs, corpus, queries, qrels)
    goal = Goal.of(objective, min_recall, min_cosine, max_quality_loss, bool(labels))
    parts = read_tuning_texts(texts, field)
    where = {
        "revision": revision,
        "token": token,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
    }
    source = resolve(model_name_or_path, **where).read_as(EMBEDDING)  # type: ignore[arg-type]
    chosen = choose_backends(backends)
    if write:
        check_destination(destination_of(source, target), "")
    name = str(source.directory or os.fspath(model_name_or_path))
    arguments = {**where, "device": device, "trust_remote_code": trust_remote_code}
    arguments = {name: value for name, value in arguments.items() if value}
    folder = _folder(source, parts, device)
    with locked(folder):
        store = Store(folder)
        if fresh:
            store.forget()
        race = Race(
            name,
            source,
            arguments,
            chosen,
            parts,
            labels,
            _digest_of(labels),
            goal,
            store,
            Budget(minutes * 60),
            on_progress,
        )
        race.run()
        report = _report(race, goal, parts, os.fspath(model_name_or_path))
    best = next(c for c in race.candidates if c.name == report.best.name)
    report._write = functools.partial(
        publish_choice,
        source=source,
        variant=report.best,
        files=race.results.known(best)["facts"]["files"],
        objective=goal.objective,
    )
    if write:
        report.write(target)
    report.seconds = time.monotonic() - started
    return report


def _report(race: Race, goal: Goal, texts: TuningTexts, model: str) -> TuneReport:
    results = race.results
    kept = [c for c in race.candidates if not results.twin(c)]
    variants = {candidate.name: _variant(results, candidate) for candidate in kept}
    meeting, missing = [results.reference], []
    for candidate in kept:
        if candidate == results.reference:
            continue
        shortfalls = results.shortfalls(candidate)
        if shortfalls:
            worst = max(shortfalls, key=shortfalls.__getitem__)
            missing.append(_Miss(shortfalls[worst], worst, variants[candidate.name]))
        elif shortfalls is not None and results.is_running(candidate):
            meeting.append(candidate)
    best = variants[_best(results, meeting).name]
    return TuneReport(
        model=model,
        best=best,
        variants=sorted(variants.values(), key=functools.partial(_rank, goal=goal)),
        reference=variants[results.reference.name],
        goal=goal,
        reason=_reason(
            best,
            variants[results.reference.name],
            goal,
            min(missing, key=lambda miss: miss.by, default=None),
            [variant.status for variant in variants.values()],
        ),
        texts=len(texts.held_out),
        calibration_texts=len(texts.calibration),
        processor=f"{processor_name()}, {available_cpus()} cores",
        seconds=0.0,
    )


def _rank(variant: TunedVariant, goal: Goal) -> tuple[int, float]:
    """What was measured to the end first, the best of it in front."""
    order = ("measured", "dropped", "failed", "not tried")
    return order.index(variant.status), -(variant.figure(goal.objective) or 0.0)


@dataclass(frozen=True)
class _Miss:
    """How far a variant is from what is required: by so much, of this, and which it is."""

    by: float
    what: str
    variant: TunedVariant


def _best(results: Results, meeting: list[Candidate]) -> Candidate:
    """The best by the objective; of those that cannot be told apart, the most faithful."""
    top = max(map(results.score, meeting))
    alike = [c for c in meeting if results.score(c) >= top * (1 - _SAME)]

    def worth(candidate: Candidate) -> tuple[float, int]:
        fidelity = results.fidelity(candidate)
        assert fidelity is not None
        # Thousandths: less is noise of the texts.
        return round(fidelity.recall_at_10, 3), -results.known(candidate)["facts"]["size_bytes"]

    return max(alike, key=worth)


def _reason(
    best: TunedVariant,
    reference: TunedVariant,
    goal: Goal,
    closest: _Miss | None,
    statuses: list[Status],
) -> str:
    untried, failed = statuses.count("not tried"), statuses.count("failed")
    tried = len(statuses) - untried - failed
    count = f"{tried} variant{'' if tried == 1 else 's'}"
    late = ""
    if failed:
        notes = "its note says" if failed == 1 else "their notes say"
        late = f" {failed} more failed: {notes} why."
    if untried:
        late += f" {untried} more were not tried: run it again with more minutes, and it goes on."
    file = f" ({best.file_name})" if best.file_name else ""
    figure = objective_words(best, goal.objective)
    if best.name == reference.name:
        text = f"{best.name}{file}: of {count} none that is better keeps {goal}; it gives {figure}."
        if closest is not None:
            text += (
                f" {closest.variant.name} comes closest: it misses {closest.what} by "
                f"{closest.by:.4f}, with {objective_words(closest.variant, goal.objective)}."
            )
        return text + late
    gain = (best.figure(goal.objective) or 0.0) / (reference.figure(goal.objective) or 1.0)
    better = f"{gain:.1f} times as fast as"
    if goal.objective == "memory":
        better = f"{1 / gain:.2f} times that of"
    low, high = best.recall_interval or (0.0, 0.0)
    kept = f"recall@10 {best.recall_at_10:.3f} ({low:.3f} to {high:.3f}) on {best.texts:,} texts"
    if best.quality is not None:
        kept += f" and {best.quality:.2%} of the quality on labelled data"
    return (
        f"{best.name}{file}: {figure}, {better} {reference.name} "
        f"({objective_words(reference, goal.objective)}), with {kept}; the best of {count} "
        f"that keeps {goal}.{late}"
    )


def _variant(results: Results, candidate: Candidate) -> TunedVariant:
    known = results.known(candidate)
    facts = known.get("facts")
    common: dict[str, Any] = {
        "name": candidate.name,
        "backend": candidate.backend,
        "operation": candidate.operation,
        "config": candidate.config,
        "options": dict(candidate.options),
    }
    if facts is None:
        if "error" in known:
            return TunedVariant(**common, status="failed", note=known["error"])
        return TunedVariant(**common, status="not tried", note="no time was left")
    ratio = results.speed_ratio(candidate)
    singles = [1_000 * taken for taken in results.singles(candidate)]
    fidelity = results.fidelity(candidate)
    dropped = results.dropped(candidate)
    status = "failed" if "error" in known else "dropped" if dropped else "measured"
    if fidelity is not None:
        common |= {
            "texts": fidelity.texts,
            "mean_cosine": fidelity.mean_cosine,
            "p1_cosine": fidelity.p1_cosine,
            "min_cosine": fidelity.min_cosine,
            "spearman": fidelity.spearman,
            "recall_at_10": fidelity.recall_at_10,
            "recall_interval": fidelity.recall_interval,
            "mixed_recall_at_10": fidelity.mixed_recall_at_10,
        }
    return TunedVariant(
        **common,
        file_name=facts["file_name"],
        device=facts["device"],
        dtype=facts["dtype"],
        status=status,  # type: ignore[arg-type]
        note=str(known.get("error") or dropped),
        texts_per_second=results.reference_rate() * ratio.median,
        speed_ratio=ratio.median,
        spread=ratio.spread,
        p50_ms=float(np.median(singles)) if singles else None,
        p99_ms=float(np.percentile(singles, 99)) if singles else None,
        resident_bytes=known.get("resident_bytes"),
        start_s=known.get("start_s"),
        size_bytes=facts["size_bytes"],
        quality=results.quality(candidate),
        quality_scores=results.quality_scores(candidate),
    )


def _folder(source: Checkpoint, texts: TuningTexts, device: str | None) -> Path:
    """Where measurements of this model, with these texts, on this machine are kept."""
    made = {name for name in source.names if name + SIDECAR_SUFFIX in source.names}
    folders = {"", source.architecture.path}
    read = [
        name
        for name in source.names
        if name.rpartition("/")[0] in folders
        and name not in made
        and name.removesuffix(SIDECAR_SUFFIX) not in made
        and name not in (LOCK_NAME, "README.md")
    ]
    backends = [(name, backend.plugin.distribution) for name, backend in registry.working()]
    document = json.dumps(
        [
            source_identity(source, read),
            hashlib.sha256(json.dumps([texts.calibration, texts.held_out]).encode()).hexdigest(),
            device,
            sorted(processor_flags()),
            available_cpus(),
            __version__,
            backends,
        ]
    )
    digest = hashlib.sha256(document.encode()).hexdigest()[:16]
    return cache_directory() / "tuning" / f"{source.readable_name.replace('/', '--')}-{digest}"


def _digest_of(labels: Labels) -> str:
    parts: list[Any] = []
    if labels.pairs is not None:
        parts.append([labels.pairs.first, labels.pairs.second, labels.pairs.scores.tolist()])
    if labels.retrieval is not None:
        retrieval = labels.retrieval
        judged = {query: dict(rows) for query, rows in retrieval.judgments.items()}
        parts.append([dict(retrieval.corpus), dict(retrieval.queries), judged])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
