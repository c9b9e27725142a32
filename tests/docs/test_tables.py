"""Pages that list what the code has: environment variables and messages."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import core
import core.errors
import core.sentence_transformers
import core.testing
from benchmarks.bars import speed_bars
from benchmarks.results import RESULTS, read
from tests.conftest import ROOT

SOURCES = [
    *(ROOT / "core").rglob("*.py"),
    *(ROOT / "plugins").glob("*/src/**/*.py"),
]
_READ = re.compile(
    r"""(?:environ(?:\.get\(|\.setdefault\(|\.pop\(|\[)|getenv\()\s*["']([A-Z_]+)"""
    r"""|_(?:VARIABLE|CACHE)\b[^=\n]*= \(?["']([A-Z][A-Z_]+)["']"""
)
#: A property of OpenVINO's, and what the conformance suite knows of pytest.
_NO_VARIABLES = {"CPU_RUNTIME_CACHE_CAPACITY", "PYTEST_CURRENT_TEST"}


def variables() -> set[str]:
    """Names in the environment that the code reads or sets."""
    found = set()
    for path in SOURCES:
        for groups in _READ.findall(path.read_text(encoding="utf-8")):
            found |= set(filter(None, groups))
    return found - _NO_VARIABLES


def test_the_page_of_environment_variables_has_every_one() -> None:
    names = variables()
    assert {"CORE_CACHE", "CORE_BACKEND", "CORE_NUM_THREADS", "XDG_CACHE_HOME"} <= names
    page = (ROOT / "docs/environment.md").read_text(encoding="utf-8")
    assert {name for name in names if f"{name}`" not in page} == set()


def test_every_variable_of_core_on_a_page_exists() -> None:
    known = {name for name in variables() if name.startswith("CORE_")}
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        named = set(re.findall(r"\bCORE_[A-Z_]+\b", page.read_text(encoding="utf-8")))
        assert named <= known, page.name


def symptoms() -> Iterator[str]:
    """Messages in the first column of the tables of troubleshooting.md."""
    for line in (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8").splitlines():
        first = line.split("|")[1] if line.startswith("| ") else ""
        yield from (text for text in re.findall(r"`([^`]+)`", first) if " " in text)


@pytest.mark.parametrize("message", sorted(symptoms()))
def test_messages_of_the_troubleshooting_page_are_those_of_the_code(message: str) -> None:
    joined = [re.sub(r'"\s*\n\s*f?"', "", p.read_text(encoding="utf-8")) for p in SOURCES]
    for part in message.split(" ... "):
        pattern = re.escape(part)
        assert any(re.search(pattern, text) for text in joined), part


def test_the_plot_of_the_readme_is_drawn_from_the_measurements() -> None:
    drawn = speed_bars(read(RESULTS)["throughput"]["systems"])
    assert drawn == (ROOT / "docs/benchmark/speed.svg").read_text(encoding="utf-8")
    assert "](docs/benchmark/speed.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    assert {Path(p).name for p in ROOT.glob("docs/*.md")} == set(
        re.findall(r": ([\w-]+\.md)", navigation)
    )


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: core\.(\w+)$|^ +- (\w+)$", page, re.MULTILINE))
    names = {name for pair in listed for name in pair} | set(vars(core.errors))
    public = {name for name in core.__all__ if name not in ("SPEC_VERSION", "__version__")}
    public |= {*core.testing.__all__, *core.sentence_transformers.__all__}
    assert public - names == set()


def architecture() -> str:
    return (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_the_page_of_the_architecture_has_the_layers_that_make_lint_checks() -> None:
    listing = architecture().partition("```text\ncore/\n")[2].partition("```")[0]
    shown = [set(re.findall(r"(\w+)(?:/|\.py)", line)) for line in listing.splitlines()]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = contracts["importlinter"]["contracts"][0]["layers"]
    assert shown == [set(layer.split(" | ")) for layer in layers]


#: Rooms whose modules the page does not list.
_UNLISTED = {"sentence_transformers", "testing", "scaffold"}


def test_the_page_of_the_architecture_names_every_module() -> None:
    rows = {
        row.split("`", 2)[1].rstrip("/"): row
        for row in architecture().partition("### Rules")[0].splitlines()
        if re.match(r"\| `\w+/` \|", row)
    }
    for folder in (ROOT / "core").iterdir():
        if not (folder / "__init__.py").is_file() or folder.name in _UNLISTED:
            continue
        globs = re.findall(r"`([\w*]+)`", rows[folder.name])
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        unnamed = {m for m in modules if not any(fnmatch(m, glob) for glob in globs)}
        assert unnamed == set(), folder.name
    for package in ("core_server", "core_ui"):
        (folder,) = (ROOT / "plugins").glob(f"*/src/{package}")
        modules = {path.stem for path in folder.rglob("*.py")} - {"__init__"}
        assert {m for m in modules if f"`{m}`" not in architecture()} == set(), package


def requirements() -> Iterator[str]:
    """Names of the third-party distributions that one of ours needs, extras included."""
    for path in (ROOT / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        stated = [*project["dependencies"]]
        for extra in project.get("optional-dependencies", {}).values():
            stated += extra
        yield from (re.split(r"[\[<>=~!;]", requirement)[0] for requirement in stated)


def test_the_page_of_the_dependencies_has_every_one() -> None:
    names = {name for name in requirements() if name != "core" and not name.startswith("core-")}
    assert {"numpy", "nncf", "pyarrow", "gradio"} <= names
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    assert {name for name in names if not re.search(rf"`{name}[`\[]", page)} == set()
