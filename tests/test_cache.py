"""`core cache`: what is listed, what is removed, and what another process is writing stays."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.cli import main
from core.files.staging import STAGING_PREFIX, staging_directory
from tests.conftest import Exports, as_another_user, copy_model

DAY = 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CORE_CACHE", str(folder))
    return folder


def fill(folder: Path, size: int, days: float = 0) -> Path:
    """A cache folder as an export leaves it."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"x" * size)
    record = folder.with_name(f"{folder.name}.json")
    record.write_text('["model.onnx"]')
    folder.with_name(f"{folder.name}.lock").touch()
    for path in (folder / "model.onnx", folder, record):
        os.utime(path, (time.time() - days * DAY,) * 2)
    return folder


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["cache", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_empty_cache_is_said_to_be_empty(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"{cache} is empty.\n"
    assert report(capsys, "clear")["removed"] == []
    assert not cache.exists()


def test_folders_are_listed_with_size_and_age(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(cache / "exports/onnx/small-1", 1_000, days=3)
    fill(cache / "artifacts/acme--large-2", 2_000_000)
    assert main(["cache"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["FOLDER", "SIZE", "AGE"]
    assert lines[0].split(maxsplit=3) == ["artifacts/acme--large-2", "2.0", "MB", "under an hour"]
    assert lines[1].split(maxsplit=3) == ["exports/onnx/small-1", "1.0", "kB", "3 days"]
    assert lines[2] == f"2.0 MB in {cache}. `core cache clear` removes it."
    found = report(capsys)
    assert found["directory"] == str(cache)
    assert [Path(f["folder"]).name for f in found["folders"]] == ["acme--large-2", "small-1"]
    assert found["folders"][1]["age_days"] == pytest.approx(3, abs=0.01)
    assert found["bytes"] == sum(f["bytes"] for f in found["folders"])


def test_clearing_removes_what_is_old_enough_and_nothing_that_is_not_ours(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = fill(cache / "exports/onnx/old", 1_000, days=10)
    new = fill(cache / "exports/openvino/new", 1_000)
    mine = fill(cache / "notes/mine", 10)
    elsewhere = fill(cache.parent / "elsewhere", 10)
    (cache / "exports/onnx/link").symlink_to(elsewhere)
    found = report(capsys, "clear", "--older-than", "7")
    assert [f["folder"] for f in found["removed"]] == [str(old)]
    assert found["bytes"] >= 1_000
    assert not old.exists()
    assert not old.with_name("old.json").exists()
    assert new.exists()
    assert main(["cache", "clear"]) == 0
    assert "removed exports/openvino/new, 1.0 kB" in capsys.readouterr().out
    assert not new.exists()
    assert (mine / "model.onnx").exists()
    assert (elsewhere / "model.onnx").exists()


@pytest.mark.parametrize(
    "lock",
    [
        "from filelock import FileLock; lock = FileLock(f'{folder}.lock'); lock.acquire()",
        "import fcntl; file = os.open(folder, os.O_RDONLY); fcntl.flock(file, fcntl.LOCK_EX)",
    ],
    ids=["export", "artifact"],
)
def test_what_another_process_is_writing_stays(
    lock: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(cache / "exports/onnx/busy", 1_000)
    program = f"import os, sys; folder = sys.argv[1]\n{lock}\nprint('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "held\n"
        assert report(capsys)["folders"][0]["in_use"]
        assert main(["cache", "clear"]) == 0
        assert "kept exports/onnx/busy: a process is writing it" in capsys.readouterr().out
        assert (folder / "model.onnx").exists()
        writer.communicate("\n")
    assert report(capsys, "clear")["kept"] == []
    assert not folder.exists()


def test_what_a_killed_process_left_is_listed_and_removed(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = fill(cache / "exports/onnx/finished", 1_000)
    with staging_directory(finished) as tree:
        (tree / "model.onnx").write_bytes(b"x" * 5_000)
        left = shutil.copytree(tree.parent, tree.parent.with_name(f"{STAGING_PREFIX}killed"))
        found = {f["folder"]: f for f in report(capsys)["folders"]}
        assert found[str(left)]["bytes"] == 5_000
        assert not found[str(left)]["in_use"]
        assert found[str(tree.parent)]["in_use"]
        cleared = report(capsys, "clear")
        assert {f["folder"] for f in cleared["removed"]} == {str(left), str(finished)}
        assert (tree / "model.onnx").exists()
    assert not left.exists()


def test_what_cannot_be_removed_is_named_and_stops_nothing(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck = fill(cache / "exports/onnx/stuck", 2_000)
    stuck.with_name("stuck.json").unlink()
    (stuck.with_name("stuck.json") / "in the way").mkdir(parents=True)
    small = fill(cache / "exports/openvino/small", 1_000)
    assert main(["cache", "clear"]) == 1
    said = capsys.readouterr()
    assert "removed exports/openvino/small, 1.0 kB" in said.out
    assert str(stuck) in said.err
    assert not small.exists()
    assert (stuck / "model.onnx").exists()


@pytest.mark.skipif(os.name == "nt", reason="rights are others there")
def test_a_cache_that_may_only_be_read_is_one_to_load_from(
    exports: Exports, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in an image whose programs run as another user than the one that filled the cache."""
    with tempfile.TemporaryDirectory() as place:  # pytest's own may not be entered by others
        Path(place).chmod(0o755)
        cache = Path(place, "cache")
        monkeypatch.setenv("CORE_CACHE", str(cache))
        model = copy_model(exports("bert-mean", "torch"), Path(place, "model"))
        with core.load(model, backend="onnx") as loaded:
            expected = loaded.encode("one text")
        room = cache / "exports/onnx"
        with as_another_user(room, mode=0o555):
            with core.load(model, backend="onnx") as loaded:
                assert np.array_equal(loaded.encode("one text"), expected)
            with pytest.raises(core.CoreError, match=r"Cannot write .*no permission.*CORE_CACHE"):
                core.load(model, backend="onnx", export=True)
            assert main(["cache", "clear"]) == 1
            assert "Cannot write" in capsys.readouterr().err
        with as_another_user(cache):
            assert main(["cache"]) == 1
            assert f"Cannot list the cache {cache}" in capsys.readouterr().err


@pytest.mark.parametrize("full", ["model.onnx", "record"])
def test_an_export_that_fails_leaves_no_folder_that_counts(
    full: str, exports: Exports, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the export is written, or when it is recorded as finished."""
    source = exports("bert-mean", "torch")
    write, tried = Path.write_text, []

    def refused(path: Path, *arguments: Any, **keywords: Any) -> int:
        if full == "record" and path.parent == cache / "exports/onnx":
            tried.append(path)
            path.touch()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "write_text", refused)
    if full == "model.onnx":
        monkeypatch.setattr("torch.onnx.export", lambda *_, **__: os.write(-1, b""))
    with pytest.raises(core.CoreError):
        core.load(source, backend="onnx")
    assert full != "record" or tried
    kept = [path for path in (cache / "exports/onnx").iterdir() if path.suffix != ".lock"]
    assert len(kept) == (full == "record")
    assert not [path for path in kept if path.is_file()]


def test_folders_that_disappear_while_they_are_listed_are_left_out(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = fill(cache / "exports/onnx/gone", 1_000)
    late = fill(cache / "exports/onnx/late", 1_000)
    fill(cache / "exports/onnx/stays", 1_000)
    walk = os.walk

    def walk_and_lose(top: Path) -> Any:
        if top == gone:
            shutil.rmtree(late)  # before it is looked at
        yield from walk(top)
        if top == gone:
            shutil.rmtree(gone)

    monkeypatch.setattr(os, "walk", walk_and_lose)
    assert [Path(f["folder"]).name for f in report(capsys)["folders"]] == ["stays"]


def test_an_export_that_was_cleared_is_made_again(
    cache: Path,
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = copy_model(tiny_model("bert-mean"), tmp_path / "tiny")
    core.load(model, backend="onnx").close()
    (entry,) = report(capsys)["folders"]
    assert "exports/onnx/tiny-" in entry["folder"]
    assert report(capsys, "clear")["removed"][0]["folder"] == entry["folder"]
    with core.load(model, backend="onnx") as again:
        assert again.encode("a text").shape == (32,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older-than", "3"], "belongs to `core cache clear`"),
        (["clear", "--older-than", "-1"], "0 or more, not -1.0"),
        (["clear", "--older-than", "nan"], "0 or more, not nan"),
        (["empty"], "invalid choice"),
    ],
)
def test_wrong_usage_is_refused(
    arguments: list[str], message: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", *arguments]) == 2
    assert message in capsys.readouterr().err
