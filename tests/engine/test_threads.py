"""Which processors a process may use, read from the files of real kernels' layouts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import OptionError
from core.machine.cpus import available_cpus, cgroup_quota

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


def test_quota_of_cgroup_v2_is_the_tightest_of_the_groups_above(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/job.scope",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/user.slice/cpu.max": "150000 100000",
            "sys/fs/cgroup/user.slice/job.scope/cpu.max": "400000 100000",
        },
    )
    assert cgroup_quota(root) == 1.5


def test_quota_max_is_no_limit(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/cpu.max": "max 100000",
        },
    )
    assert cgroup_quota(root) is None


@pytest.mark.parametrize(("quota", "expected"), [("250000", 2.5), ("-1", None)])
def test_quota_of_cgroup_v1_in_a_container_that_sees_the_hosts_path(
    tmp_path: Path, quota: str, expected: float | None
) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/",
            "proc/self/mountinfo": V1_MOUNT.format(root="/docker/abc"),
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": quota,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
    )
    assert cgroup_quota(root) == expected


def test_hardware_threads_of_one_core_count_once_and_the_quota_caps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CORE_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    cpu = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    files = {cpu.format(n): pair for n, pair in enumerate(["0,2", "1,3", "0,2", "1,3"])}
    assert available_cpus(tree(tmp_path, files)) == 2
    files |= {
        "proc/self/cgroup": "0::/",
        "proc/self/mountinfo": V2_MOUNT,
        "sys/fs/cgroup/cpu.max": "20000 100000",
    }
    assert available_cpus(tree(tmp_path, files)) == 1


def test_broken_files_are_no_limit(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "nonsense\n0::/",
            "proc/self/mountinfo": "nonsense\n" + V2_MOUNT,
            "sys/fs/cgroup/cpu.max": "many 0",
        },
    )
    assert cgroup_quota(root) is None
    assert cgroup_quota(tmp_path / "missing") is None


def test_the_variable_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_NUM_THREADS", " 7 ")
    assert available_cpus() == 7


@pytest.mark.parametrize("value", ["100000", "9" * 5000, "0", "-1", "two", "1.5", "²"])
def test_a_variable_that_is_no_number_is_an_error(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("CORE_NUM_THREADS", value)
    with pytest.raises(OptionError, match=r"CORE_NUM_THREADS=.*1 or more"):
        available_cpus()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_affinity_of_the_process_counts() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from core.machine.cpus import available_cpus; print(available_cpus())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CORE_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "1"
