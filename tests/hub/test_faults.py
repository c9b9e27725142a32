"""What a Hub and a network do wrong, and what the user reads then."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.checkpoint.resolve import resolve
from core.cli import main
from core.errors import ArtifactNotFound, ModelError, ModelFormatError, ModelNotFound
from tests.conftest import as_another_user
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub

pytestmark = pytest.mark.usefixtures("no_waiting")

TEXTS = ["one text", "another, longer text about vectors"]


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("bert-cls")


@pytest.fixture
def published(hub: LoopbackHub, tiny: Path) -> LoopbackHub:
    store = hub.create("acme/tiny")
    store.point("refs/tags/v1", store.add(folder_files(tiny)))
    return hub


def embed(name: str, **arguments: object) -> np.ndarray:
    with core.load(name, backend="torch", device="cpu", **arguments) as model:  # type: ignore[arg-type]
        result: np.ndarray = model.encode(TEXTS)
        return result


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (401, ModelNotFound, r"refused the token \(401\).*hf auth login"),
        (403, ModelNotFound, r"access is restricted.*token"),
        (404, ModelNotFound, r"no such repository.*Check the name"),
        (429, ModelError, r"\(429\).*Wait a little.*local_files_only=True"),
        (500, ModelError, r"answered 500.*Try again later"),
    ],
)
@pytest.mark.parametrize("where", ["listing", "file"])
def test_each_refusal_names_its_cause_and_mend(
    published: LoopbackHub, where: str, status: int, kind: type[Exception], says: str
) -> None:
    published.fail("/api/models" if where == "listing" else "/resolve/", status=status)
    if where == "file" and status == 404:
        says = "no such file any more"
    with pytest.raises(kind, match=says) as caught:
        core.load("acme/tiny", backend="torch", device="cpu")
    assert "acme/tiny" in str(caught.value)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_a_model_that_is_cached_says_how_to_load_that(
    published: LoopbackHub, status: int
) -> None:
    """A token that has run out, or a repository that is gone."""
    published.fail("/api/models", status=status)
    with pytest.raises(ModelNotFound) as caught:
        embed("acme/tiny")
    assert "local_files_only" not in str(caught.value)
    published.faults.clear()
    expected = embed("acme/tiny")
    published.fail("/api/models", status=status)
    with pytest.raises(ModelNotFound, match="cache has of it loads with local_files_only=True"):
        embed("acme/tiny")
    assert np.array_equal(embed("acme/tiny", local_files_only=True), expected)


@pytest.mark.parametrize(
    "commit", ["../../../../evil", "..", "a/b", "", None, 5, "a\0b", "f" * 300]
)
def test_a_commit_that_is_none_names_no_file(
    published: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, commit: object
) -> None:
    """It names a folder of the cache and a file: `..` would lead out of it."""
    monkeypatch.setattr(published, "answered", lambda listing: {**listing, "sha": commit})
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ModelError, match=r"acme/tiny: http.* names the commit .* which is none"):
        core.load("acme/tiny", backend="torch", device="cpu")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("size", ["5", [5], 1.5, True, -1, None])
def test_a_size_that_is_none_is_unknown(
    published: LoopbackHub, monkeypatch: pytest.MonkeyPatch, size: object
) -> None:
    def odd(listing: dict[str, Any]) -> dict[str, Any]:
        files = [{**file, "size": size} for file in listing["siblings"]]
        return {**listing, "siblings": [*files, {"rfilename": 5, "size": 5}]}

    monkeypatch.setattr(published, "answered", odd)
    assert resolve("acme/tiny").size("config.json") is None


@pytest.mark.parametrize(
    "content",
    ["<html>Log in</html>", "", "{}", "null", "[]", '"ok"', '{"id": "x", "siblings": [5]}'],
)
def test_a_page_of_somebody_else_is_no_listing(
    published: LoopbackHub, tiny: Path, content: str
) -> None:
    embed("acme/tiny")
    published.fail("/api/models", status=200, content=content)
    assert np.array_equal(embed("acme/tiny"), embed(str(tiny)))  # as it is cached
    with pytest.raises(ModelError, match=r"answered, and not as the Hub does.*login page"):
        core.load("acme/other", backend="torch")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * 300, b"a\0b", b"", b"../.."])
def test_a_damaged_reference_of_the_cache_is_none(
    published: LoopbackHub, tiny: Path, content: bytes, tmp_path: Path
) -> None:
    embed("acme/tiny")
    reference = tmp_path / "cache/models--acme--tiny/refs/main"
    reference.write_bytes(content)
    with pytest.raises(ModelNotFound, match="is not in the cache"):
        core.load("acme/tiny", backend="torch", local_files_only=True)
    assert np.array_equal(embed("acme/tiny"), embed(str(tiny)))
    assert len(reference.read_text()) == 40


@pytest.mark.parametrize("content", [b"[]", b"5", b'{"sizes": null}', b"\xff", b"[" * 100_000])
def test_a_damaged_listing_of_the_cache_is_none(
    published: LoopbackHub, tiny: Path, content: bytes, tmp_path: Path
) -> None:
    embed("acme/tiny")
    (listing,) = (tmp_path / "cache/models--acme--tiny/.core").iterdir()
    listing.write_bytes(content)
    assert np.array_equal(embed("acme/tiny", local_files_only=True), embed(str(tiny)))


@pytest.mark.parametrize(
    ("place", "why"),
    [("file/cache", "Not a directory"), ("x" * 300, "File name too long")],
)
def test_a_cache_that_can_be_nowhere_is_no_broken_connection(
    published: LoopbackHub, tmp_path: Path, place: str, why: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=rf"the cache .* cannot be written \({why}\)"):
        core.load("acme/tiny", backend="torch", cache_dir=tmp_path / place)


@pytest.mark.parametrize("cached", [False, True])
def test_a_cache_that_may_not_be_entered_is_named(published: LoopbackHub, cached: bool) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own can be entered by its owner alone
        cache = Path(name, "cache")
        cache.mkdir()
        Path(name).chmod(0o755)
        if cached:
            embed("acme/tiny", cache_dir=cache)
        listed = resolve("acme/tiny", cache_dir=cache)
        with as_another_user(cache):
            with pytest.raises(ModelError, match=rf"the cache {cache}.*\(Permission denied\)"):
                listed.path("config.json")
            with pytest.raises(ModelNotFound, match="is not in the cache"):
                core.load("acme/tiny", backend="torch", cache_dir=cache, local_files_only=True)


@pytest.mark.parametrize("offline", [False, True])
def test_a_cached_file_that_may_not_be_read_is_named(published: LoopbackHub, offline: bool) -> None:
    """As in a cache that several users share, of whom one lets nobody read what he writes."""
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name, "cache")
        embed("acme/tiny", cache_dir=cache)
        Path(name).chmod(0o755)
        found = resolve("acme/tiny", cache_dir=cache, local_files_only=offline)
        found.path("modules.json").resolve().chmod(0)
        found.path("model.safetensors").resolve().chmod(0)
        again = resolve("acme/tiny", cache_dir=cache, local_files_only=offline)
        with as_another_user(cache, mode=0o755):
            for read in (
                lambda: again.read_json("modules.json", kind=list),
                lambda: again.path("model.safetensors"),
            ):
                with pytest.raises(ModelError, match=r"is not readable by this user.*chmod a\+r"):
                    read()


def test_a_missing_repository_explains_bare_names(hub: LoopbackHub) -> None:
    with pytest.raises(ModelNotFound, match=r"like 'nothing-here', means 'sentence-transformers/"):
        core.load("nothing-here", backend="torch")


@pytest.mark.parametrize(("files", "listed"), [({}, "nothing"), ({"README.md": b"x"}, "README.md")])
def test_a_repository_without_a_model_is_called_so(
    hub: LoopbackHub, files: dict[str, bytes], listed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = hub.create("acme/other")
    if files:
        store.add(files)
    with pytest.raises(ModelNotFound, match=rf"repository acme/other holds no model.*: {listed}\)"):
        core.load("acme/other", backend="torch")
    assert main(["info", "acme/other", "--json"]) == 1
    assert capsys.readouterr().out == ""


def test_a_missing_revision_lists_what_exists(published: LoopbackHub) -> None:
    with pytest.raises(ModelNotFound, match=r"no revision 'v9'.*branches and tags: main, v1"):
        core.load("acme/tiny", backend="torch", revision="v9")


def test_a_missing_file_lists_what_exists_and_fetches_nothing(published: LoopbackHub) -> None:
    with pytest.raises(ArtifactNotFound, match=r"no file 'modle.safetensors'.*model.safetensors"):
        core.load("acme/tiny", backend="torch", file_name="modle.safetensors")
    assert not [r for r in published.downloads() if r.path.endswith(".safetensors")]


def test_a_busy_hub_is_asked_again(
    published: LoopbackHub, tiny: Path, no_waiting: list[float]
) -> None:
    published.fail("/api/models", status=429, times=1)
    published.fail("/api/models", status=503, times=1)
    assert np.array_equal(embed("acme/tiny"), embed(str(tiny)))
    answers = [r.status for r in published.requests if r.path.startswith("/api/models")]
    assert answers == [429, 503, 200]
    # A little, and longer the second time.
    assert len(no_waiting) == 2
    assert 0.1 <= no_waiting[0] < no_waiting[1] <= 5


@pytest.mark.parametrize(
    "command",
    [
        ["encode", "acme/tiny", "a text"],
        ["similarity", "acme/tiny", "one", "two"],
        ["save", "acme/tiny", "saved"],
        ["batch", "rows.jsonl", "out", "--model", "acme/tiny"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_waits_once_for_a_hub_that_does_not_answer(
    published: LoopbackHub,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not for the kind of the model and again for its files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"text": "a text"}\n')
    embed("acme/tiny")
    published.requests.clear()
    published.fail("/api/models", status=503)
    assert main([*command, "--backend", "torch", "--device", "cpu"]) == 0
    assert [r.status for r in published.requests] == [503, 503, 503]


def test_what_asks_twice_in_one_command_means_one_commit(
    published: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", "acme/tiny", "--backend", "torch", "a text"]) == 0
    assert len([r for r in published.requests if r.path.startswith("/api/models")]) == 1
    first = resolve("acme/tiny").commit
    moved = published.store("acme/tiny").add({"README.md": b"# Another commit"})
    assert resolve("acme/tiny").commit == moved != first


def test_a_commit_that_is_cached_is_not_asked_for_again(published: LoopbackHub, tiny: Path) -> None:
    """It may be gone from the Hub, and what is pickled names one."""
    commit = resolve("acme/tiny").commit
    for revision in (None, commit):
        expected = embed("acme/tiny", revision=revision)
    published.requests.clear()
    fault = published.fail("/api/models", status=404)
    assert np.array_equal(embed("acme/tiny", revision=commit), expected)
    assert published.requests == []
    resolve("acme/tiny", revision=commit).path("1_Pooling/config.json").resolve().unlink()
    assert np.array_equal(embed("acme/tiny", revision=commit), expected)
    assert {r.path.rpartition("/resolve/")[2] for r in published.requests} == {
        f"{commit}/1_Pooling/config.json"
    }
    fault.times = 0
    with pytest.raises(ModelNotFound, match="no revision"):
        resolve("acme/tiny", revision="f" * 40)


def test_a_connection_dropped_mid_file_is_made_again(published: LoopbackHub, tiny: Path) -> None:
    published.fail("GET .*model.safetensors", drop_after=10_000, times=1)
    assert np.array_equal(embed("acme/tiny"), embed(str(tiny)))
    sent = [r for r in published.downloads() if r.path.endswith("model.safetensors")]
    assert sent[0].sent == 10_000
    assert len(sent) == 2


def test_a_connection_that_keeps_dropping_is_an_error_and_the_next_load_works(
    published: LoopbackHub, tiny: Path
) -> None:
    fault = published.fail("GET .*model.safetensors", drop_after=0)
    with pytest.raises(ModelError, match=r"download model.safetensors of acme/tiny.*try again"):
        core.load("acme/tiny", backend="torch", device="cpu")
    fault.times = 0
    assert np.array_equal(embed("acme/tiny"), embed(str(tiny)))


def test_a_hub_that_is_not_there_is_named(
    published: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"connection to http://127.0.0.1:9 failed.*proxy"):
        core.load("acme/tiny", backend="torch")


@pytest.mark.usefixtures("fast_clock")
def test_a_slow_hub_times_out_with_the_same_advice(published: LoopbackHub) -> None:
    published.fail("/api/models", delay=0.8)  # forty seconds
    with pytest.raises(ModelError, match=r"connection to .* failed .*local_files_only=True"):
        core.load("acme/tiny", backend="torch")


@pytest.mark.parametrize("offline", [False, True])
def test_a_truncated_cached_file_is_named_with_the_way_to_refresh_it(
    published: LoopbackHub, tiny: Path, offline: bool
) -> None:
    embed("acme/tiny")
    blob = resolve("acme/tiny").path("model.safetensors").resolve()
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-100])
    with pytest.raises(ModelFormatError, match=r"--force-download") as caught:
        embed("acme/tiny", local_files_only=offline)
    assert f"{len(whole) - 100:,} bytes and the Hub says {len(whole):,}" in str(caught.value)
    assert str(blob) in str(caught.value)
    # The second way it names works.
    blob.unlink()
    assert np.array_equal(embed("acme/tiny"), embed(str(tiny)))


def test_a_truncated_file_that_another_tool_cached_is_named_too(published: LoopbackHub) -> None:
    import os

    from huggingface_hub import snapshot_download

    cache = os.environ["HF_HUB_CACHE"]
    snapshot_download("acme/tiny", endpoint=published.url, cache_dir=cache)
    blob = next(Path(cache).glob("models--acme--tiny/snapshots/*/model.safetensors")).resolve()
    blob.write_bytes(blob.read_bytes()[:-100])
    with pytest.raises(ModelFormatError, match=r"cached copy of model.safetensors.*--force"):
        embed("acme/tiny", local_files_only=True)


def test_a_file_of_another_commit_is_not_taken(
    published: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"X-Repo-Commit": "b" * 40}
    monkeypatch.setattr(published, "described", lambda headers: {**headers, **other})
    with pytest.raises(ModelError, match=r"of another commit than \w{40}.*HF_ENDPOINT"):
        resolve("acme/tiny").path("config.json")


def test_a_page_of_somebody_else_is_no_file(published: LoopbackHub) -> None:
    published.fail("/resolve/", status=200, content="<html>Log in</html>")
    with pytest.raises(ModelError, match=r"answered, and not as the Hub does.*login page"):
        resolve("acme/tiny").path("config.json")


def test_an_answer_that_leads_in_a_circle_is_no_listing(published: LoopbackHub) -> None:
    published.fail("/api/models", location=f"{published.url}/api/models/acme/tiny")
    with pytest.raises(ModelError, match=r"answered, and not as the Hub does.*login page"):
        resolve("acme/tiny")


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_host_of_files_that_refuses_is_named(
    published: LoopbackHub, tmp_path: Path, status: int
) -> None:
    """A network may let nobody reach it; the repository is neither missing nor restricted."""
    with LoopbackHub(tmp_path / "store") as store:
        store.fail(".", status=status, content="<Error>Denied</Error>")
        published.fail("/resolve/", location=f"{store.url}/a/file")
        host = store.url.removeprefix("http://")
        with pytest.raises(ModelError, match=rf"{host}, to which .* leads, answered {status} \("):
            resolve("acme/tiny").path("config.json")
        assert not [r for r in published.requests if "refs" in r.path]


@pytest.mark.parametrize("endpoint", ["http://[::1", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_no_address_is_named(endpoint: str) -> None:
    """huggingface_hub reads it when it is imported, and fails then."""
    done = subprocess.run(
        [sys.executable, "-m", "core", "info", "acme/tiny"],
        env={**os.environ, "HF_ENDPOINT": endpoint},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert f"HF_ENDPOINT='{endpoint}' is no address" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "code", "says"),
    [
        (
            "HF_HUB_ETAG_TIMEOUT",
            "soon",
            2,
            "huggingface_hub cannot read HF_HUB_ETAG_TIMEOUT='soon'",
        ),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "1.5", 2, "HF_HUB_DOWNLOAD_TIMEOUT='1.5'"),
        ("TRANSFORMERS_OFFLINE", "1", 1, "and TRANSFORMERS_OFFLINE=1 forbids downloading"),
        ("SSL_CERT_FILE", "/nowhere", 1, "Check the network, the proxy, $SSL_CERT_FILE='/nowhere'"),
    ],
)
def test_a_variable_that_stands_in_the_way_is_named(
    variable: str, value: str, code: int, says: str, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", variable: value}
    done = subprocess.run(
        [sys.executable, "-m", "core", "info", "acme/tiny"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be written" not in done.stderr


@pytest.mark.parametrize("token", ["hf_é", "hf_loopback\n", "hf_\x00secret"])
def test_a_token_that_no_header_can_hold_is_named(published: LoopbackHub, token: str) -> None:
    with pytest.raises(ModelError, match=r"the token has characters .* Check token=") as caught:
        resolve("acme/tiny", token=token)
    assert "hf_" not in str(caught.value)  # it is a secret
    assert published.requests == []


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 200])
def test_a_password_in_the_endpoint_is_in_no_message(
    published: LoopbackHub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", published.url.replace("://", "://me:p4ss@"))
    assert resolve("acme/tiny").has("config.json")
    published.fail("/api/models", status=status, content="no listing")
    with pytest.raises(ModelError, match=published.url) as caught:
        resolve("acme/tiny")
    assert "p4ss" not in str(caught.value)


def test_a_stored_token_that_is_not_there_is_named(
    published: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelError, match=r"token=True takes the stored login.*hf auth login"):
        resolve("acme/tiny", token=True)


def test_a_reference_that_cannot_be_written_leaves_nothing_in_its_place(
    published: LoopbackHub, tmp_path: Path
) -> None:
    """What is left there is a reference to every other tool."""
    references = tmp_path / "cache/models--acme--tiny/refs"
    (references / "main").mkdir(parents=True)
    resolve("acme/tiny").path("config.json")
    assert [path.name for path in references.rglob("*")] == ["main"]


def test_progress_bars_that_are_asked_for_are_no_warning(
    published: LoopbackHub,
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-m", "core", "info", "acme/tiny"],
        env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Cannot disable progress bars" not in done.stderr
