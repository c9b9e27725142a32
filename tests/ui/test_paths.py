"""Which paths the page reads and writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import OptionError
from core_ui.paths import Roots


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """A root with a model and, beside it, what must stay closed."""
    (tmp_path / "root" / "model").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "cache" / "models--a--b" / "snapshots" / "1").mkdir(parents=True)
    return Roots((tmp_path / "root",), tmp_path / "cache")


def test_a_directory_in_the_root_is_a_model(roots: Roots) -> None:
    model = roots.writable[0] / "model"
    assert roots.model("model") == roots.model(str(model)) == roots.model(" ./model ") == str(model)


def test_what_is_no_path_is_a_name_on_the_hub(roots: Roots) -> None:
    assert roots.model("owner/name") == "owner/name"
    assert roots.model("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"
    assert roots.model("https://hub.example/owner/name") == "https://hub.example/owner/name"


def test_the_hub_cache_is_read_and_not_written(roots: Roots) -> None:
    snapshot = str(roots.cache / "models--a--b" / "snapshots" / "1")
    assert roots.model(snapshot) == snapshot
    with pytest.raises(OptionError, match="outside of what this page may use"):
        roots.target(snapshot)


@pytest.mark.parametrize(
    "path", ["../outside", "/etc", "model/../../outside", "link", "link/deeper", "../root-two"]
)
def test_nothing_outside_is_read_or_written(roots: Roots, path: str) -> None:
    root = roots.writable[0]
    (root / "link").symlink_to(root.parent / "outside")
    (root.parent / "root-two").mkdir()
    for use in (roots.model, roots.target, roots.file):
        with pytest.raises(OptionError, match="--root DIRECTORY"):
            use(path)


def test_a_link_of_a_home_directory_is_a_plain_name(roots: Roots) -> None:
    assert roots.target("~/models") == str(roots.writable[0] / "~" / "models")


@pytest.mark.parametrize("folder", ["", "onnx"])
def test_a_target_with_a_link_that_leads_outside_is_refused(roots: Roots, folder: str) -> None:
    target = roots.writable[0] / "target"
    (target / folder).mkdir(parents=True)
    (target / folder / "model.onnx").symlink_to(roots.writable[0] / "model")
    assert roots.target("target") == str(target)
    (target / folder / "other.onnx").symlink_to(roots.writable[0].parent / "outside" / "file")
    with pytest.raises(OptionError, match="outside of what this page may use"):
        roots.target("target")


@pytest.mark.parametrize("path", ["", "  ", "a\0b"])
def test_what_is_no_path_is_refused(roots: Roots, path: str) -> None:
    for use in (roots.model, roots.target):
        with pytest.raises(OptionError):
            use(path)


def test_a_circle_of_links_is_refused(roots: Roots) -> None:
    (roots.writable[0] / "circle").symlink_to("circle")
    with pytest.raises(OptionError):
        roots.file("circle")


def test_a_root_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="not a directory"):
        Roots.of([tmp_path / "absent"])
    assert Roots.of([tmp_path]).writable == (tmp_path.resolve(),)
