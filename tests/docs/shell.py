"""Shell lines of a page: run, or, where they change an environment, checked against what exists."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from tests.conftest import ROOT

_BIN = Path(sys.executable).parent
_SHELL_SYNTAX = re.compile(r"[|<>;*?$`~]|&(?!&)")


def run_lines(code: str, where: str, *, console: bool = False) -> None:
    """Run a block in the working directory; a line that fails fails the test with its output."""
    if "<<" in code:
        _bash(code, where)
        return
    for line in _lines(code, console=console):
        for command in re.split(r"\s+&&\s+", line):
            _run(command, where)


def _lines(code: str, *, console: bool) -> Iterator[str]:
    if console:
        prompted = [line[2:] for line in code.splitlines() if line.startswith("$ ")]
        code = "\n".join(prompted)
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def _run(command: str, where: str) -> None:
    words = shlex.split(command, comments=True)
    if not words:
        return
    if words[:2] == ["pip", "download"]:
        check_install(words[2:], where)
    elif words[:2] in (["pip", "install"], ["uv", "pip"]) or words[1:4] == ["-m", "pip", "install"]:
        check_install(words[words.index("install") + 1 :], where)
    elif words[0] == "make":
        check_targets(words[1:], where)
    elif words[:2] == ["git", "clone"]:
        pass
    elif words[0] == "cd":
        os.chdir(words[1])
    elif words[0] == "export":
        name, _, value = words[1].partition("=")
        os.environ[name] = os.path.expandvars(value)
    elif words[0] == "core" and not _SHELL_SYNTAX.search(
        re.sub(r"'[^']*'|\"[^\"$`]*\"", "", command)
    ):
        _core(words[1:], command, where)
    else:
        _bash(command, where)


def _core(arguments: list[str], command: str, where: str) -> None:
    """The entry point itself, without the seconds a new process takes to import torch."""
    from core.cli import main

    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = main(arguments)
        except SystemExit as error:
            code = int(error.code or 0)
    assert code == 0, (
        f"{where}: `{command}` ended with {code}:\n{output.getvalue()}{errors.getvalue()}"
    )


def _bash(command: str, where: str) -> None:
    path = f"{_BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (
        f"{where}: `{command}` ended with {done.returncode}:\n{done.stdout}"
    )


def extras() -> dict[str, set[str]]:
    """Every distribution of this repository and its extras."""
    found = {}
    for path in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")):
        project = tomllib.loads(path.read_text())["project"]
        found[project["name"]] = set(project.get("optional-dependencies", {}))
    return found


def check_install(words: list[str], where: str) -> None:
    """The distributions of ours that a `pip install` names exist, with the extras it names."""
    known = extras()
    words = list(words)
    while words:
        word = words.pop(0)
        if word in ("-e", "--editable"):
            path = words.pop(0).partition("[")[0]
            assert any((base / path / "pyproject.toml").is_file() for base in (Path.cwd(), ROOT)), (
                f"{where}: nothing to install in {path!r}"
            )
        elif word in ("-r", "--requirement", "--find-links", "--dest", "-c"):
            words.pop(0)
        elif not word.startswith("-"):
            requirement = Requirement(word)
            if requirement.name in known:
                unknown = requirement.extras - known[requirement.name]
                assert not unknown, f"{where}: {requirement.name} has no extra {unknown}"


def check_targets(words: list[str], where: str) -> None:
    """The Makefile has the targets."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    unknown = {word for word in words if "=" not in word} - targets
    assert not unknown, f"{where}: the Makefile has no target {unknown}"
