"""Saving when something goes wrong: killed, out of space, read-only, two at once."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import core
from core.cli import main
from core.errors import CoreError, OptionError
from core.files.staging import put_in_place, recover
from core.files.weights import write_safetensors
from tests.checkpoint.dialects import build_dialect
from tests.checkpoint.numpy_backend import register, unregister
from tests.checkpoint.saver import digest
from tests.conftest import ROOT, Exports, copy_model, one_is_quick

FULL_DISK_BYTES = 4_000_000


@pytest.fixture
def static(tmp_path: Path) -> Iterator[Path]:
    """A static embedding of some megabytes, and a backend that runs it while the test does."""
    register()
    folder = build_dialect("static-table", tmp_path / "static")
    table = np.random.default_rng(0).normal(size=(10_000, 64)).astype(np.float32)
    write_safetensors(folder / "0_StaticEmbedding/model.safetensors", {"embedding.weight": table})
    yield folder
    unregister()


@pytest.fixture
def other(static: Path, tmp_path: Path) -> Path:
    """Another model, with a file that the first does not have."""
    folder = tmp_path / "other"
    shutil.copytree(static, folder)
    table = np.random.default_rng(1).normal(size=(10_000, 64)).astype(np.float32)
    write_safetensors(folder / "0_StaticEmbedding/model.safetensors", {"embedding.weight": table})
    (folder / "README.md").write_text("the other one")
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_killed_at_any_moment_a_save_leaves_one_whole_model(
    static: Path, other: Path, tmp_path: Path
) -> None:
    (static / "README.md").write_text("the first one")
    target = tmp_path / "place" / "target"
    done = run("tests.checkpoint.saver", str(static), str(other), str(target), "50")
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    assert done.stdout.endswith("left []\n"), done.stdout
    ended = done.stdout.split()
    assert int(ended[1]) + int(ended[3]) == 50


@pytest.mark.slow
def test_two_processes_saving_to_one_directory_leave_one_whole_result(
    static: Path, other: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    code = (
        "import sys, core; from tests.checkpoint.numpy_backend import register; register();"
        "model = core.load(sys.argv[1], backend='numpy');"
        "[model.save(sys.argv[2]) for _ in range(20)]"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder), str(target)],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for folder in (static, other)
    ]  # fmt: skip
    assert [p.communicate()[1] for p in processes] == ["", ""]
    assert [p.returncode for p in processes] == [0, 0]
    table = (target / "0_StaticEmbedding/model.safetensors").read_bytes()
    tables = [(f / "0_StaticEmbedding/model.safetensors").read_bytes() for f in (static, other)]
    assert table in tables
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".core-")]
    with core.load(str(target), backend="numpy") as model:
        assert model.encode("x").shape == (64,)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs that the static model fits on once, but not twice."""
    place = tmp_path / "disk"
    place.mkdir()
    options = f"size={FULL_DISK_BYTES}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here; the next test needs no right")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_an_error_and_changes_nothing(
    static: Path, other: Path, small_disk: Path
) -> None:
    target = small_disk / "target"
    with core.load(str(static), backend="numpy") as model:
        model.save(target)
    before = digest(target)
    with core.load(str(other), backend="numpy") as model:
        with pytest.raises(CoreError, match=r"disk is full.*Nothing was changed"):
            model.save(target)
        # The same when it shows only while writing.
        (small_disk / "filler").write_bytes(bytes(500_000))
        (other / "late.txt").write_bytes(bytes(10))
        with pytest.raises(CoreError, match=r"disk is full.*Nothing was changed"):
            model.save(target)
    assert digest(target) == before
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "target"]


