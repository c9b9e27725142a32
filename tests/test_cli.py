"""The `core` command, in process; exit code 0 for done, 1 for failed, 2 for bad usage."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import core
import core.cli.encode
from core.cli import main
from core.testing import tiny_reranker
from tests.conftest import ROOT, copy_model


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path]) -> str:
    return str(tiny_model("bert-mean"))


def encode(*arguments: str) -> int:
    return main(["encode", *arguments, "--backend", "torch", "--device", "cpu"])


def test_texts_as_arguments(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert encode(tiny, "a fox", "机器") == 0
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [record["text"] for record in records] == ["a fox", "机器"]
    expected = core.load(tiny, backend="torch", device="cpu").encode(["a fox", "机器"])
    np.testing.assert_allclose([r["embedding"] for r in records], expected, atol=1e-6)
    assert captured.err == ""  # no progress bar unless standard error is a terminal


def test_a_text_file_to_npy(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "texts.txt"
    source.write_bytes("\ufeffone\r\n\ntwo 🙂\nlast".encode())
    output = tmp_path / "vectors.npy"
    assert encode(tiny, "--input", str(source), "--output", str(output), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["texts"] == 4
    assert summary["dimension"] == 32
    texts = ["one", "", "two 🙂", "last"]
    expected = core.load(tiny, backend="torch", device="cpu").encode(texts)
    np.testing.assert_allclose(np.load(output), expected, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir() if ".core-" in p.name] == []


def test_jsonl_in_and_out_with_options(tiny: str, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text('{"id": 1, "body": "one"}\n\n{"id": 2, "body": "two"}\n')
    output = tmp_path / "vectors.jsonl"
    options = ("--field", "body", "--normalize", "--truncate-dim", "8", "--prompt", "query: ")
    assert encode(tiny, "--input", str(source), "--output", str(output), *options) == 0
    records = [json.loads(line) for line in output.read_text().splitlines()]
    model = core.load(tiny, backend="torch", device="cpu")
    expected = model.encode(
        ["one", "two"], prompt="query: ", truncate_dim=8, normalize_embeddings=True
    )
    np.testing.assert_allclose([r["embedding"] for r in records], expected, atol=1e-6)


def test_standard_input(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"one\ntwo\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert encode(tiny, "--input", "-", "--precision", "ubinary") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(record["embedding"]) for record in records] == [4, 4]


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (b'{"text": "fine"}\n{"text": \n', "line 2: not JSON"),
        (b'{"text": "fine"}\n{"body": "x"}\n', "line 2: no field 'text'; it has 'body'"),
        (b'{"text": "fine"}\n\n{"text": null}\n', "line 3: the text is None"),
        (b'{"text": "fine"}\n{"text": "\xff"}\n', "line 2: not UTF-8"),
        (b'{"text": "fine"}\n{"text": "\\ud800"}\n', "line 2: the text has the lone surrogate"),
    ],
)
def test_bad_lines_are_named_and_leave_no_output(
    tiny: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    pattern: str,
) -> None:
    source, output = tmp_path / "texts.jsonl", tmp_path / "vectors.npy"
    source.write_bytes(content)
    output.write_bytes(b"earlier")
    assert encode(tiny, "--input", str(source), "--output", str(output)) == 1
    error = capsys.readouterr().err
    assert str(source) in error
    assert pattern in error
    assert output.read_bytes() == b"earlier"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("folder.npy", "is a directory. Name a file in it."),
        ("pipe.jsonl", "is no regular file. Leave it out, and redirect standard output."),
        ("linked.jsonl", "is no regular file"),
        ("file/x.npy", "is no directory"),
        ("absent/x.npy", "does not exist"),
        (f"{'x' * 252}.npy", "the path is too long"),
    ],
)
def test_an_output_that_cannot_be_put_there_is_found_first(
    tiny: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    says: str,
) -> None:
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "linked.jsonl").symlink_to(os.devnull)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("core.cli.encode.load_model", lambda *_: pytest.fail("loaded"))
    assert encode(tiny, "a", "--output", str(tmp_path / name)) in (1, 2)
    error = capsys.readouterr().err
    assert name in error
    assert says in error
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_is_a_link_stays_one(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "x.npy").symlink_to("data/x.npy")
    for count in (1, 2):  # first it leads to nothing
        assert encode(tiny, *["a"] * count, "--output", str(tmp_path / "x.npy")) == 0
        assert len(np.load(tmp_path / "data/x.npy")) == count
    assert (tmp_path / "x.npy").is_symlink()
    assert len(list(tmp_path.rglob("*"))) == 3


def test_a_full_disk_is_named_and_leaves_the_older_output(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output = tmp_path / "x.npy"
    output.write_bytes(b"earlier")
    monkeypatch.setattr(np, "save", full)
    assert encode(tiny, "a", "--output", str(output)) == 1
    assert f"Cannot write {output}: the disk is full." in capsys.readouterr().err
    assert output.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [output]


def test_two_commands_with_one_output_do_not_mix(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one begins and ends while the first one writes."""
    output = str(tmp_path / "x.jsonl")
    as_json = core.cli.encode._as_json

    def slowly(embeddings: np.ndarray) -> Iterator[dict[str, object]]:
        monkeypatch.setattr("core.cli.encode._as_json", as_json)
        assert encode(tiny, "from the second", "--output", output) == 0
        yield from as_json(embeddings)

    monkeypatch.setattr("core.cli.encode._as_json", slowly)
    assert encode(tiny, "from the first", "--output", output) == 0
    (record,) = map(json.loads, Path(output).read_text().splitlines())
    assert record["text"] == "from the first"


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ((), "give texts"),
        (
            ("a", "--input", "-"),
            "give texts as arguments or --input FILE (- for standard input), not both",
        ),
        (("--input", "texts.csv"), r".txt or .jsonl"),
        (("a", "--output", "x.csv"), r".npy or .jsonl"),
        (("a", "--batch-size", "0"), "--batch-size must be 1 or more"),
        (("a", "--prompt-name", "query"), "no prompt named 'query'"),
        (("a", "--json"), "--output FILE"),
        (("a", "--output", "absent/x.npy"), "the directory 'absent' does not exist"),
        (("a", "--output", ""), "--output must be a path"),
    ],
)
def test_bad_usage_is_exit_code_2(
    tiny: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], pattern: str
) -> None:
    assert encode(tiny, *arguments) == 2
    assert pattern in capsys.readouterr().err


