"""The commands and code of docs/plugins.md, run as a newcomer would, with the built wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import core
from core.plugin.capabilities import Capabilities
from core.plugin.hookspecs import HOOK_NAMES, OLDEST_SPEC_VERSION
from tests.conftest import CHILDREN, ROOT, run_pip
from tests.docs.blocks import read_blocks

PAGE = ROOT / "docs/plugins.md"


@pytest.fixture(scope="module")
def environment(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the wheel of core; only third-party packages are shared with ours."""
    root = tmp_path_factory.mktemp("newcomer")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "venv"], check=True)
    bin_folder = root / "venv/bin"
    site = next((root / "venv/lib").glob("python*")) / "site-packages"
    # Only a folder on the path: editable packages in it, ours, are not found through it.
    (site / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = wheels.glob("core-0*.whl")
    install = ["install", "--quiet", "--no-deps", "--ignore-installed", str(wheel)]
    run_pip(Path(sys.executable), "--python", str(bin_folder / "python"), *install)
    for name in ("pip", "pytest"):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec "{bin_folder}/python" -m {name} "$@"\n')
        script.chmod(0o755)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
    return {
        **inherited,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHILDREN),
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say "no isolation": hatchling is there
        "PIP_NO_DEPS": "1",
        "PIP_QUIET": "1",
        "WORK": str(root / "work"),
    }


@pytest.mark.slow
def test_the_page_works_from_top_to_bottom(environment: dict[str, str]) -> None:
    work = Path(environment["WORK"])
    work.mkdir()
    package = work / "core-bag-of-words-backend"
    python: list[str] = []
    printed = {}
    for block in read_blocks(PAGE):
        content = block.code
        if block.title:
            name, _, appended = block.title.partition(", ")
            if name.startswith("../"):  # shown as `core new-backend` has written it
                assert (package / name).read_text(encoding="utf-8") == content, name
            with (package / name).open("a" if appended else "w", encoding="utf-8") as file:
                file.write(content)
        elif block.language == "bash":
            done = subprocess.run(
                ["bash", "-euc", content],
                cwd=package if package.exists() else work,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, content + done.stdout + done.stderr
            if "core compare" in content:
                printed["core compare"] = done.stdout.splitlines()[-1]
            if "tiny_model" in content:
                printed["tiny_model"] = done.stdout.strip()
            if "TRACE" in content:
                assert "[core] encode on bag-of-words" in done.stderr
        else:
            assert block.language == "python"
            python.append(content)
    rows = {}
    assert printed["tiny_model"] == "(2, 32)"
    assert -1 < float(printed["core compare"]) < 1
    for name in ("before", "after", "traced"):
        (line,) = (package / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows[name] = json.loads(line)["embedding"]
    assert len(rows["after"]) == 256
    assert rows["after"] == rows["traced"] != rows["before"]
    assert list((package / "dist").glob("core_bag_of_words_backend-0.1.0-*.whl"))
    program = "\n".join(
        [*python, "import core.plugin.hookspecs", "assert metrics.texts.total() == 2"]
    )
    done = subprocess.run(
        ["python", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "(2, 256) ('load', 'encode') ('cpu',)" in done.stdout
    where = subprocess.run(
        ["python", "-c", "import core; print(core.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=work,
    )
    assert str(ROOT / "core") not in where.stdout


def test_the_page_names_every_hook_and_every_attribute() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in Capabilities.__dataclass_fields__:
        assert f"`{name.upper()}`" in text
    for hook in HOOK_NAMES:
        assert f"`{hook}(" in text


def test_the_compatibility_page_states_the_versions_that_run() -> None:
    text = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    assert f"`core.SPEC_VERSION` is {core.SPEC_VERSION}; " in text
    assert f"plugins from version {OLDEST_SPEC_VERSION} on run" in text
