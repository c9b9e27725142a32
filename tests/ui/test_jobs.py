"""Commands in processes of their own."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.errors import CoreError, OptionError
from core_ui.jobs import MOST_RUNNING, Job, Jobs
from core_ui.sessions import Session, Sessions, Variant
from tests.ui.serving import runs

#: Far more than a busy machine needs.
SECONDS = 120


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    started = Jobs()
    yield started
    started.close()


def finished(job: Job) -> Job:
    assert job.wait(SECONDS), job.lines
    return job


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def encoding(model: Path) -> Callable[[Path], list[list[str]]]:
    """A command that lasts: it reads a pipe to which nobody writes."""

    def steps(folder: Path) -> list[list[str]]:
        os.mkfifo(folder / "never.txt")
        output = str(folder / "out.npy")
        words = ["encode", str(model), "--backend", "onnx", "--input", str(folder / "never.txt")]
        return [[*words, "--output", output]]

    return steps


def test_commands_run_one_after_the_other_until_one_fails(
    jobs: Jobs, tiny_model: Callable[[str], Path]
) -> None:
    model = str(tiny_model("bert-cls"))
    info = ["info", model, "--json"]
    done = finished(jobs.start(lambda folder: [info, info]))
    assert done.state == "done"
    first, second = done.results()
    assert first == second
    assert first["dimension"] == 32
    absent = str(Path(model, "absent"))
    failed = finished(jobs.start(lambda folder: [["info", absent, "--json"], info]))
    assert failed.state == "failed"
    assert "absent" in failed.failure
    assert not failed.failure.startswith("core info")
    with pytest.raises(CoreError, match="absent"):
        failed.results()


def test_a_token_goes_to_the_process_and_nowhere_else(
    jobs: Jobs, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python runs this at the start of every process that has the folder on its path.
    (tmp_path / "sitecustomize.py").write_text(
        f"import os\nopen({str(tmp_path / 'seen')!r}, 'w').write(os.environ.get('HF_TOKEN', ''))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    job = finished(
        jobs.start(
            lambda folder: [["info", str(tiny_model("bert-cls")), "--json"]],
            token="hf_secret",
            texts={"texts.txt": "h\u00e9llo\n"},
        )
    )
    assert job.state == "done"
    assert (tmp_path / "seen").read_text() == "hf_secret"
    assert "HF_TOKEN" not in os.environ
    assert "hf_secret" not in repr(job) + "".join(job.lines)
    assert [path.name for path in job.folder.iterdir()] == ["texts.txt"]
    assert (job.folder / "texts.txt").read_text(encoding="utf-8") == "h\u00e9llo\n"


def test_a_cancelled_job_ends_and_leaves_nothing(
    jobs: Jobs, tiny_model: Callable[[str], Path]
) -> None:
    job = jobs.start(encoding(tiny_model("bert-cls")))
    (job.folder / "never.txt").open("wb").close()  # the command sees that it can read it
    wait_for(lambda: job.lines)  # it says that it loads
    job.cancel()
    finished(job)
    assert job.state == "cancelled"
    assert "interrupted" in job.failure
    assert not list(job.folder.glob("*.npy"))
    with pytest.raises(CoreError):
        job.results()
    jobs.forget(job)
    assert not job.folder.exists()


def test_a_job_whose_process_is_killed_says_so(
    jobs: Jobs, tiny_model: Callable[[str], Path]
) -> None:
    """As the system does where memory runs out."""
    job = jobs.start(encoding(tiny_model("bert-cls")))
    wait_for(lambda: job._process)
    assert job._process is not None
    job._process.kill()
    finished(job)
    assert job.state == "failed"
    assert job.failure.startswith("its process was ended by SIGKILL")
    assert "memory" in job.failure


def test_a_job_that_finds_no_room_is_refused_and_leaves_nothing(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(CoreError, match=r"No space left.*TMPDIR"):
        jobs.start(lambda folder: [["info", "x"]], texts={"texts.txt": "one"})
    assert list(Path(jobs._folder.name).iterdir()) == []


def test_a_text_with_half_of_a_character_is_refused_and_leaves_nothing(jobs: Jobs) -> None:
    folders: list[Path] = []

    def steps(folder: Path) -> list[list[str]]:
        folders.append(folder)
        return [["backends"]]

    with pytest.raises(OptionError, match=r"Line 2 of what becomes texts\.txt .*'\\ud83d'"):
        jobs.start(steps, texts={"texts.txt": "one\ntwo \ud83d\n"})
    finished(jobs.start(steps, texts={"texts.txt": "one\ntwo \U0001f600\n"}))
    (folder,) = folders
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_only_so_many_run_at_once(jobs: Jobs, tiny_model: Callable[[str], Path]) -> None:
    model = tiny_model("bert-cls")
    running = [jobs.start(encoding(model)) for _ in range(MOST_RUNNING)]
    with pytest.raises(OptionError, match=f"{MOST_RUNNING} jobs run already"):
        jobs.start(encoding(model))
    jobs.forget(running[0])  # one that runs is not forgotten
    assert running[0].folder.exists()
    jobs.close()
    for job in running:  # on a busy machine one may take longer than the server waits
        finished(job)
    assert {job.state for job in running} == {"cancelled"}
    assert not running[0].folder.exists()


SERVER = """
import sys, time
from core_ui.jobs import Jobs
jobs = Jobs()
words = ["optimize", sys.argv[1], "--backend", "torch", "--config", "bf16", "--target", sys.argv[2]]
job = jobs.start(lambda folder: [words])
while not any("writing" in line or "comparing" in line for line in job.lines):
    assert job.state == "running", job.lines
    time.sleep(0.001)
