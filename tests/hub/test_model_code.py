"""Models whose code lies in a repository of its own, as config.json's `auto_map` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
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
LOAD = """
import sys, core
try:
    model = core.load(sys.argv[1], backend="torch", device="cpu", trust_remote_code=True)
    print(model.encode("one text").shape)
except core.CoreError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def published(hub: LoopbackHub, tiny_model: Callable[[str], Path]) -> LoopbackHub:
    """acme/tiny, whose classes are in acme/code."""
    hub.create("acme/code").add(
        {"configuration_own.py": CONFIGURATION, "modeling_own.py": MODELING}
    )
    files = folder_files(tiny_model("bert-cls"))
    config = json.loads(files["config.json"])
    config["model_type"] = "own-bert"
    config["auto_map"] = {
        "AutoConfig": "acme/code--configuration_own.OwnConfig",
        "AutoModel": "acme/code--modeling_own.OwnModel",
    }
    files["config.json"] = json.dumps(config).encode()
    hub.create("acme/tiny").add(files)
    return hub


def load(hub: LoopbackHub, home: Path, **environment: str) -> str:
    """What a process prints that trusts the code."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, "acme/tiny"],
        env={
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_MODULES_CACHE": str(home / "modules"),
            "HF_HUB_DISABLE_XET": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_code_of_another_repository_is_fetched_only_when_trusted(
    published: LoopbackHub, tmp_path: Path
) -> None:
    with pytest.raises(core.UnsupportedOperation, match="trust_remote_code=True"):
        core.load("acme/tiny", backend="torch", device="cpu")
    assert not [request for request in published.requests if "acme/code" in request.path]
    assert load(published, tmp_path / "home") == "(32,)"
    # From then on it is cached, and offline finds it there.
    assert load(published, tmp_path / "home", HF_HUB_OFFLINE="1") == "(32,)"


def test_code_that_cannot_be_fetched_names_its_repository(
    published: LoopbackHub, tmp_path: Path
) -> None:
    snapshot_download("acme/tiny", cache_dir=tmp_path / "home" / "hub")
    missing = load(published, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert missing.startswith("ModelFormatError")
    assert "acme/code" in missing
