"""Processes without a home, a place for temporary files, a standard error or a Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import core
from core.errors import UnsupportedOperation
from core.plugin.known_backends import install_hint
from tests.conftest import Exports, copy_model, one_is_quick

NO_HOME = """
import os, pwd, sys
for name in ("HOME", "USER", "LOGNAME", "CORE_CACHE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
def nobody(*_): raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = nobody
import core
"""
NO_TEMPORARY = """
import os, sys, tempfile
def nowhere():
    raise FileNotFoundError(2, f"No usable temporary directory found in {['/tmp', os.getcwd()]}")
tempfile._get_default_tempdir = nowhere
import core
"""
#: Prints the message of the error that the rest raises.
EXPECTING = """
try:
    {call}
except core.CoreError as error:
    print(error)
"""


def run(script: str, *arguments: str) -> str:
    # torch leaves its own temporary directory in the environment of whoever imported it.
    kept = {name: v for name, v in os.environ.items() if not name.startswith(("TORCH", "TRITON"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        env=kept,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("backend", one_is_quick("onnx", ["torch", "onnx", "openvino"]))
def test_a_process_without_a_home_loads_encodes_and_saves(
    backend: str, exports: Exports, tmp_path: Path
) -> None:
    folder = exports("bert-cls", "onnx", "openvino")
    script = (
        "model = core.load(sys.argv[1], backend=sys.argv[2], device='cpu')\n"
        "model.save(sys.argv[3])\n"
        "print(model.encode('text').shape)"
    )
    assert run(NO_HOME + script, str(folder), backend, str(tmp_path / "saved")) == "(32,)"


@pytest.mark.parametrize(
    ("call", "names"),
    [
        ("core.load('acme/tiny', backend='onnx', local_files_only=True)", "set HF_HOME to"),
        ("core.load(sys.argv[1], backend='onnx')", "set CORE_CACHE to"),
        ("core.load('~/model', backend='onnx')", "Write the whole path"),
        ("core.export(sys.argv[1], '~/there', backend='onnx')", "Write the whole path"),
    ],
)
def test_without_a_home_what_needs_one_says_what_to_set(
    call: str, names: str, tiny_model: Callable[[str], Path]
) -> None:
    found = run(NO_HOME + EXPECTING.format(call=call), str(tiny_model("bert-cls")))
    assert "a home directory that this system does not know" in found
    assert names in found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "works"),
    [
        ("print(core.load(sys.argv[1], backend='onnx').encode('text').shape)", True),
        ("print(core.load(sys.argv[1], backend='openvino').encode('text').shape)", True),
        ("core.load(sys.argv[1], backend='torch')", False),
        ("core.load(sys.argv[1], backend='onnx').quantize('avx2', sys.argv[2])", False),
        ("core.load(sys.argv[1], backend='onnx').push_to_hub('acme/tiny')", None),
    ],
)
def test_without_temporary_files_what_needs_them_names_the_variable(
    call: str, works: bool | None, exports: Exports, tmp_path: Path
) -> None:
    """PyTorch wants a temporary directory when it is imported; ONNX Runtime where a preset
    of it quantizes."""
    folder = exports("bert-cls", "onnx", "openvino")
    if works is None:
        # Up to the directory that is uploaded.
        call = (
            "from types import SimpleNamespace; from core.models import loaded; "
            "loaded.has_file = lambda *_: False; "
            "loaded.find_repository = lambda *_, **__: SimpleNamespace(repo_id='acme/tiny'); "
            "loaded.create_repository = lambda repository, **_: repository; " + call
        )
    found = run(NO_TEMPORARY + EXPECTING.format(call=call), str(folder), str(tmp_path))
    assert found == "(32,)" if works else "Set TMPDIR to one" in found


def test_applications_without_a_console_encode_in_processes_too(
    exports: Exports, tmp_path: Path
) -> None:
    script = (
        "import os, sys\n"
        "out = os.fdopen(os.dup(1), 'w')\n"
        "for number in (0, 1, 2): os.close(number)\n"
        "sys.stdin = sys.stdout = sys.stderr = None\n"
        "import logging; logging.getLogger('core').setLevel(logging.INFO)\n"
        "import core\n"
        "model = core.load(sys.argv[1], backend='onnx')\n"
        "with core.ProcessPool(model, processes=1) as pool:\n"
        "    same = abs(pool.encode(['a', 'b']) - model.encode(['a', 'b'])).max() < 1e-5\n"
        "print(same, file=out)"
    )
    assert run(script, str(exports("bert-cls", "onnx"))) == "True"


@pytest.mark.parametrize(
    ("words", "closed", "code", "says"),
    [
        (("encode", "{}", "a"), ">&-", 1, "core encode: Standard output is closed"),
        (("info", "{}", "--json"), ">&-", 1, "core info: Standard output is closed"),
        (("encode", "{}", "a", "--output", "{}/a.npy"), ">&-", 0, "1 embeddings written"),
        (("encode", "{}", "--input", "-"), "<&-", 1, "core encode: --input - reads standard input"),
        (("encode", "{}/absent", "a"), "2>&-", 1, ""),
    ],
)
def test_a_command_whose_standard_streams_are_closed(
    words: tuple[str, ...], closed: str, code: int, says: str, exports: Exports, tmp_path: Path
) -> None:
    folder = copy_model(exports("bert-cls", "onnx"), tmp_path / "model")
    command = [sys.executable, "-m", "core", *(word.format(folder) for word in words)]
    options = ["--backend", "onnx"] if words[0] == "encode" else []
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command, *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(says)
    assert len(done.stderr.splitlines()) == bool(says)


def test_a_frozen_application_is_told_from_python(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    with core.load(exports("bert-cls", "onnx"), backend="onnx") as model:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        with pytest.raises(UnsupportedOperation, match="would start itself again"):
            core.ProcessPool(model)
        assert model.encode("text").shape == (32,)
    assert "--copy-metadata core-onnx-backend" in install_hint()
