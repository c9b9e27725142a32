"""Nothing that core imports opens a connection of its own or writes outside its directories."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import Exports, with_path

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("torch", "onnx", "openvino")
IMPORTED = "openvino imported before"
#: ONNX Runtime looks up its maker's address 9 seconds after it was imported.
SECONDS = 20
SWITCHES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "HF_UPDATE_DOWNLOAD_COUNTS")

#: OpenVINO and nncf as a program has them that imports them itself; what they report is dropped
#: until the guard is there.
BEFORE = """
import time
from openvino_telemetry.backend import backend_ga4
report, backend_ga4._send_func = backend_ga4._send_func, id
import nncf, openvino
from openvino_telemetry import Telemetry
while Telemetry().sender.queue_size:
    time.sleep(0.01)
backend_ga4._send_func = report
"""

#: Every operation of a backend on a cached model, then waiting.
WORK = """
import sys, time
from tests.syscalls import forbid_connections
forbid_connections()
start = time.monotonic()
import core
backend, target, seconds = sys.argv[1:]
model = core.load("acme/tiny", backend=backend, device="cpu", local_files_only=True)
model.encode(["one text", "another one"] * 40)
if backend != "torch":
    core.export("acme/tiny", backend=backend, target=target + "/exported", local_files_only=True)
    model.optimize(target=target + "/optimized")
model.quantize(target=target + "/quantized", num_samples=8)
model.save(target + "/saved")
time.sleep(max(start + float(seconds) - time.monotonic(), 0))
"""

LATE = """
import ctypes, multiprocessing, socket, subprocess, sys, threading, time
from tests.syscalls import forbid_connections
forbid_connections()
def late():
    time.sleep(0.1)
    {call}
thread = threading.Thread(target=late)
thread.start()
thread.join()
for process in multiprocessing.active_children():
    process.join()
"""
#: A native call, a name looked up, a datagram; and what addresses no other machine.
CONNECTIONS = (
    "libc = ctypes.CDLL(None); libc.connect(libc.socket(2, 2, 0), bytes(16), 16)",
    "socket.getaddrinfo('model.example', 443)",
    "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'1', ('::1', 9))",
    "multiprocessing.get_context('fork').Process("
    "target=socket.getaddrinfo, args=('model.example', 443)).start()",
    "subprocess.run([sys.executable, '-c', "
    "\"import socket; socket.socket().connect(('192.0.2.1', 9))\"])",
)
HARMLESS = "socket.socket(); socket.socketpair(); socket.socket(socket.AF_UNIX).connect_ex('/no')"


class Watched(NamedTuple):
    """How a process ended whose home and temporary directories were empty."""

    code: int
    stderr: str
    left: list[str]


@pytest.fixture(scope="module")
def watched(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Watched]:
    """One process for each backend, and one that imports OpenVINO first, all at once: they mostly
    wait."""
    folder = tmp_path_factory.mktemp("watched")
    cached = folder / "hub" / "models--acme--tiny"
    shutil.copytree(exports("bert-mean", "onnx", "openvino"), cached / "snapshots" / "1234")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1234")
    running = {}
    for name, before in {**dict.fromkeys(BACKENDS, ""), IMPORTED: BEFORE}.items():
        own, backend = folder / name, name.partition(" ")[0]
        for inner in ("home", "temporary", "target"):
            (own / inner).mkdir(parents=True)
        environment = {
            **without_switches(),
            "HOME": str(own / "home"),
            "TMPDIR": str(own / "temporary"),
            "HF_HUB_CACHE": str(folder / "hub"),
            "CORE_CACHE": str(own / "cache"),
        }
        running[name] = subprocess.Popen(
            [sys.executable, "-c", before + WORK, backend, str(own / "target"), str(SECONDS)],
            env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    ended = {}
    for name, process in running.items():
        _, stderr = process.communicate()
        places = (folder / name / "home", folder / name / "temporary")
        left = [str(path) for place in places for path in place.rglob("*")]
        ended[name] = Watched(process.returncode, stderr, left)
    return ended


def without_switches() -> dict[str, str]:
    """This process's environment as a user has it, who set none of the switches."""
    own = (*SWITCHES, "DISABLE_TELEMETRY", "DO_NOT_TRACK", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return {**kept, "PYTHONPATH": with_path(ROOT)}


def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**without_switches(), **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("backend", [*BACKENDS, IMPORTED])
def test_no_operation_of_a_backend_connects_to_anything(
    watched: Mapping[str, Watched], backend: str
) -> None:
    code, stderr, _ = watched[backend]
    assert code != -signal.SIGSYS, "it connected to another machine"
    assert code == 0, stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_operation_of_a_backend_leaves_a_file_in_the_home_or_temporary_directory(
    watched: Mapping[str, Watched], backend: str
) -> None:
    assert watched[backend].left == []


@pytest.mark.parametrize("call", CONNECTIONS)
def test_the_guard_of_these_tests_sees_later_threads(call: str) -> None:
    assert run(LATE.format(call=call)).returncode == -signal.SIGSYS


def test_the_guard_of_these_tests_allows_what_goes_nowhere() -> None:
    assert run(LATE.format(call=HARMLESS)).returncode == 0


def test_switches_that_the_user_has_set_stay_as_they_are() -> None:
    script = f"import core, os; print([os.environ.get(name) for name in {SWITCHES!r}])"

    def found(**variables: str) -> Any:
        return run(script, **variables).stdout.strip()

    assert found() == "['1', '1', '0']"
    given = dict(zip(SWITCHES, ("0", "0", "1"), strict=True))
    assert found(**given) == "['0', '0', '1']"
    assert found(DO_NOT_TRACK="0") == "['1', None, '0']"


def test_the_hub_is_told_nothing_of_what_else_is_installed() -> None:
    script = (
        "import core\n"
        "from core.hub.repository import Repository\n"
        "print(Repository('acme/tiny').api._build_hf_headers()['user-agent'])"
    )
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("core/")
    assert "torch" not in done.stdout
