"""Go through the sections, each in a process and a time of its own, and write what they find.

    python3 -m benchmarks.gpu                           # on a GPU, within 8 minutes
    python3 -m benchmarks.gpu --sections correctness throughput --minutes 5
    python3 -m benchmarks.gpu --model all-MiniLM-L6-v2  # a real model besides
    python3 -m benchmarks.gpu --device cpu --tiny       # does everything run? In seconds, anywhere

Exits with 0 where every result was right, 1 where one was not or not all were checked, and 2 where
the device is not there.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks import machine
from benchmarks.gpu import (
    busy,
    correctness,
    device,
    kinds,
    latency,
    onnx,
    pool,
    recovery,
    report,
    threads,
    throughput,
)
from benchmarks.gpu.bare import ROOT
from benchmarks.gpu.plan import FULL, MINUTES, SECONDS, TINY, Setting
from benchmarks.gpu.record import Record
from benchmarks.gpu.section import METHODS, Ending, Section, run_section
from benchmarks.progress import say
from benchmarks.results import commit
from core.tuning.measure import Budget

SECTIONS: dict[str, Section] = {
    "device": device.rows,
    "correctness": correctness.rows,
    "kinds": kinds.rows,
    "throughput": throughput.rows,
    "busy": busy.rows,
    "latency": latency.rows,
    "recovery": recovery.rows,
    "threads": threads.rows,
    "pool": pool.rows,
    "onnx": onnx.rows,
}
WORK = ROOT / ".cache" / "gpu"
#: Seconds of all the time that are left for ending.
_ENDING = 5.0
#: Of a section's time, how much its rounds may plan with: what is under way then is let finish.
_PLANNED = 0.8
#: Imported before the first section, so that no other pays for it. They start no thread and
#: compute nothing, which a fork would not survive.
_LIBRARIES = (
    "torch.profiler",
    "transformers.models.bert.modeling_bert",
    "tokenizers",
    "torch_backend.session",
)


def prepare() -> None:
    """What concerns the whole process: to be called once, before `main`."""
    signal.signal(signal.SIGTERM, _end)
    # Before anything is imported that reads them.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # To ask whether there is a GPU does not start CUDA in this process.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    for library in _LIBRARIES:
        importlib.import_module(library)
    importlib.import_module("transformers.utils.logging").disable_progress_bar()


def main(arguments: Sequence[str] | None = None) -> int:
    given = read_arguments(arguments)
    deadline = time.monotonic() + 60 * given.minutes
    run = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "commit": commit(),
        "arguments": shlex.join(["benchmarks.gpu", *(arguments or sys.argv[1:])]),
        "tiny": given.tiny,
        "machine": machine.describe(),
    }
    record = Record(given.output, run, report.page)
    for method in METHODS:
        ending = measure("device", given, record, deadline, method)
        if ending.how == "done":
            break
    else:
        return 2
    for name in SECTIONS:
        if name in given.sections and name != "device":
            measure(name, given, record, deadline, method)
    say(f"{given.output}/gpu.json, {given.output}/gpu.md")
    print(report.page(record.content), flush=True)
    if "correctness" not in given.sections:
        return int(record.failed or record.correct is False)
    return int(record.failed or record.correct is not True)


def measure(
    name: str, given: argparse.Namespace, record: Record, deadline: float, method: str
) -> Ending:
    """One section, its rows on disk as they come.

    Args:
        deadline: Of the whole run, by the monotonic clock.
        method: How its process is made: one of METHODS.
    """
    record.begin(name)
    # What earlier sections did not need is shared out among those that follow.
    names = [one for one in SECTIONS if one == "device" or one in given.sections]
    following = sum(SECONDS[one] for one in names[names.index(name) :])
    seconds = SECONDS[name] / following * (deadline - _ENDING - time.monotonic())
    setting = Setting(
        device=given.device,
        plan=TINY if given.tiny else FULL,
        budget=Budget(_PLANNED * seconds),
        work=WORK / "models",
        model=given.model,
    )
    start = time.monotonic()
    if seconds > 0:
        ending = run_section(
            SECTIONS[name], setting, seconds, lambda row: record.add(name, row), method
        )
    else:
        ending = Ending("stopped", "before it began: no time was left")
    took = time.monotonic() - start
    record.end(name, ending, took)
    say(f"{name}: {ending.how} {ending.why} ({took:.1f} s)")
    return ending


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.gpu", description="The torch backend on a GPU.",
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--device", default="cuda", help="as PyTorch names it; cuda by default")
    parser.add_argument("--tiny", action="store_true", help="a dry run: everything, in seconds")
    parser.add_argument(
        "--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), metavar="NAME",
        help=f"some of them: {', '.join(SECTIONS)}",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"for all of it; {MINUTES:g} by default"
    )
    parser.add_argument("--model", type=Path, help="folder of a real model to check as well")
    parser.add_argument(
        "--output", type=Path, default=WORK, help="folder for gpu.json and gpu.md; .cache/gpu"
    )
    given = parser.parse_args(arguments)
    if not given.minutes > 0:
        parser.error(f"--minutes must be more than 0, not {given.minutes}")
    if given.model is not None and not given.model.is_dir():
        parser.error(f"--model must be a folder, and {given.model} is none")
    return given


def _end(number: int, frame: FrameType | None) -> None:
    """What was found is on disk; the section's process ends with this one."""
    sys.exit(128 + number)
