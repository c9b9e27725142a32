"""Uploads: whole models and single artifacts, as commits and pull requests."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import EmbeddingModel
from core.artifacts.recorded import read_artifact
from core.cli import main
from core.errors import ModelError, OptionError
from core.plugin.plugin import BACKEND_GROUP
from core.plugin.registry import registry
from tests.conftest import copy_model
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub

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


def test_nothing_that_is_pushed_tells_where_the_model_lies(
    hub: LoopbackHub, model: EmbeddingModel, tmp_path: Path
) -> None:
    model.push_to_hub("acme/pushed")
    message = hub.store("acme/pushed").message("main")
    assert "Saved with core from local: torch backend" in message
    files = files_of(hub, "acme/pushed")
    assert not [n for n, c in {**files, "": message.encode()}.items() if bytes(tmp_path) in c]


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
    again = core.quantize(model, push_to_hub="acme/tiny", create_pr=True, num_samples=8)
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
    for name in ("a/b/c", "name", "owner/na..me", "owner/name.git", "owner/" + "x" * 100):
        with pytest.raises(OptionError, match=r"not the name of a repo|cannot be a repo"):
            core.optimize(model, "fp16", push_to_hub=name)
    with pytest.raises(OptionError, match="cannot be a repository's name"):
        model.push_to_hub("na..me")
    assert not [n for n in Path(str(model.source)).iterdir() if "fp16" in n.name]


class _Unsaved:
    """A backend without a hook for saving."""

    SOURCE = "name"

    @core.hookimpl
    def load(self, source: core.Checkpoint) -> core.Model:
        return EmbeddingModel(source, None, dimension=2)

    @core.hookimpl
    def encode(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 2), dtype=np.float32)


def test_what_cannot_be_saved_leaves_no_repository(hub: LoopbackHub, model: EmbeddingModel) -> None:
    model.close()
    with pytest.raises(OptionError, match="is closed"):
        model.push_to_hub("acme/new")
    core.register_backend("unsaved", _Unsaved())
    try:
        with pytest.raises(core.UnsupportedOperation, match="does not implement save"):
            core.load("anything", backend="unsaved").push_to_hub("acme/new")
    finally:
        registry.unregister(BACKEND_GROUP, "unsaved")
    with pytest.raises(ModelError, match="acme/new"):
        core.load("acme/new", backend="torch")


def test_a_model_whose_files_are_gone_leaves_no_repository(
    hub: LoopbackHub, model: EmbeddingModel
) -> None:
    assert model.source.directory is not None
    (model.source.directory / "config.json").unlink()
    for name in ("acme/new", "new"):
        with pytest.raises(ModelError, match=r"config\.json"):
            model.push_to_hub(name, private=True)
    assert not hub.store("acme/new").exists


@pytest.mark.parametrize(
    ("step", "status", "says"),
    [
        ("POST .*/commit/", 400, r"answered 400 \(Fault 400\)"),
        ("POST .*/branch/", 400, r"answered 400"),
        ("POST .*/commit/", 409, r"answered 409"),
        ("POST .*/commit/", 403, r"refused \(403\)"),
    ],
)
def test_a_push_that_fails_in_the_middle_says_what_is_there_now(
    hub: LoopbackHub, model: EmbeddingModel, step: str, status: int, says: str
) -> None:
    revision = "dev" if "branch" in step else None
    hub.fail(step, status=status, times=1)
    with pytest.raises(ModelError, match=rf"{says}.* acme/new was created.*exist_ok") as caught:
        model.push_to_hub("acme/new", revision=revision)
    assert "cached" not in str(caught.value)
    model.push_to_hub("acme/new", revision=revision, exist_ok=True)
    assert "modules.json" in files_of(hub, "acme/new", revision or "main")


def test_a_pull_request_against_a_branch_is_refused_before_the_work(
    hub: LoopbackHub, model: EmbeddingModel
) -> None:
    with pytest.raises(OptionError, match=r"create_pr=True .* revision='dev'"):
        model.push_to_hub("acme/new", create_pr=True, revision="dev")
    assert hub.requests == []


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


def test_a_token_that_is_kept_back_is_not_called_refused(
    hub: LoopbackHub, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.push_to_hub("acme/secret", private=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    says = "HF_HUB_DISABLE_IMPLICIT_TOKEN keeps a stored one back"
    with pytest.raises(ModelError, match=f"it is private and no token was given .{says}"):
        core.load("acme/secret", backend="torch")
    with pytest.raises(ModelError, match=rf"no token was given, and {says}.*unset that variable\."):
        model.push_to_hub("acme/secret", exist_ok=True)
    assert core.kind_of("acme/secret", token=True) == "embedding"


@pytest.fixture
def made(model: EmbeddingModel, tmp_path: Path) -> core.Artifact:
    """A bfloat16 file of the tiny model, in a directory of its own."""
    return core.optimize(model, "bf16", tmp_path / "made")


def test_what_was_made_before_is_pushed_with_the_users_text(
    hub: LoopbackHub, model: EmbeddingModel, made: core.Artifact
) -> None:
    model.push_to_hub("acme/pushed")
    pushed = core.push(made.path, "acme/pushed", create_pr=True, text="Faster, and as faithful.")
    assert pushed.url == f"{hub.url}/acme/pushed/discussions/1"
    assert pushed.verification == made.verification
    found = files_of(hub, "acme/pushed", "refs/pr/1")
    added = set(found) - set(files_of(hub, "acme/pushed"))
    assert added == {made.file_name, f"{made.file_name}.json"}
    assert found[made.file_name] == made.path.read_bytes()
    with core.load(
        "acme/pushed", backend="torch", file_name=made.file_name, revision="refs/pr/1"
    ) as loaded:
        assert loaded.encode("one text").shape == (32,)


def test_a_push_is_shown_before_it_is_made(
    hub: LoopbackHub, made: core.Artifact, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["push", str(made.path), "acme/some", "--create-pr", "--dry-run", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["files"] == [made.file_name, f"{made.file_name}.json"]
    assert str(made.verification) in shown["text"]
    assert 'revision="refs/pr/N"' in shown["text"]
    assert main(["push", str(made.path), "acme/some", "--dry-run"]) == 0
    assert "optimize with the torch backend" in capsys.readouterr().out
    assert hub.requests == []
    text = tmp_path / "text.md"
    text.write_text("In my words.")
    hub.create("acme/some")
    assert main(["push", str(made.path), "acme/some", "--create-pr", "--text", str(text)]) == 0
    assert capsys.readouterr().out.strip() == f"{hub.url}/acme/some/discussions/1"
    assert main(["push", str(made.path), "acme/some", "--text", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: record.update(format=2), "its format is 2, not 1"),
        (lambda record: record.pop("config"), "'config'"),
        (lambda record: record.update(files=["other.safetensors"]), "about other.safetensors"),
        (lambda record: record["files"].append("lacking.bin"), "lacking.bin, which is missing"),
        (lambda record: record["files"].append("../secret"), "outside the model's directory"),
        (lambda record: record["verification"].pop("texts"), "its verification has"),
        (lambda record: record.update(kind="poem"), "'poem' model"),
        (lambda record: record["verification"].update(min_cosine=10**400), "too large"),
    ],
)
def test_a_damaged_record_is_not_pushed(
    made: core.Artifact, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    sidecar = made.path.with_name(made.path.name + ".json")
    record = json.loads(sidecar.read_text())
    change(record)
    sidecar.write_text(json.dumps(record))
    with pytest.raises(core.ModelFormatError, match=says):
        core.push(made.path, "acme/some")


def test_an_artifact_is_pushed_to_a_repository_that_is_there(
    hub: LoopbackHub, made: core.Artifact
) -> None:
    with pytest.raises(ModelError, match=r"acme/none: .* no such repository.*create it first\."):
        core.push(made.path, "acme/none")


def test_what_is_no_artifact_is_not_pushed(made: core.Artifact, tmp_path: Path) -> None:
    with pytest.raises(core.ArtifactNotFound, match="no file"):
        core.push(tmp_path / "absent.onnx", "acme/some")
    with pytest.raises(core.ArtifactNotFound, match=r"config\.json.* is no artifact"):
        core.push(made.root / "config.json", "acme/some")
    with pytest.raises(core.ArtifactNotFound, match=r"is a directory.*`core info` lists"):
        core.push(made.root, "acme/some")


@pytest.mark.parametrize("name", ["owner", "owner/na..me", "owner/-name"])
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_name_that_no_repository_has_is_refused_without_a_connection(
    hub: LoopbackHub,
    made: core.Artifact,
    capsys: pytest.CaptureFixture[str],
    name: str,
    dry: list[str],
) -> None:
    assert main(["push", str(made.path), name, *dry]) == 2
    assert repr(name) in capsys.readouterr().err
    assert hub.requests == []


def test_what_the_client_of_the_hub_says_is_printed_once(
    hub: LoopbackHub, made: core.Artifact
) -> None:
    hub.create("acme/some")
    core.push(made.path, "acme/some")
    again = subprocess.run(
        [sys.executable, "-m", "core", "push", str(made.path), "acme/some"],
        env={**os.environ, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert again.stderr.count("No files have been modified") == 1


def test_a_directory_holds_what_is_saved(
    model: EmbeddingModel, made: core.Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "saved"
    arguments = ["save", str(made.root), str(saved), "--backend", "torch", "--json"]
    assert main([*arguments, "--file-name", made.file_name]) == 0
    assert json.loads(capsys.readouterr().out)["directory"] == str(saved)
    with core.load(str(saved), backend="torch", device="cpu") as loaded, made.load() as source:
        assert np.array_equal(loaded.encode(TEXTS), source.encode(TEXTS))


def test_a_record_is_read_in_the_measure_of_its_kind(tmp_path: Path) -> None:
    for kind, found in (
        ("reranker", core.ScoreVerification),
        ("multi_vector", core.VectorVerification),
        ("sparse", core.SparseVerification),
        ("embedding", core.OutputsVerification),
    ):
        figures: dict[str, Any] = {field.name: 0.5 for field in dataclasses.fields(found)}
        figures |= {name: None for name in ("sparse_min_cosine",) if name in figures}
        figures |= {name: 3 for name in ("texts", "vectors") if name in figures}
        made = core.Artifact(
            root=tmp_path, file_name=f"{kind}.onnx", kind=kind, verification=found(**figures)
        )
        made.path.touch()
        made.path.with_name(f"{kind}.onnx.json").write_text(json.dumps(made.sidecar({})))
        read = read_artifact(made.path)
        assert read.verification == made.verification
        assert read.kind == kind
