"""Uploads: whole models and single artifacts, as commits and pull requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import core
from core import EmbeddingModel
from core.errors import ModelError, OptionError
from tests.conftest import copy_model
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub

# huggingface_hub hands the client of its HTTP library bytes in a way that one deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TEXTS = ["one text", "another, longer text about vectors"]


@pytest.fixture
def model(tiny_model: Callable[[str], Path], tmp_path: Path) -> Iterator[EmbeddingModel]:
    folder = copy_model(tiny_model("bert-cls"), tmp_path / "local")
    with core.load(str(folder), backend="torch", device="cpu") as loaded:
        yield loaded


def embed(name: str, **arguments: object) -> np.ndarray:
    with core.load(name, backend="torch", device="cpu", **arguments) as model:  # type: ignore[arg-type]
        result: np.ndarray = model.encode(TEXTS)
        return result


def files_of(hub: LoopbackHub, repo_id: str, revision: str = "main") -> dict[str, bytes]:
    store = hub.store(repo_id)
    entries = store.entries(store.resolve(revision))
    return {path: store.read(entry) for path, entry in entries.items()}


def test_a_pushed_model_loads_and_embeds_the_same(hub: LoopbackHub, model: EmbeddingModel) -> None:
    model.prompts["query"] = "find: "
    url = model.push_to_hub("acme/pushed", private=True)
    commit = hub.store("acme/pushed").resolve("main")
    assert url == f"{hub.url}/acme/pushed/commit/{commit}"
    assert "acme/pushed" in hub.private
    assert np.array_equal(embed("acme/pushed"), model.encode(TEXTS))
    with core.load("acme/pushed", backend="torch", device="cpu") as again:
        assert again.prompts == {"query": "find: "}
    card = files_of(hub, "acme/pushed")["README.md"].decode()
    assert 'core.load("acme/pushed", backend="torch")' in card
    assert 'SentenceTransformer("acme/pushed")' in card


def test_one_card_is_written_and_says_what_the_caller_says(
    hub: LoopbackHub, model: EmbeddingModel, tmp_path: Path
) -> None:
    card = core.CardData(title="My model", task="finding recipes", header={"license": "mit"})
    model.push_to_hub("acme/carded", card=card)
    pushed = files_of(hub, "acme/carded")["README.md"].decode()
    model.save(tmp_path / "saved", card=card)
    saved = (tmp_path / "saved/README.md").read_text()
    for text in (pushed, saved):
        assert "# My model\n" in text
        assert "for finding recipes." in text
        assert "license: mit" in text
    # The one difference: what loads it.
    assert pushed.replace("acme/carded", "saved") == saved


def test_a_bare_name_is_pushed_to_the_owner_of_the_token(
    hub: LoopbackHub, model: EmbeddingModel
) -> None:
    assert "/acme/mine/commit/" in model.push_to_hub("mine")


def test_an_existing_repository_needs_exist_ok(hub: LoopbackHub, model: EmbeddingModel) -> None:
    hub.create("acme/there").add({"README.md": b"hand-written", "notes.txt": b"kept"})
    with pytest.raises(OptionError, match="exist_ok=True"):
        model.push_to_hub("acme/there")
    assert set(files_of(hub, "acme/there")) == {"README.md", "notes.txt"}
    model.push_to_hub("acme/there", exist_ok=True, commit_message="New weights")
    files = files_of(hub, "acme/there")
    assert files["README.md"] == b"hand-written"
    assert {"notes.txt", "model.safetensors", "modules.json"} <= set(files)
    assert hub.store("acme/there").message("main").startswith("New weights\n")


def test_a_model_pushed_as_a_pull_request_loads_from_it(
    hub: LoopbackHub, model: EmbeddingModel
) -> None:
    hub.create("acme/there")
    url = model.push_to_hub("acme/there", create_pr=True)
    assert url == f"{hub.url}/acme/there/discussions/1"
    assert files_of(hub, "acme/there") == {}
    assert np.array_equal(embed("acme/there", revision="refs/pr/1"), model.encode(TEXTS))


def test_a_revision_is_pushed_to_a_branch(hub: LoopbackHub, model: EmbeddingModel) -> None:
    model.push_to_hub("acme/branched", revision="dev")
    assert files_of(hub, "acme/branched") == {}
    assert np.array_equal(embed("acme/branched", revision="dev"), model.encode(TEXTS))


def test_only_the_artifact_and_its_sidecar_are_pushed(
    hub: LoopbackHub, model: EmbeddingModel
) -> None:
    store = hub.create("acme/tiny")
    assert model.source.directory is not None
    before = store.add(folder_files(model.source.directory))
    artifact = core.optimize(model, "fp16", push_to_hub="acme/tiny", create_pr=True)
    assert artifact.url == f"{hub.url}/acme/tiny/discussions/1"
    assert store.resolve("main") == before
    added = set(files_of(hub, "acme/tiny", "refs/pr/1")) - set(files_of(hub, "acme/tiny"))
    assert added == {artifact.file_name, artifact.file_name + ".json"}
    text = store.message("refs/pr/1")
    assert artifact.verification is not None
    for expected in (
        "optimize with the torch backend",
        '"level": "fp16"',
        f"minimum {artifact.verification.min_cosine:.6f}",
        'revision="refs/pr/1"',
        f'file_name="{artifact.file_name}"',
    ):
        assert expected in text
    tried = embed("acme/tiny", revision="refs/pr/1", file_name=artifact.file_name)
    assert np.allclose(tried, model.encode(TEXTS), atol=1e-3)
    # The second request gets the next number, in its text as well.
    again = core.quantize(model, push_to_hub="acme/tiny", create_pr=True)
    assert again.url == f"{hub.url}/acme/tiny/discussions/2"
    assert 'revision="refs/pr/2"' in store.message("refs/pr/2")


@pytest.mark.slow
def test_push_to_hub_true_means_the_repository_the_model_is_from(
    hub: LoopbackHub, tiny_model: Callable[[str], Path]
) -> None:
    store = hub.create("acme/tiny")
    store.add({**folder_files(tiny_model("bert-cls")), "README.md": b"hand-written"})
    with core.load("acme/tiny", backend="torch", device="cpu") as model:
        artifact = core.optimize(model, "fp16", push_to_hub=True)
    assert artifact.url == f"{hub.url}/acme/tiny/commit/{store.resolve('main')}"
    files = files_of(hub, "acme/tiny")
    assert files[artifact.file_name] == artifact.path.read_bytes()
    assert files["README.md"] == b"hand-written"
    assert "refs/pr" not in store.message("main")


def test_a_push_that_cannot_work_is_refused_before_the_work(model: EmbeddingModel) -> None:
    with pytest.raises(OptionError, match="push_to_hub='owner/name'"):
        core.optimize(model, "fp16", push_to_hub=True)
    with pytest.raises(OptionError, match="create_pr=True uploads"):
        core.optimize(model, "fp16", create_pr=True)
    with pytest.raises(OptionError, match="not the name of a repository"):
        core.optimize(model, "fp16", push_to_hub="a/b/c")
    assert not [n for n in Path(str(model.source)).iterdir() if "fp16" in n.name]


@pytest.mark.slow
def test_without_a_token_the_message_says_how_to_get_one(
    hub: LoopbackHub, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.create("acme/tiny")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelError, match=r"write access.*hf auth login"):
        model.push_to_hub("acme/new")
    with pytest.raises(ModelError, match=r"no token was given.*hf auth login"):
        core.optimize(model, "fp16", push_to_hub="acme/tiny")
    assert not [n for n in Path(str(model.source)).iterdir() if "fp16" in n.name]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OptionError, match="HF_HUB_OFFLINE=1"):
        model.push_to_hub("acme/new")