@pytest.mark.parametrize(
    "operation",
    one_is_quick(
        "optimize onnx O2",
        [
            "export onnx", "export openvino", "optimize openvino fp16", "optimize torch bf16",
            "quantize onnx auto", "quantize openvino int8-weights",
        ],
    ),
)  # fmt: skip
@pytest.mark.parametrize("left", [8_192, 0.98])
def test_a_full_disk_is_called_so_whatever_a_runtime_makes_of_it(
    exports: Exports, small_disk: Path, tmp_path: Path, operation: str, left: float
) -> None:
    """While the runtime writes, or when the files around what it wrote are put in place."""
    name, backend, *config = operation.split()
    source = exports("bert-mean", "torch" if name == "export" else backend)

    def run(target: Path) -> Path:
        with core.load(source, backend="torch" if name == "export" else backend) as model:
            if name == "export":
                core.export(model, backend=backend, target=target)
            else:
                getattr(model, name)(*config, target=target)
        return target

    if left < 1:  # of what all of it takes
        whole = run(tmp_path / "whole")
        left = left * sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    (small_disk / "filler").write_bytes(bytes(FULL_DISK_BYTES - int(left)))
    with pytest.raises(CoreError, match=r"disk is full.*Nothing was changed"):
        run(small_disk / "target")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_embeddings_that_a_disk_has_no_room_for_leave_the_old_ones(
    exports: Exports, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, old = tmp_path / "texts.txt", small_disk / "old.npy"
    texts.write_text("\n".join(f"text {number}" for number in range(500)), encoding="utf-8")
    old.write_bytes(b"old")
    (small_disk / "filler").write_bytes(bytes(FULL_DISK_BYTES - 40_000))
    words = ["encode", str(exports("bert-mean", "onnx")), "--backend", "onnx"]
    assert main([*words, "--input", str(texts), "--output", str(old)]) == 1
    assert f"Cannot write {old}: the disk is full." in capsys.readouterr().err
    assert old.read_bytes() == b"old"
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "old.npy"]