def test_texts_that_begin_with_a_dash_follow_two(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["encode", tiny, "--backend", "torch", "--device", "cpu", "plain"]
    assert main([*arguments, "--", "-5 degrees", "--", "--output"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["text"] for r in records] == ["plain", "-5 degrees", "--", "--output"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("export", "--push-to-hub", ""), "--push-to-hub must be a non-empty string"),
        (("quantize", "--push-to-hub", ""), "'' is not the name of a repository"),
        (("quantize", "--field", "body"), "--field is of the lines of --calibration"),
        (("export", "--set", "model_name_or_path=x"), "names what MODEL is for: give it there"),
        (("optimize", "--set", "self=x"), "names what MODEL is for: give it there"),
        (
            ("optimize", "--set", "file_suffix=x"),
            "--set 'file_suffix' names what --file-suffix is for",
        ),
    ],
)
def test_what_an_operation_was_not_asked_for_is_no_silence(
    tiny: str, tmp_path: Path, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *rest = words
    assert main([command, tiny, "--backend", "torch", "--target", str(tmp_path), *rest]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_field_without_a_name_is_not_the_field_text(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n')
    assert encode(tiny, "--input", str(tmp_path / "texts.jsonl"), "--field", "") == 1
    assert "no field ''; it has 'text'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("encode", "m", "a", "--outptu", "x.npy"), "did you mean --output?"),
        (("encode", "m", "-"), "--input -"),
        (("quantize", "m", "--preset", "avx2"), "unrecognized arguments: --preset avx2"),
        (("info", "m", "--", "more"), "unrecognized arguments: more"),
    ],
)
def test_an_unknown_option_gets_its_command_s_usage(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"usage: core {arguments[0]} ")
    assert says in error


def test_a_field_says_that_standard_input_holds_json(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b'{"body": "one"}\n"two"\n'))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert encode(tiny, "--input", "-", "--field", "body") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["text"] for r in records] == ["one", "two"]


