"""A server that tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import copy_model
from tests.ui.serving import Served, served

#: `make ui-browser` sets it: every path through the page, which takes minutes.
ALL_VARIABLE = "CORE_UI_BROWSER"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long ones among the browser's tests belong to `make ui-browser`."""
    if os.environ.get(ALL_VARIABLE):
        return
    long = [item for item in items if item.get_closest_marker("browser") is not None]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def server(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """`core ui` over a directory that holds a tiny model, named `tiny`."""
    root = tmp_path_factory.mktemp("ui").resolve()
    copy_model(tiny_model("bert-cls"), root / "tiny")
    with served(root, "--model", "tiny") as running:
        yield running