def test_a_write_that_fails_halfway_changes_nothing(
    static: Path, other: Path, tmp_path: Path
) -> None:
    target = tmp_path / "place" / "target"
    with core.load(str(static), backend="numpy") as model:
        model.save(target)
    before = digest(target)
    code = (
        "import sys, signal, resource, core;"
        "from tests.checkpoint.numpy_backend import register; register();"
        "model = core.load(sys.argv[1], backend='numpy');"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        "model.save(sys.argv[2])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(other), str(target)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "CoreError: Cannot write" in done.stderr
    assert "larger than allowed here (see `ulimit -f`). Nothing was changed." in done.stderr
    assert digest(target) == before
    assert [p.name for p in target.parent.iterdir()] == ["target"]


def test_a_read_only_place_is_an_error_and_changes_nothing(
    static: Path, other: Path, tmp_path: Path
) -> None:
    target = tmp_path / "place" / "target"
    with core.load(str(static), backend="numpy") as model:
        model.save(target)
    before = digest(target)
    code = (
        "import os, sys, core;"
        "from tests.checkpoint.numpy_backend import register; register();"
        "model = core.load(sys.argv[1], backend='numpy'); model.save(sys.argv[3]);"
        "os.geteuid() == 0 and os.seteuid(65534);"  # root may write anywhere
        "model.save(sys.argv[2])"
    )
    place = target.parent
    place.chmod(0o555)
    target.chmod(0o555)
    warm = str(tmp_path / "elsewhere")
    done = subprocess.run(
        [sys.executable, "-c", code, str(other), str(target), warm],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    place.chmod(0o755)
    target.chmod(0o755)
    assert "CoreError: Cannot write" in done.stderr
    assert "no permission. Choose a directory you may write to" in done.stderr
    assert digest(target) == before


def test_a_mount_point_is_saved_to_file_by_file(
    static: Path, other: Path, small_disk: Path
) -> None:
    (other / "0_StaticEmbedding/model.safetensors").unlink()
    table = np.ones((5_000, 64), np.float32)
    write_safetensors(other / "0_StaticEmbedding/model.safetensors", {"embedding.weight": table})
    with core.load(str(other), backend="numpy") as model:
        expected = model.encode("one text")
        model.save(small_disk)
        model.save(small_disk)
    with core.load(str(small_disk), backend="numpy") as model:
        assert np.array_equal(model.encode("one text"), expected)
    assert not [p for p in small_disk.iterdir() if p.name.startswith(".core-")]


def test_what_is_mounted_inside_stays_there(static: Path, other: Path, small_disk: Path) -> None:
    """A volume in a model's directory: the directory around it cannot be exchanged."""
    target = small_disk.parent
    with core.load(str(static), backend="numpy") as model:
        model.save(target / "model")
    inside = target / "model/data"
    inside.mkdir()
    subprocess.run(["mount", "--move", str(small_disk), str(inside)], check=True)
    try:
        (inside / "notes.txt").write_text("not of the model")
        with core.load(str(other), backend="numpy") as model:
            expected = model.encode("one text")
            model.save(target / "model")
        with core.load(str(target / "model"), backend="numpy") as model:
            assert np.array_equal(model.encode("one text"), expected)
        assert inside.is_mount()
        assert [path.name for path in inside.iterdir()] == ["notes.txt"]
        assert sorted(path.name for path in target.iterdir() if ".core-" in path.name) == []
    finally:
        subprocess.run(["mount", "--move", str(inside), str(small_disk)], check=True)


def test_weights_of_another_model_do_not_stay_in_a_mount_point(
    static: Path, other: Path, small_disk: Path
) -> None:
    with core.load(str(static), backend="numpy") as model:
        model.save(small_disk)
    for name in ("onnx/model.onnx", "notes/onnx.txt"):
        (small_disk / name).parent.mkdir()
        (small_disk / name).touch()
    (other / "0_StaticEmbedding/model.safetensors").unlink()
    table = np.ones((5_000, 16), np.float32)
    write_safetensors(other / "0_StaticEmbedding/model.safetensors", {"embedding.weight": table})
    with core.load(str(other), backend="numpy") as model:
        model.save(small_disk)
    assert not (small_disk / "onnx/model.onnx").exists()
    assert (small_disk / "notes/onnx.txt").exists()


def test_the_current_directory_can_be_saved_to(
    static: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(static, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    with core.load(".", backend="numpy") as model:
        model.prompts["query"] = "q: "
        model.save(".")
    assert Path.cwd() == tmp_path / "here"
    assert "`cd .` leads to the new one" in caplog.text  # for the shell that stands there
    with core.load(".", backend="numpy") as model:
        assert model.prompts == {"query": "q: "}


def test_other_files_of_the_directory_stay(static: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / ".git/refs").mkdir(parents=True)
    (target / ".git/HEAD").write_text("ref: refs/heads/main")
    (target / "notes.md").write_text("mine")
    (target / "link").symlink_to("notes.md")
    target.chmod(0o750)
    with core.load(str(static), backend="numpy") as model:
        model.save(target)
    assert (target / ".git/refs").is_dir()
    assert (target / ".git/HEAD").read_text() == "ref: refs/heads/main"
    assert (target / "link").read_text() == "mine"
    assert (target / "link").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o750


def test_weights_of_another_model_do_not_stay(static: Path, other: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with core.load(str(other), backend="numpy") as model:
        model.save(target)
    (target / "onnx").mkdir()
    (target / "onnx/model.onnx").write_bytes(b"the other model's graph")
    (target / "notes.md").write_text("mine")
    with core.load(str(other), backend="numpy") as model:
        model.save(target)
    assert (target / "onnx/model.onnx").exists()  # of the same model
    with core.load(str(static), backend="numpy") as model:
        model.save(target)
    assert not (target / "onnx/model.onnx").exists()
    assert (target / "notes.md").read_text() == "mine"
    assert (target / "README.md").read_text() == "the other one"


def test_a_directory_of_other_things_gets_a_model_and_loses_nothing(
    static: Path, other: Path, tmp_path: Path
) -> None:
    """A project or a home: other models, data and programs that are at work in it."""
    project = tmp_path / "project"
    shutil.copytree(other, project / "models/first")
    (project / "data").mkdir()
    for name in ("package.json", "data/results.json", "data/index.bin", "README.md"):
        (project / name).write_text("mine")
    before = {path: path.stat() for path in project.rglob("*") if path.is_file()}
    contents = {path: path.read_bytes() for path in before}
    place = project.stat().st_ino
    with core.load(str(static), backend="numpy") as model:
        expected = model.encode("one text")
        model.save(project)
    for path, was in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (was.st_ino, was.st_mtime_ns), path
        assert path.stat().st_nlink == 1
    assert project.stat().st_ino == place
    assert not [path for path in project.iterdir() if ".core-" in path.name]
    with core.load(str(project), backend="numpy") as model:
        assert np.array_equal(model.encode("one text"), expected)
    (other / "README.md").unlink()
    with core.load(str(other), backend="numpy") as model:  # now in the place of a model
        model.save(project)
    assert {path: path.read_bytes() for path in before} == contents


def test_a_model_of_few_words_is_replaced_by_itself(exports: Exports, tmp_path: Path) -> None:
    """Its config.json states no type, and nothing else says that the directory is a model."""
    folder = copy_model(exports("bert-mean", "onnx"), tmp_path / "model")
    for name in ("modules.json", "config_sentence_transformers.json", "README.md"):
        (folder / name).unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stated = {key: config[key] for key in config if key not in ("model_type", "architectures")}
    (folder / "config.json").write_text(json.dumps(stated), encoding="utf-8")
    with core.load(folder, backend="onnx") as model:
        expected = model.encode("one text")
        model.prompts["query"] = "q: "
        model.save(folder)
    with core.load(folder, backend="onnx") as model:
        assert model.prompts == {"query": "q: "}
        np.testing.assert_allclose(model.encode("one text"), expected, atol=1e-6)


def test_what_lies_in_folders_of_a_model_that_is_replaced_stays(
    static: Path, other: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    shutil.copytree(other, target)
    shutil.copytree(other, target / "checkpoint-10")
    for name in ("runs/metrics.json", "runs/best.pt", "2024_results/scores.json"):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("mine")
    before = digest(target / "checkpoint-10")
    with core.load(str(static), backend="numpy") as model:
        model.save(target)
    assert digest(target / "checkpoint-10") == before
    for name in ("runs/metrics.json", "runs/best.pt", "2024_results/scores.json"):
        assert (target / name).read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["config.json", "onnx/model.onnx", "modules.json/mine", "0_StaticEmbedding"]
)
def test_files_of_something_else_are_neither_overwritten_nor_taken_for_the_models(
    static: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "target"
    (target / name).parent.mkdir(parents=True)
    (target / name).write_text('{"port": 80}')
    (static / "config.json").write_text("{}")
    before = digest(target)
    with core.load(str(static), backend="numpy") as model:
        named = name.partition("/mine")[0]
        with pytest.raises(OptionError, match=rf"holds no model .*, but {named}, .*Nothing was c"):
            model.save(target)
    assert digest(target) == before


@pytest.mark.parametrize(
    "dialect", one_is_quick("static-table", ["transformer-in-a-folder", "dense-in-pickle"])
)
def test_no_part_of_a_model_can_be_taken_for_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    """Interrupted before each of its files, in a directory that cannot be exchanged."""
    register()
    source = build_dialect(dialect, tmp_path / "source")
    backend = "numpy" if dialect == "static-table" else "torch"
    rename, left = Path.replace, 0

    def interrupted(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with core.load(str(source), backend=backend) as model:
        for files in range(100):
            target = tmp_path / str(files)
            target.mkdir()
            (target / "notes.txt").write_text("mine")
            left = files
            try:
                model.save(target)
            except KeyboardInterrupt:
                with pytest.raises(CoreError):
                    core.load(str(target), backend=backend)
            else:
                core.load(str(target), backend=backend).close()
                break
    unregister()
    assert files > 3


def test_a_file_cannot_be_saved_to(static: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with core.load(str(static), backend="numpy") as model:
        with pytest.raises(OptionError, match="is a file; a model is saved to a directory"):
            model.save(tmp_path / "file")
        with pytest.raises(CoreError, match="a file is in the way"):
            model.save(tmp_path / "file" / "inside")


def test_without_an_exchange_a_killed_replacement_is_undone(tmp_path: Path) -> None:
    """The state between the two renames, as a file system without exchanges would leave it."""
    target = tmp_path / "target"
    previous = tmp_path / ".target.core-previous"
    previous.mkdir()
    (previous / "old").write_text("old")
    recover(target)
    assert (target / "old").read_text() == "old"
    assert not previous.exists()
    # Killed after the second rename: the new one is there and the old one goes.
    previous.mkdir()
    recover(target)
    assert (target / "old").exists()
    assert not previous.exists()


def test_a_load_too_puts_back_what_a_killed_replacement_left(static: Path, tmp_path: Path) -> None:
    shutil.copytree(static, tmp_path / ".model.core-previous")
    with core.load(str(tmp_path / "model"), backend="numpy") as model:
        assert model.encode("text").any()
    (tmp_path / "model" / "0_StaticEmbedding").rename(
        tmp_path / "model" / ".0_StaticEmbedding.core-previous"
    )
    with core.load(str(tmp_path / "model"), backend="numpy") as model:
        assert model.encode("text").any()


@pytest.mark.parametrize("refusal", ["ENOSYS", "EINVAL", "ENOTSUP", "EXDEV", None])
def test_without_an_exchange_the_directory_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str | None
) -> None:
    """Kernels, file systems and C libraries that cannot exchange two directories."""
    asked = []

    def refuse(*arguments: object) -> int:
        asked.append(arguments)
        ctypes.set_errno(getattr(errno, str(refusal)))
        return -1

    functions = {} if refusal is None else {"renameat2": refuse, "renamex_np": refuse}
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(**functions))
    tree, target = tmp_path / "tree", tmp_path / "target"
    for folder, text in ((tree, "new"), (target, "old")):
        folder.mkdir()
        (folder / "file").write_text(text)
    put_in_place(tree, target)
    assert len(asked) == len(functions) // 2
    assert (target / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


#: Kills an export into a new directory before its N-th change there, for every N, and each time
#: makes it again. Prints how many changes there are. Forked, so that models load once.
KILLED = """
import os, shutil, sys
from pathlib import Path
import core

model = core.load(sys.argv[1], backend="onnx")
root = Path(sys.argv[2])

def made(target, killed_at):
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    changes = 0
    def watch(event, arguments):
        nonlocal changes
        if event in ("os.rename", "os.remove"):
            if str(target) in str(arguments[1 if event == "os.rename" else 0]):
                changes += 1
                if changes == killed_at:
                    os._exit(9)
    sys.addaudithook(watch)
    model.optimize("O1", target)
    os._exit(0)

def names(target):
    return sorted(str(path.relative_to(target)) for path in target.rglob("*"))

assert made(root / "whole", 0) == 0
whole, number = names(root / "whole"), 0
while True:
    number += 1
    target = root / f"killed-{number}"
    if made(target, number) == 0:
        break
    assert made(target, 0) == 0
    assert names(target) == whole, (number, set(whole) ^ set(names(target)))
print(number)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_an_export_killed_at_any_change_and_made_again_leaves_a_whole_directory(
    exports: Exports, tmp_path: Path
) -> None:
    source = exports("bert-mean", "onnx")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(source), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 8  # more than the files of the configuration
    with (
        core.load(source, backend="onnx") as model,
        core.load(tmp_path / "killed-4", backend="onnx", file_name="model_O1.onnx") as again,
    ):
        np.testing.assert_allclose(again.encode("a fox"), model.encode("a fox"), atol=1e-5)