def test_info_of_files_whose_backend_is_missing(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORE_DISABLE_PLUGINS", "torch")
    assert main(["info", tiny]) == 0
    assert "For the files there are: `pip install core[torch]`" in capsys.readouterr().out
    monkeypatch.setenv("CORE_DISABLE_PLUGINS", "torch,onnx,openvino")
    assert main(["info", tiny]) == 0
    assert "No backend is installed" in capsys.readouterr().out


def test_failures_are_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encode(str(tmp_path / "absent"), "a") == 1
    assert "There is no directory" in capsys.readouterr().err
    assert main(["encode", "x", "a", "--backend", "nope"]) == 1
    assert "There is no backend 'nope'" in capsys.readouterr().err
    assert encode("some", "--input", str(tmp_path / "absent.txt")) == 1


def test_argparse_errors_are_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["unknown"], ["encode"], ["export", "x"]):
        assert main(arguments) == 2
    capsys.readouterr()


def test_backends_lists_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends"]) == 0
    text = capsys.readouterr().out
    assert "core-torch-backend" in text
    assert main(["backends", "--json"]) == 0
    statuses = json.loads(capsys.readouterr().out)
    assert statuses["torch"]["status"] == "ok"
    assert set(statuses["torch"]["hooks"]) == {
        "load", "export", "optimize", "quantize", "encode", "save",
    }  # fmt: skip