print(job._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_server_leaves_no_half_written_model(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tiny_model("bert-cls")), str(target)],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        child = int(server.stdout.readline())
        server.send_signal(signal.SIGKILL)
    wait_for(lambda: not runs(child))
    if target.exists():  # it was quicker: then it is whole
        import core

        with core.load(str(target), backend="torch", file_name="model_bf16.safetensors") as model:
            assert model.encode("one text").shape == (32,)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["target"])


def test_browsers_do_not_see_each_other(jobs: Jobs) -> None:
    sessions = Sessions(jobs)
    one, other = sessions.of("one"), sessions.of("other")
    made = Variant("/models/a", backend="onnx", file_name="onnx/model.onnx", is_artifact=True)
    one.note_made(made)
    assert sessions.of("one") is one
    assert one.variants("", "") == [made]
    assert other.variants("", "") == []
    with pytest.raises(OptionError, match="cookies"):
        sessions.of(None)


def test_idle_sessions_make_room(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core_ui.sessions._MOST_SESSIONS", 2)
    sessions = Sessions(jobs)
    first = sessions.of("first")
    sessions.of("second")
    sessions.of("third")
    assert sessions.of("first") is not first


def test_a_model_that_was_not_shown_has_its_kind(tiny_kind: Callable[[str], Path]) -> None:
    session = Session()
    assert session.kind_of(str(tiny_kind("reranker-bert"))) == "reranker"
    assert session.kind_of("/nowhere") == session.kind_of("owner/name") == "embedding"


def test_variants_are_what_was_made_then_the_models_own() -> None:
    session = Session()
    session.info = {
        "kind": "embedding",
        "artifacts": [
            {"backend": "torch", "file": "model.safetensors", "operation": None},
            {"backend": "onnx", "file": "onnx/model_O3.onnx", "operation": "optimize"},
        ],
    }
    session.shown = ("/models/a", "")
    session.note_made(Variant("/made", backend="onnx", file_name="onnx/model.onnx"))
    found = session.variants("/models/a", "")
    assert [variant.label for variant in found] == [
        "made: onnx, onnx/model.onnx",
        "a: as it loads by default",
        "a: torch, model.safetensors",
        "a: onnx, onnx/model_O3.onnx",
    ]
    assert [variant.is_artifact for variant in found] == [False, False, False, True]
    assert len(session.variants("/models/b", "")) == 2  # another model: its files are not known
