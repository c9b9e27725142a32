"""How many processors this process may use: affinity, container quota, or `CORE_NUM_THREADS`.

Runtimes left alone start a thread for every processor of the machine, also in a container that
may use two of them; the threads then take turns and everything slows down.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from core.errors import OptionError

#: Overrides what is found here.
THREADS_VARIABLE = "CORE_NUM_THREADS"
#: More is a mistake, and would fill the memory: runtimes start every thread they are told.
MOST_THREADS = 4_096


def available_cpus(root: Path = Path("/")) -> int:
    """Processor cores this process may compute on, at least 1.

    `$CORE_NUM_THREADS` if set; else the cores of the affinity mask, hardware threads of one core
    counted once (they share its arithmetic units), and no more than the cgroup's quota, rounded
    up. `root` is where /proc and /sys are looked for.

    Raises:
        OptionError: `$CORE_NUM_THREADS` is no number of threads.
    """
    given = os.environ.get(THREADS_VARIABLE, "").strip()
    if given:
        whole = given.isascii() and given.isdigit() and len(given) < 20
        if not whole or not 1 <= int(given) <= MOST_THREADS:
            raise OptionError(
                f"{THREADS_VARIABLE}={given!r:.60}: set it to a number of threads, 1 or more (at "
                f"most {MOST_THREADS:,}), or unset it to use every processor this process may run "
                "on."
            )
        return int(given)
    cores = _cores(root, _affinity())
    quota = cgroup_quota(root)
    return cores if quota is None else max(min(cores, math.ceil(quota)), 1)


def limit_tokenizer_threads() -> None:
    """Let `$CORE_NUM_THREADS` hold for tokenizers too, whose threads start with their first batch.

    Without it they count affinity and quota themselves.
    """
    if os.environ.get(THREADS_VARIABLE, "").strip():
        os.environ.setdefault("RAYON_NUM_THREADS", str(available_cpus()))


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _cores(root: Path, processors: frozenset[int]) -> int:
    siblings = set()
    for number in processors:
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
        shared = _read(topology / "core_cpus_list") or _read(topology / "thread_siblings_list")
        siblings.add(shared or str(number))
    return max(len(siblings), 1)


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Processors the control groups of this process may use on average; None without a limit.

    Reads both versions: `cpu.max` (cgroup v2) and `cpu.cfs_quota_us` (v1), in the process's group
    and in every group above it. The tightest counts.
    """
    limits = [limit for folder in _groups(root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _limit(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    try:
        limit = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max" is v2's no limit
        return None
    return limit if limit > 0 else None  # -1 is v1's


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the groups that limit this process's processor time."""
    paths = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            paths["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            paths["cgroup"] = path
    for line in _read(root / "proc/self/mountinfo").splitlines():
        # Fields: id, parent, device, root in the file system, mount point, options...,
        # "-", file system type, source, super options.
        before, _, after = line.partition(" - ")
        kind, _, super_options = (*after.split(" ", 2), "", "", "")[:3]
        if kind not in paths or (kind == "cgroup" and "cpu" not in super_options.split(",")):
            continue
        mounted, mount = before.split(" ")[3:5]
        folder = root / mount.lstrip("/")
        group = PurePosixPath(paths[kind])
        # In a container the group's path may be the host's, and only its own part mounted.
        inner = group.relative_to(mounted) if group.is_relative_to(mounted) else PurePosixPath()
        if ".." in inner.parts:
            inner = PurePosixPath()
        yield folder
        for part in inner.parts:
            if part != "/":
                folder = folder / part
                yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
