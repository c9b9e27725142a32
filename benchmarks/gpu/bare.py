"""A machine where this repository is not installed: its packages and their entry points, findable.

Imports nothing but the standard library, and needs no network.
"""

from __future__ import annotations

import runpy
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Distributions of this repository that are measured: their folders.
PROJECTS = (ROOT, ROOT / "plugins/torch_backend", ROOT / "plugins/onnx_backend")
#: What `make gpu-bundle` brought along. The interpreter's own packages go before it.
BUNDLE = ROOT / ".cache/gpu-site"


@contextmanager
def findable(projects: Sequence[Path] = PROJECTS, bundle: Path = BUNDLE) -> Iterator[None]:
    """While the context lasts, this process imports the checkout, and so does a `core.ProcessPool`.

    Entry points are found as an installed distribution's are: a temporary folder on the path holds
    a dist-info for each project, made from its pyproject.toml.
    """
    before = list(sys.path)
    with tempfile.TemporaryDirectory(prefix="core-gpu-") as site:
        for project in projects:
            write_metadata(project, Path(site))
        sources = [project / "src" for project in projects if (project / "src").is_dir()]
        first = [site, str(ROOT), *map(str, sources)]
        last = [str(bundle)] if bundle.is_dir() else []
        sys.path[:] = [*first, *before, *last]
        try:
            yield
        finally:
            sys.path[:] = before


def write_metadata(project: Path, site: Path) -> Path:
    """The dist-info that an installer would leave in `site`, as far as discovery reads it.

    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    stated = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, version = stated["name"], stated.get("version") or _version(project)
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {needed}" for needed in stated.get("dependencies", ())]
    (folder / "METADATA").write_text("\n".join([*lines, ""]), encoding="utf-8")
    groups: Mapping[str, Mapping[str, Any]] = stated.get("entry-points", {})
    entries = [
        line
        for group, found in groups.items()
        for line in (f"[{group}]", *(f"{entry} = {value}" for entry, value in found.items()), "")
    ]
    (folder / "entry_points.txt").write_text("\n".join(entries), encoding="utf-8")
    return folder


def _version(project: Path) -> str:
    """Of a project whose pyproject.toml says where the number stands."""
    stated = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    file = project / stated["tool"]["hatch"]["version"]["path"]
    return str(runpy.run_path(str(file))["__version__"])