@pytest.mark.slow
def test_quantize_reports_file_size_speed_and_drift(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy_model(tiny_model("bert-cls"), tmp_path / "model")
    shared = ("--backend", "torch", "--device", "cpu", "--target", str(path))
    assert main(["quantize", str(path), *shared, "--num-samples", "16", "--measure"]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert str(path / "model_qint8.safetensors") in line
    assert "kB" in line
    assert "x the speed of its source" in line
    assert "cosine mean 0.99" in line
    assert main(["optimize", str(path), *shared, "--config", "bf16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["precision"] == "bf16"
    assert report["verification"]["min_cosine"] > 0.99
    assert report["bytes"] > 0
    assert main(["optimize", str(path), *shared, "--config", "O2"]) == 2
    assert "It has: compile, fp16, bf16." in capsys.readouterr().err


def test_export_of_weights(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "half"
    arguments = ["export", str(tiny_model("bert-cls")), "--backend", "torch"]
    assert main([*arguments, "--precision", "fp16", "--target", str(target), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] == str(target / "model_fp16.safetensors")
    # A directory made for an artifact alone holds all that loading it needs.
    model = core.load(target, backend="torch", device="cpu", file_name="model_fp16.safetensors")
    assert model.encode("a").shape == (32,)


def test_the_installed_command_and_the_module_run(tiny: str) -> None:
    for command in ([str(Path(sys.executable).parent / "core")], [sys.executable, "-m", "core"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"core {core.__version__}"


@pytest.mark.slow
def test_demo_shows_every_backend_in_float32_and_int8(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORE_CACHE", str(tmp_path))
    assert main(["demo", tiny]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    installed = [name for name, status in core.backends().items() if status.status == "ok"]
    assert {"torch", "onnx", "openvino"} <= set(installed)
    for name in installed:
        assert f"  {name}: loaded" in captured.out
    assert "Similarities (cosine):" in lines
    start = next(n for n, line in enumerate(lines) if line.startswith("BACKEND"))
    assert lines[start].split() == [
        *("BACKEND", "FILE", "DTYPE", "SIZE", "TEXTS/S", "SPEED", "COSINE", "MEAN,", "MIN"),
    ]
    rows = [line.split() for line in lines[start + 1 : start + 1 + 2 * len(installed)]]
    assert [(row[0], row[2]) for row in rows] == [
        (name, dtype) for name in installed for dtype in ("float32", "int8")
    ]
    for row in rows:
        assert float(row[3]) > 0
        assert row[6].endswith("x")
        assert float(row[-1]) > 0.8
    assert "A search in 8 sentences" in captured.out
    assert captured.err == ""  # the export it reports is not a warning as well


@pytest.mark.slow
def test_demo_of_a_reranker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own kind is found; what it says to type next works."""
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    folder = str(tiny_reranker(tmp_path / "reranker"))
    names = ("torch", "onnx")
    monkeypatch.setattr(core, "backends", lambda: {n: core.BackendStatus(n, "ok") for n in names})
    assert main(["demo", folder]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert any(line.startswith("Scores with") for line in lines)
    head = next(line for line in lines if line.startswith("BACKEND"))
    assert "PAIRS/S" in head
    assert "DIFFERENCE, RANKS" in head
    start = lines.index(head)
    rows = [line.split() for line in lines[start + 1 : start + 5]]
    assert [(row[0], row[2]) for row in rows] == [
        (name, dtype) for name in sorted(names) for dtype in ("float32", "int8")
    ]
    assert all(float(row[-1]) > 0.7 for row in rows)
    assert "The best of 6 documents" in shown
    for command in lines[lines.index("Next:") + 1 :]:
        words = shlex.split(command.partition("    (")[0])
        assert main(words[words.index("core") + 1 :]) == 0, command


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shown_first", "drift"),
    [
        ("splade", "The heaviest words of each document:", "OVERLAP, RANKS"),
        ("csr", "The heaviest dimensions of each document:", "OVERLAP, RANKS"),
        ("colbert", "Vectors of each document, [tokens, dimension]:", "DIFFERENCE, RANKS"),
    ],
)
def test_demo_of_other_kinds(
    name: str,
    shown_first: str,
    drift: str,
    tiny_kind: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Found by the model's files; what it says to type next works."""
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    names = ("torch", "onnx")
    monkeypatch.setattr(core, "backends", lambda: {n: core.BackendStatus(n, "ok") for n in names})
    assert main(["demo", str(tiny_kind(name))]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert shown_first in lines
    assert "The best of 6 documents" in shown
    head = next(n for n, line in enumerate(lines) if line.startswith("BACKEND"))
    assert drift in lines[head]
    rows = [line.split() for line in lines[head + 1 : head + 5]]
    assert [(row[0], row[2]) for row in rows] == [
        (name, dtype) for name in sorted(names) for dtype in ("float32", "int8")
    ]
    assert all(float(row[-1]) > 0.7 for row in rows)
    for command in lines[lines.index("Next:") + 1 :]:
        words = shlex.split(command.partition("    (")[0])
        assert main(words[words.index("core") + 1 :]) == 0, command


def test_a_demo_of_another_kind(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", tiny, "--kind", "reranker"]) == 1
    assert "not a reranker: give --kind embedding" in capsys.readouterr().err
    assert main(["demo", tiny, "--kind", "multi_vector"]) == 1  # as other commands spell it
    assert "not a multi-vector model" in capsys.readouterr().err


def test_what_the_demo_says_to_type_next_works(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORE_CACHE", str(tmp_path))
    names = ("missing", "torch")  # the first cannot load, which ends nothing
    monkeypatch.setattr(core, "backends", lambda: {n: core.BackendStatus(n, "ok") for n in names})
    assert main(["demo", tiny]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  missing: left out. There is no backend") for line in lines)
    commands = [line.strip() for line in lines[lines.index("Next:") + 1 :]]
    assert len(commands) == 3
    monkeypatch.delenv("CORE_CACHE")  # as after `make demo`, which sets it for itself
    for command in commands:
        words = shlex.split(command.partition("    (")[0])
        if "=" in words[0]:
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        assert words[0] == "core"
        assert main(words[1:]) == 0, command
    assert "demo" in capsys.readouterr().out.splitlines()[-2]  # what it wrote is listed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_stages_are_shown_on_a_terminal_only(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", tiny, "--backend", "onnx", "--target"]
    assert main([*arguments, str(tmp_path / "quiet")]) == 0
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert main([*arguments, str(tmp_path / "shown"), "--measure"]) == 0
    lines = terminal.getvalue().splitlines()
    assert all(re.match(r" +\d+ s  \w", line) for line in lines)
    stages = [line.partition(" s  ")[2] for line in lines]
    for stage in (
        f"exporting {tiny} to the onnx backend",
        f"loading {tiny} with the torch backend",
        "tracing the model into an ONNX graph",
        "comparing onnx/model.onnx with what it was made from",
        f"writing onnx/model.onnx to {tmp_path / 'shown'}",
        "measuring the speed of both",
    ):
        assert stage in stages
    assert main(["quantize", str(tmp_path / "shown"), "--backend", "onnx"]) == 0
    assert "quantizing" in terminal.getvalue()


#: Runs the command line and sends it a signal, as Ctrl-C does, when it imports a module.
INTERRUPTED = """
import os, runpy, signal, sys
module, name, *words = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # so does one that nohup has started
def press(event, arguments):
    if event == "import" and arguments[0] == module:
        signal.raise_signal(signal.Signals[name])
sys.addaudithook(press)
sys.argv = ["core", *words]
runpy.run_module("core", run_name="__main__")
"""


@pytest.mark.parametrize(
    "module", ["core.cli", "argparse", "core.errors", "pluggy", "core.cli.models", "json"]
)
def test_ctrl_c_while_the_command_line_is_imported_ends_without_a_traceback(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, "SIGINT", "backends"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("interrupted.\n")
    assert done.returncode == 130


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_command_that_is_stopped_leaves_nothing_behind(
    tiny: str, tmp_path: Path, name: str, code: int
) -> None:
    command = ("export", tiny, "--backend", "torch", "--target", str(tmp_path / "made"))
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "torch_backend.export", name, *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "core export: interrupted.\n")
    assert list(tmp_path.iterdir()) == []


HIDDEN = """
import runpy, sys
module, *words = sys.argv[1:]
class Compiled:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == module:  # what pybind11 makes of an interrupt
            raise ImportError("initialization failed") from KeyboardInterrupt()
sys.meta_path.insert(0, Compiled)
sys.argv = ["core", *words]
runpy.run_module("core", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("backend", "module"),
    [
        ("torch", "torch"),
        ("onnx", "onnxruntime"),
        ("openvino", "openvino"),
        ("onnx", "onnx_backend"),
    ],
)
def test_ctrl_c_while_a_runtime_is_imported_is_not_a_broken_installation(
    tiny: str, backend: str, module: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, module, "encode", tiny, "a text", "--backend", backend],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "core encode: interrupted.\n")


SWALLOWED = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process ignores it
class Compiled:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "numpy":  # whose modules in C forget the interrupt
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                pass
            raise ImportError("PyCapsule_Import could not import module")
sys.meta_path.insert(0, Compiled)
sys.argv = ["core", "backends"]
runpy.run_module("core", run_name="__main__")
"""


def test_ctrl_c_that_numpy_swallows_is_not_a_broken_installation() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "core: interrupted.\n")


def test_a_command_ends_without_a_search_for_garbage() -> None:
    """With PyTorch imported it takes a second."""
    program = (
        "import atexit, gc, runpy, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"
        "sys.argv = ['core', '--version']\n"
        "runpy.run_module('core', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True"


def test_the_installed_command_is_guarded_too() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["core"] == "core.__main__:main"


def test_standard_output_that_is_not_utf_8(tiny: str, tmp_path: Path) -> None:
    folder = copy_model(Path(tiny), tmp_path / "größe")

    def run(*words: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "core", *words],
            env={**os.environ, **variables}, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("ascii")

    arguments = ("encode", tiny, "--backend", "onnx", "größe 好")
    for variables in (
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        record = json.loads(run(*arguments, **variables))
        assert record["text"] == "größe 好"
        given = json.loads(run(*arguments[:-1], "好", "--prompt", "größe ", **variables))
        assert given["embedding"] == pytest.approx(record["embedding"], abs=1e-5)
    assert "gr\\xf6\\xdfe" in run("info", str(folder), PYTHONIOENCODING="ascii")
