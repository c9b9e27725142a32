"""A repository that holds what `core tune` chose: followed when asked for, downloaded in part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import core
from core.artifacts.tuned import LOCK_NAME
from core.cli import main
from core.errors import ModelFormatError
from core.operations.tuned import describe_choice, write_choice
from tests.conftest import copy_model
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub

pytestmark = pytest.mark.slow  # optimizes, and starts servers

HALF = "model_fp16.safetensors"


@pytest.fixture
def tuned(tiny_model: Callable[[str], Path], tmp_path: Path, hub: LoopbackHub) -> Path:
    """A tuned directory; acme/tuned holds the same files."""
    folder = copy_model(tiny_model("bert-mean"), tmp_path / "model")
    with core.load(folder, backend="torch", device="cpu") as model:
        core.optimize(model, "fp16")
    choice = describe_choice(
        folder,
        backend="torch",
        file_name=HALF,
        device="cpu",
        objective="latency",
        measured={"p50_ms": 1.5},
    )
    write_choice(choice, folder)
    hub.create("acme/tuned").add(folder_files(folder))
    return folder


def loaded(**arguments: object) -> str | None:
    with core.load("acme/tuned", **arguments) as model:  # type: ignore[arg-type]
        return model.file_name


def test_a_repository_is_followed_only_when_that_is_asked_for(
    tuned: Path, hub: LoopbackHub
) -> None:
    assert loaded() == "model.safetensors"
    assert loaded(backend="tuned") == HALF
    hub.fail(".", status=500)
    assert loaded(backend="tuned", local_files_only=True) == HALF


def test_weights_that_it_does_not_load_are_not_downloaded(tuned: Path, hub: LoopbackHub) -> None:
    assert loaded(backend="tuned") == HALF
    downloaded = [request.path for request in hub.downloads()]
    assert any(path.endswith(HALF) for path in downloaded)
    assert not any(path.endswith("/model.safetensors") for path in downloaded)


def test_another_state_of_the_repository(tuned: Path, hub: LoopbackHub) -> None:
    pooling = json.loads((tuned / "1_Pooling/config.json").read_bytes())
    pooling |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    hub.store("acme/tuned").add({"1_Pooling/config.json": json.dumps(pooling).encode()})
    with pytest.raises(ModelFormatError, match=r"1_Pooling/config\.json has changed.*core tune"):
        loaded(backend="tuned")


def test_a_saved_and_a_pushed_copy(tuned: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    with core.load("acme/tuned", backend="tuned") as model:
        model.save(tmp_path / "saved")
        model.push_to_hub("acme/copy")
    with core.load(tmp_path / "saved") as model:
        assert model.file_name == HALF
    with core.load("acme/copy", backend="tuned") as model:
        assert model.file_name == HALF


def test_info_of_a_repository(
    tuned: Path, hub: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "acme/tuned", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tuned"]
    assert (found["fits"], found["file_name"], found["objective"]) == (True, HALF, "latency")
    assert not any(request.path.endswith(HALF) for request in hub.downloads())
    assert any(request.path.endswith(LOCK_NAME) for request in hub.downloads())
