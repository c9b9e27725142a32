"""Models whose code lies in a repository of its own, as config.json's `auto_map` says; and what
processes find offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

import core
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub

pytestmark = pytest.mark.slow

CONFIGURATION = b"""
from transformers import BertConfig

class OwnConfig(BertConfig):
    model_type = "own-bert"
"""
MODELING = b"""
from transformers import BertModel
from .configuration_own import OwnConfig

class OwnModel(BertModel):
    config_class = OwnConfig
"""

#: Loads models by name and prints what comes of it; the first one's code is not trusted. Offline it
#: ends where a socket is opened.
LOAD = """
import os, socket, sys, core
def refuse(*_, **__): raise SystemExit("a socket was opened")
if os.environ.get("HF_HUB_OFFLINE"):
    socket.socket.connect = socket.getaddrinfo = refuse
plain, *others = sys.argv[1:]
for name in (plain, *others):
    try:
        model = core.load(name, backend="torch", device="cpu", trust_remote_code=name != plain)
        print(model.encode("one text").shape)
    except core.CoreError as error:
        print(type(error).__name__, error)
"""
PLAIN = "acme/plain"


def publish(hub: LoopbackHub, model: Path, name: str, code: str) -> None:
    """A copy of a model whose classes are in another repository."""
    hub.create(code).add({"configuration_own.py": CONFIGURATION, "modeling_own.py": MODELING})
    files = folder_files(model)
    config = json.loads(files["config.json"])
    config["model_type"] = "own-bert"
    config["auto_map"] = {
        "AutoConfig": f"{code}--configuration_own.OwnConfig",
        "AutoModel": f"{code}--modeling_own.OwnModel",
    }
    files["config.json"] = json.dumps(config).encode()
    hub.create(name).add(files)


def load(hub: LoopbackHub, home: Path, *names: str, **environment: str) -> list[str]:
    """What a process prints of each, which trusts the code of all but the first."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *names],
        env={
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_MODULES_CACHE": str(home / "modules"),
            "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


@pytest.fixture(scope="module")
def printed(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[str]]]:
    """What a process printed that may connect, and then one that may not: of a plain model, of one
    with code, and of one whose code no process has fetched."""
    folder, tiny = tmp_path_factory.mktemp("printed"), tiny_model("bert-cls")
    home = folder / "home"
    with LoopbackHub(folder / "hub") as hub:
        hub.create(PLAIN).add(folder_files(tiny))
        publish(hub, tiny, "acme/tiny", "acme/code")
        publish(hub, tiny, "acme/other", "acme/missing")
        snapshot_download("acme/other", cache_dir=home / "hub", endpoint=hub.url)
        names = (PLAIN, "acme/tiny")
        yield {
            "online": load(hub, home, *names),
            "offline": load(hub, home, *names, "acme/other", HF_HUB_OFFLINE="1"),
        }


def test_code_that_is_not_trusted_is_not_fetched(
    hub: LoopbackHub, tiny_model: Callable[[str], Path]
) -> None:
    publish(hub, tiny_model("bert-cls"), "acme/tiny", "acme/code")
    with pytest.raises(core.UnsupportedOperation, match="trust_remote_code=True"):
        core.load("acme/tiny", backend="torch", device="cpu")
    assert not [request for request in hub.requests if "acme/code" in request.path]


def test_code_of_another_repository_is_fetched_when_trusted_and_then_cached(
    printed: dict[str, list[str]],
) -> None:
    assert printed["online"][1] == "(32,)"
    assert printed["offline"][1] == "(32,)"


def test_code_that_cannot_be_fetched_names_its_repository(printed: dict[str, list[str]]) -> None:
    missing = printed["offline"][2]
    assert missing.startswith("ModelFormatError")
    assert "acme/missing" in missing


def test_hf_hub_offline_holds_in_a_fresh_process(printed: dict[str, list[str]]) -> None:
    assert printed["online"][0] == printed["offline"][0] == "(32,)"
