"""Cost of a text by how many there are: 1 to 1,000,000, the many of them streamed."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import texts
from benchmarks.checkpoints import bert, prepare_model
from benchmarks.loaded import BACKENDS, load, record
from benchmarks.model_files import ROOT, exported, int8_file
from benchmarks.process import DEADLINE, environment
from benchmarks.progress import say
from core.tuning.measure import Budget, interleaved

COUNTS = (1, 3, 10, 30, 100, 300, 1_000)
#: After so many texts memory should no longer grow.
SETTLED = 10_000
_WINDOW = 2_000
_POINTS = 1_000
#: Fast enough that a million texts are over in a minute.
SMALL = "onnx, a 2-layer model"

#: Path, backend and file of each model.
Chosen = dict[str, tuple[Path, str, str]]


def models() -> Chosen:
    """MiniLM on every backend and in int8, and a small model."""
    model = prepare_model()
    chosen: Chosen = {backend: (model, backend, "") for backend in BACKENDS}
    chosen["onnx"] = (model, "onnx", exported(model, "onnx"))
    chosen["onnx int8"] = (model, "onnx", int8_file(model))
    small = bert(2, 32, 512, ("onnx",))
    chosen[SMALL] = (small, "onnx", exported(small, "onnx"))
    return chosen


def volume(
    chosen: Chosen, budget: Budget, *, most: int, least: int, streamed: int, stream_seconds: float
) -> dict[str, Any]:
    """Seconds of calls with few texts, and traces of streams with many.

    MiniLM's streams end after `stream_seconds`; that of a small model after `streamed` texts.
    """
    failures: dict[str, str] = {}
    streams: dict[str, Any] = {}
    found = {
        "encode": _calls(chosen, budget.part(1 / 3), most, least, failures),
        "window": _WINDOW,
        "streams": streams,
        "failures": failures,
    }
    limits = {
        SMALL: max(budget.left / 2, 180.0),
        "onnx int8": stream_seconds,
        "onnx": stream_seconds,
    }
    for name, seconds in limits.items():
        try:
            streams[name] = _stream(name, chosen[name], streamed, seconds)
        except (subprocess.SubprocessError, ValueError) as error:
            record(failures, f"{name}, streamed", error)
    return found


def _calls(
    chosen: Chosen, budget: Budget, most: int, least: int, failures: dict[str, str]
) -> list[dict[str, Any]]:
    """Median seconds of one `encode`, for each number of short texts."""
    found = []
    with ExitStack() as stack:
        models = {}
        for name, place in chosen.items():
            try:
                models[name] = stack.enter_context(load(*place))
            except Exception as error:
                record(failures, name, error)
        for count in COUNTS:
            say(f"volume: {count:,} texts per call")
            rows = list(texts.stream(count))
            acts = {name: partial(_encode, model, rows) for name, model in models.items()}
            few = max(20 // count, 1)  # single calls vary most and cost least
            for name, timing in interleaved(
                acts,
                rounds=max(most, few),
                least=max(least, few),
                warm_up=0,
                budget=budget,
            ).items():
                found.append(
                    {
                        "system": name,
                        "texts": count,
                        "seconds": timing.median,
                        "rounds": len(timing.seconds),
                    }
                )
    return found


def _encode(model: Any, rows: list[str], round_number: int) -> None:
    model.encode(rows)


def _stream(name: str, chosen: tuple[Path, str, str], count: int, seconds: float) -> dict[str, Any]:
    """The trace of up to `count` texts in up to so many seconds, and what it shows."""
    path, backend, file_name = chosen
    say(f"volume: {name}, up to {count:,} texts streamed in up to {seconds:.0f} seconds")
    given = {
        "path": str(path),
        "backend": backend,
        "file_name": file_name,
        "texts": count,
        "seconds": seconds,
        "window": _WINDOW,
    }
    command = [sys.executable, "-m", "benchmarks.stream_process", json.dumps(given)]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(sys.executable),
        timeout=seconds + DEADLINE,
    )
    return summarize_stream(json.loads(done.stdout.splitlines()[-1]))


def summarize_stream(points: list[list[float]]) -> dict[str, Any]:
    """Speed and growth of memory of a trace: texts done, resident megabytes, seconds.

    Raises:
        ValueError: The trace is empty.
    """
    if not points:
        raise ValueError("the stream ended before its first window")
    trace = np.array(points)
    found: dict[str, Any] = {
        "texts": int(trace[-1, 0]),
        "seconds": float(trace[-1, 2]),
        "texts_per_second": float(trace[-1, 0] / trace[-1, 2]),
        "memory_peak": float(trace[:, 1].max()),
    }
    later = trace[trace[:, 0] >= SETTLED]
    if len(later) > 1:
        found["memory_settled"] = float(later[0, 1])
        found["growth"] = float(later[:, 1].max() - later[0, 1])
    # A thousand points draw as well as all of them.
    found["trace"] = trace[:: -(-len(trace) // _POINTS)].round(3).tolist()
    return found
