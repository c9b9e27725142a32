"""Plugins as pip leaves them: a module and a dist-info folder in a directory on the path."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.plugin.registry import registry

#: A sound backend whose models are names: four numbers per text, computed from its length.
SOUND = """
import numpy as np
import core

SPEC_VERSION = 1
SOURCE = "name"


@core.hookimpl
def load(source, options):
    return core.EmbeddingModel(source, None, dimension=4)


@core.hookimpl
def encode(model, texts, options):
    rows = [[len(text), 1, 2, 3] for text in texts]
    return np.array(rows, dtype=np.float32).reshape(-1, 4)
"""

#: A sound wrapping plugin.
WRAPPER = """
import core


@core.hookimpl(wrapper=True)
def encode(model, texts, options):
    return (yield)
"""


class Site:
    """A directory on the path that packages are installed into."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: set[str] = set()

    def install(
        self,
        distribution: str,
        source: str,
        *,
        backend: str | None = None,
        plugin: str | None = None,
        version: str = "1.0",
        attribute: str = "",
        entry_points: str | None = None,
    ) -> str:
        """Write the module of a distribution and its dist-info; returns the module's name."""
        module = distribution.replace("-", "_")
        self.modules.add(module)
        (self.root / f"{module}.py").write_text(textwrap.dedent(source))
        info = self.root / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "INSTALLER").write_text("pip\n")
        (info / "RECORD").write_text(f"{module}.py,,\n{info.name}/METADATA,,\n")
        target = module + (f":{attribute}" if attribute else "")
        stated = ""
        if backend is not None:
            stated += f"[core.backends]\n{backend} = {target}\n"
        if plugin is not None:
            stated += f"[core.plugins]\n{plugin} = {target}\n"
        (info / "entry_points.txt").write_text(stated if entry_points is None else entry_points)
        registry.refresh()
        return module


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site directory, taken off the path again, with what was imported from it."""
    root = tmp_path / "site"
    root.mkdir()
    site = Site(root)
    monkeypatch.syspath_prepend(str(root))
    registry.refresh()
    yield site
    monkeypatch.undo()
    for module in site.modules:
        sys.modules.pop(module, None)
    registry.refresh()
