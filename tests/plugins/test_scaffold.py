"""`core new-backend` and `core backends --verbose`. What it writes is run by test_docs.py."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import core
from core.cli import main
from tests.plugins.conftest import SOUND, WRAPPER, Site


@pytest.mark.parametrize("options", [(), ("--checkpoint",)])
def test_names_go_into_every_place(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-backend", "my-engine2", str(tmp_path / "here"), *options]) == 0
    written = {
        path.relative_to(tmp_path / "here").as_posix(): path.read_text()
        for path in (tmp_path / "here").rglob("*")
        if path.is_file()
    }
    project = tomllib.loads(written["pyproject.toml"])["project"]
    assert project["name"] == "core-my-engine2-backend"
    assert project["entry-points"]["core.backends"] == {"my-engine2": "my_engine2_backend.plugin"}
    assert "src/my_engine2_backend/plugin.py" in written
    computing = "session.py" if options else "engine.py"
    assert {name.rpartition("/")[2] for name in written if name.startswith("src/")} == {
        "__init__.py",
        "py.typed",
        "plugin.py",
        computing,
    }
    assert not any("<<" in text or ">>" in text for text in written.values())
    assert "pip install -e '.[test]'" in capsys.readouterr().out


def test_the_directory_may_stand_after_an_option(tmp_path: Path) -> None:
    assert main(["new-backend", "engine", "--checkpoint", str(tmp_path / "here")]) == 0
    assert (tmp_path / "here/src/engine_backend/session.py").is_file()
    assert main(["new-backend", "engine", "--checkpoint", "one", "two"]) == 2


def test_the_directory_is_a_path_as_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["new-backend", "engine", "~/here"]) == 0
    assert (tmp_path / "here/src/engine_backend").is_dir()
    assert main(["new-backend", "engine", ""]) == 2
    assert "DIRECTORY must be a path" in capsys.readouterr().err


def test_the_hooks_are_annotated_with_what_they_return(tmp_path: Path) -> None:
    assert main(["new-backend", "engine", str(tmp_path), "--checkpoint"]) == 0
    hooks: dict[str, Any] = {}
    exec((tmp_path / "src/engine_backend/plugin.py").read_text(), hooks)
    names = {name: getattr(core, name) for name in core.__all__}
    # What core.build_model returns, so that a strict type checker has nothing to say.
    assert get_type_hints(hooks["load"], {**hooks, **names})["return"] is core.Model


@pytest.mark.parametrize("name", ["", "My", "a b", "../x", "1st", "ünï", "torch", "class/x"])
def test_names_that_cannot_be_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-backend", name, str(tmp_path / "here")]) == 2
    assert repr(name) in capsys.readouterr().err
    assert not (tmp_path / "here").exists()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    assert main(["new-backend", "engine", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_backends_verbose_tells_where_each_is_from(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("acme-sound", SOUND, backend="sound", version="3.1")
    site.install("acme-around", WRAPPER, plugin="around")
    site.install("acme-broken", "raise RuntimeError('no license')", plugin="broken")
    assert main(["backends", "--verbose"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "backend sound: ok",
        "  distribution     acme-sound 3.1",
        "  entry point      acme_sound",
        f"  file             {site.root / 'acme_sound.py'}",
        "  hooks            load, encode",
        "  wrappers         around",
        "  encode calls     around > sound",
        "plugin around: ok",
        "plugin broken: broken",
    ):
        assert line in shown.splitlines()
    assert "no license" in shown
    assert main(["backends", "--verbose", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["backends"]["sound"]["calls"]["encode"] == ["around", "sound"]
    assert report["plugins"]["broken"]["status"] == "broken"
