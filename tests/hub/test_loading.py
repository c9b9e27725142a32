"""Models from a Hub: names, revisions, what is transferred, offline."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import core
from core.checkpoint.resolve import resolve
from core.cli import main
from core.errors import ModelError, ModelFormatError, ModelNotFound
from tests.conftest import one_is_quick
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub

pytestmark = pytest.mark.slow  # exports, quantizes or starts processes

TEXTS = ["one text", "another, longer text about vectors"]
ONNX = ("onnx/model.onnx", "onnx/model_O3.onnx", "onnx/model_qint8_avx512.onnx")
OPENVINO = ("openvino/openvino_model.xml", "openvino/openvino_model.bin")


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("bert-cls")


@pytest.fixture
def published(hub: LoopbackHub, tiny: Path) -> LoopbackHub:
    """acme/tiny and sentence-transformers/tiny hold one torch model."""
    for repo_id in ("acme/tiny", "sentence-transformers/tiny"):
        hub.create(repo_id).add(folder_files(tiny))
    return hub


def embed(name: str, **arguments: object) -> np.ndarray:
    with core.load(name, backend="torch", device="cpu", **arguments) as model:  # type: ignore[arg-type]
        result: np.ndarray = model.encode(TEXTS)
        return result


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_a_repository_loads_by_its_address(published: LoopbackHub, tiny: Path) -> None:
    local = embed(str(tiny))
    commit = resolve("acme/tiny").commit
    for page in ("", "/", "/tree/main", f"/tree/{commit}"):
        assert np.array_equal(embed(f"{published.url}/acme/tiny{page}"), local)
    with core.load(f"{published.url}/acme/tiny", backend="torch", device="cpu") as model:
        assert model.source.repo_id == "acme/tiny"
        assert np.array_equal(pickle.loads(pickle.dumps(model)).encode(TEXTS), local)
    with pytest.raises(ModelNotFound, match="no revision 'v9'"):
        embed(f"{published.url}/acme/tiny/tree/v9")


def test_a_repository_loads_by_its_full_and_by_its_bare_name(
    published: LoopbackHub, tiny: Path
) -> None:
    local = embed(str(tiny))
    assert np.array_equal(embed("acme/tiny"), local)
    assert np.array_equal(embed("tiny"), local)
    asked = [r.path for r in published.requests]
    assert any("sentence-transformers/tiny" in path for path in asked)


@pytest.mark.parametrize("revision", one_is_quick("commit", ["v1", "experiment", "refs/pr/1"]))
def test_a_revision_is_a_branch_tag_commit_or_pull_request(
    hub: LoopbackHub, tiny: Path, revision: str
) -> None:
    store = hub.create("acme/tiny")
    commit = store.add(folder_files(tiny))
    for reference in ("refs/tags/v1", "refs/heads/experiment", "refs/pr/1"):
        store.point(reference, commit)
    store.add({"1_Pooling/config.json": b'{"pooling_mode": "max"}'})
    wanted = commit if revision == "commit" else revision
    assert np.array_equal(embed("acme/tiny", revision=wanted), embed(str(tiny)))
    assert not np.array_equal(embed("acme/tiny"), embed(str(tiny)))
    # And offline again, from what was cached under that name.
    hub.fail(".", status=500)
    offline = embed("acme/tiny", revision=wanted, local_files_only=True)
    assert np.array_equal(offline, embed(str(tiny)))


def test_a_relative_cache_holds_from_any_working_directory(
    published: LoopbackHub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with core.load("acme/tiny", backend="torch", device="cpu", cache_dir="cache") as model:
        copy = pickle.dumps(model)
        monkeypatch.chdir("/")
        published.fail(".", status=500)
        model.save(tmp_path / "saved")
    assert np.array_equal(embed(str(tmp_path / "saved")), embed(str(tiny)))
    with pickle.loads(copy) as again:
        assert np.array_equal(again.encode(TEXTS), embed(str(tiny)))


def test_all_files_come_from_the_commit_resolved_first(hub: LoopbackHub, tiny: Path) -> None:
    store = hub.create("acme/tiny")
    first = store.add(folder_files(tiny))
    checkpoint = resolve("acme/tiny")
    assert checkpoint.architecture.max_seq_length == 128
    store.add({"config_sentence_transformers.json": b'{"prompts": {"query": "moved: "}}'})
    assert checkpoint.commit == first
    assert checkpoint.read_json("config_sentence_transformers.json").get("prompts") is None
    listings = [r for r in hub.requests if r.path.startswith("/api/models/acme/tiny")]
    assert len(listings) == 1


def test_only_the_files_a_torch_load_needs_are_transferred(
    published: LoopbackHub, tiny: Path
) -> None:
    published.store("acme/tiny").add(
        {**dict.fromkeys((*ONNX, *OPENVINO, "pytorch_model.bin"), b"\0" * 5_000_000)}
    )
    embed("acme/tiny")
    fetched = {r.path.partition("/resolve/")[2].partition("/")[2] for r in published.downloads()}
    assert "model.safetensors" in fetched
    assert not fetched & {*ONNX, *OPENVINO, "pytorch_model.bin", "README.md"}
    assert sum(r.sent for r in published.downloads()) < 1_000_000


def test_a_second_load_transfers_nothing_but_the_listing(published: LoopbackHub) -> None:
    embed("acme/tiny")
    published.requests.clear()
    embed("acme/tiny")
    assert [r.method for r in published.requests] == ["GET"]
    assert not published.downloads()


@pytest.mark.usefixtures("no_sockets")
def test_offline_without_a_cached_copy_says_how_to_get_one(hub: LoopbackHub) -> None:
    with pytest.raises(ModelNotFound, match=r"not in the cache.*hf download acme/tiny"):
        core.load("acme/tiny", backend="torch", local_files_only=True)
    assert not hub.requests


def test_offline_a_branch_is_where_it_was_last_seen(
    hub: LoopbackHub, tiny: Path, tmp_path: Path
) -> None:
    """Also where the commit that it had moved to was cached already."""
    store = hub.create("acme/tiny")
    store.add(folder_files(tiny))
    resolve("acme/tiny").path("config.json")
    moved = store.add({"README.md": b"# Another commit"})
    resolve("acme/tiny", revision=moved).path("config.json")
    resolve("acme/tiny").path("config.json")
    assert resolve("acme/tiny", local_files_only=True).commit == moved


def test_offline_a_cached_model_opens_no_socket(
    published: LoopbackHub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = embed("acme/tiny")
    request.getfixturevalue("no_sockets")
    assert np.array_equal(embed("acme/tiny", local_files_only=True), expected)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert np.array_equal(embed("acme/tiny"), expected)


@pytest.mark.usefixtures("no_sockets")
def test_the_socket_guard_of_these_tests_works() -> None:
    with pytest.raises(AssertionError, match="a socket was opened"):
        socket.create_connection(("127.0.0.1", 9))


def test_offline_a_file_never_downloaded_is_told_from_one_that_is_not_there(
    published: LoopbackHub,
) -> None:
    published.store("acme/tiny").add({"model_fp16.safetensors": b"\0" * 100})
    embed("acme/tiny")
    offline = resolve("acme/tiny", local_files_only=True)
    assert offline.has("model_fp16.safetensors")
    with pytest.raises(
        ModelError, match=r"model_fp16.safetensors of acme/tiny is not in the cache"
    ):
        offline.path("model_fp16.safetensors")
    with pytest.raises(ModelFormatError, match=r"has no file 'model_bf16.safetensors'"):
        offline.path("model_bf16.safetensors")


def test_what_another_tool_cached_loads_offline(published: LoopbackHub, tiny: Path) -> None:
    from huggingface_hub import snapshot_download

    cache = os.environ["HF_HUB_CACHE"]
    snapshot_download("acme/tiny", endpoint=published.url, cache_dir=cache)
    published.fail(".", status=500)
    assert np.array_equal(embed("acme/tiny", local_files_only=True), embed(str(tiny)))
    snapshot = next(Path(cache).glob("models--acme--tiny/snapshots/*"))
    assert np.array_equal(embed(str(snapshot)), embed(str(tiny)))


def test_a_cache_with_the_transformer_alone_warns_about_its_pooling(
    published: LoopbackHub, caplog: pytest.LogCaptureFixture
) -> None:
    from huggingface_hub import hf_hub_download

    cache = os.environ["HF_HUB_CACHE"]
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        hf_hub_download("acme/tiny", name, endpoint=published.url, cache_dir=cache)
    resolve("acme/tiny", local_files_only=True)
    assert "no modules.json" in caplog.text


@pytest.mark.usefixtures("no_waiting")
def test_an_unreachable_hub_falls_back_to_the_cache_with_a_warning(
    published: LoopbackHub, caplog: pytest.LogCaptureFixture
) -> None:
    expected = embed("acme/tiny")
    published.fail("/api/models/", status=503)
    assert np.array_equal(embed("acme/tiny"), expected)
    assert "503" in caplog.text
    assert "Using the cached commit" in caplog.text


@pytest.mark.usefixtures("no_waiting")
def test_an_unreachable_hub_is_told_of_once_until_it_answers(
    published: LoopbackHub, caplog: pytest.LogCaptureFixture
) -> None:
    embed("acme/tiny")
    for _ in range(2):
        fault = published.fail("/api/models/", status=503)
        caplog.clear()
        assert core.kind_of("acme/tiny") == "embedding"
        embed("acme/tiny")
        assert caplog.text.count("Using the cached commit") == 1
        fault.times = 0
        embed("acme/tiny")


def test_cache_dir_is_used(published: LoopbackHub, tmp_path: Path) -> None:
    embed("acme/tiny", cache_dir=tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "models--acme--tiny" / "snapshots").is_dir()
    assert not Path(os.environ["HF_HUB_CACHE"]).exists()


def test_a_private_repository_needs_the_token(
    published: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    from tests.hub.loopback import TOKEN

    published.private.add("acme/tiny")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelNotFound, match="it is private and no token was given"):
        embed("acme/tiny")
    assert np.array_equal(embed("acme/tiny", token=TOKEN), embed(str(tiny)))


def test_a_pickled_model_reloads_the_same_commit(published: LoopbackHub) -> None:
    model = core.load("acme/tiny", backend="torch", device="cpu")
    expected = model.encode(TEXTS)
    published.store("acme/tiny").add({"1_Pooling/config.json": b'{"pooling_mode": "max"}'})
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.encode(TEXTS), expected)
    assert again.source.commit == model.source.commit


@pytest.mark.parametrize("how", ["relative", "relative variable", "link"])
def test_the_cache_may_be_relative_or_lead_through_a_link(
    published: LoopbackHub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    arguments: dict[str, object] = {"cache_dir": "./real"}
    if how == "link":
        arguments = {"cache_dir": tmp_path / "link"}
    elif how == "relative variable":
        monkeypatch.setenv("HF_HUB_CACHE", "real")
        arguments = {}
    first = embed("acme/tiny", **arguments)
    assert (tmp_path / "real" / "models--acme--tiny" / "snapshots").is_dir()
    for again in (embed("acme/tiny", **arguments), embed(str(tiny))):
        assert np.array_equal(first, again)


def test_a_relative_cache_stays_where_it_was_when_the_directory_changes(
    published: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = resolve("acme/tiny", cache_dir="here")
    checkpoint.path("config.json")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert checkpoint.path("modules.json").is_relative_to(tmp_path / "here")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_home_of_huggingface_may_be_relative(published: LoopbackHub, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_CACHE"}
    script = (
        "from core.checkpoint.resolve import resolve\n"
        "print(resolve('acme/tiny').folder(['config.json', 'modules.json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "HF_HOME": "./h"}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "h" / "hub" / "models--acme--tiny"))


def test_offline_info_and_save_do_without_files_that_loading_did_not_need(
    published: LoopbackHub,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = b'{"backend": "torch", "operation": "export"}'
    store = published.store("acme/tiny")
    store.add({"model.safetensors.json": record, "README.md": b"# Tiny"})
    expected = embed("acme/tiny")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["info", "acme/tiny"]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    with core.load("acme/tiny", backend="torch", device="cpu") as model:
        model.save(tmp_path / "saved")
    assert "README.md" in caplog.text
    assert "which the cache does not have" in caplog.text
    assert np.array_equal(embed(str(tmp_path / "saved")), expected)


@pytest.mark.usefixtures("fast_clock")
def test_a_hub_that_never_answers_holds_a_cached_model_up_for_seconds_only(
    published: LoopbackHub, caplog: pytest.LogCaptureFixture
) -> None:
    published.fail("/api/models", delay=0.2, times=1)  # ten seconds, which a first load waits
    expected = embed("acme/tiny")
    assert "Using the cached commit" not in caplog.text
    published.fail("/api/models", delay=0.2)
    assert np.array_equal(embed("acme/tiny"), expected)
    assert "Using the cached commit" in caplog.text


def test_a_process_without_a_standard_error_downloads(
    published: LoopbackHub, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert np.array_equal(embed("acme/tiny"), embed(str(tiny)))
