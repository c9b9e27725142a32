"""`core.tune` of a repository: the choice goes to the cache, and the next run uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

import core
from core.testing import tiny_model
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub
from tests.tuning.toy_backend import toy_backend


@pytest.mark.slow
def test_a_repository_is_tuned_without_being_changed(
    tmp_path: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    hub.create("acme/tiny").add(folder_files(tiny_model(tmp_path / "model")))
    texts = [f"text {number} of {number % 7}" for number in range(60)]
    with toy_backend(["swift"]):
        report = core.tune("acme/tiny", texts, backends=["toy"], minutes=0.2)
        assert report.best.name == "toy optimize swift"
        assert report.lock is not None
        assert report.lock.is_relative_to(tmp_path / "cache/artifacts")
        with core.load(report.lock.parent) as model:
            assert (model.backend, model.file_name) == ("toy", report.best.file_name)
        hub.fail(".", status=500)  # nothing more is asked of it
        again = core.tune("acme/tiny", texts, backends=["toy"], local_files_only=True, minutes=0.2)
        assert again.best == report.best
