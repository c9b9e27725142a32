"""Through `core` and a real backend; the plugin is found by its entry point."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from embedding_cache import Store, plugin

import core


class Counting:
    """A backend whose embeddings tell the text's length and which counts what it is asked."""

    SOURCE = "name"
    MODEL_KWARGS = ("scale",)

    def __init__(self) -> None:
        self.asked: list[str] = []

    @core.hookimpl
    def load(self, source, options):  # type: ignore[no-untyped-def]
        model = core.EmbeddingModel(source, None, dimension=8, prompts={"query": "q: "})
        model.scale = options.model_kwargs.get("scale", 1)
        return model

    @core.hookimpl
    def encode(self, model, texts, options):  # type: ignore[no-untyped-def]
        if options.output_value == "token_embeddings":
            return [np.ones((len(text), 8), np.float32) for text in texts]
        self.asked += texts
        rows = [np.arange(1, 9) * model.scale + len(text) for text in texts]
        return np.array(rows, np.float32).reshape(-1, 8)


BACKEND = Counting()
core.register_backend("counting", BACKEND)


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "cache" / "embeddings.sqlite", 10_000_000)
    plugin.use(store)
    BACKEND.asked.clear()
    yield store
    store.close()
    plugin.use(None)


def test_it_is_installed_around_every_backend() -> None:
    assert core.backends()["counting"].calls["encode"][0] == "embedding-cache"
    assert core.plugins()["embedding-cache"].distribution == "core-embedding-cache 0.1.0"


def test_only_unknown_texts_reach_the_backend_once_each(store: Store) -> None:
    model = core.load("m", backend="counting")
    known = [f"known {i}" for i in range(90)]
    first = model.encode(known)
    BACKEND.asked.clear()
    mixed = [
        text for i in range(90) for text in ([known[i]] + ([f"new {i}"] * 2 if i < 10 else []))
    ]
    rows = model.encode(mixed)
    assert BACKEND.asked == [f"new {i}" for i in range(10)]
    positions = {text: i for i, text in enumerate(known)}
    for text, row in zip(mixed, rows, strict=True):
        expected = first[positions[text]] if text in positions else np.arange(1, 9) + len(text)
        np.testing.assert_array_equal(row, expected)
    counts = store.counts()
    assert (counts.hits, counts.misses, counts.entries) == (90, 90 + 20, 100)


def test_results_belong_to_the_caller() -> None:
    model = core.load("m", backend="counting")
    kept = model.encode(["a", "bb"]).copy()
    model.encode(["a", "bb"])[:] = 0
    np.testing.assert_array_equal(model.encode(["a", "bb"]), kept)


def test_options_after_the_hook_share_an_entry_and_those_before_do_not() -> None:
    model = core.load("m", backend="counting")
    full = model.encode(["text"])
    assert model.encode(["text"], truncate_dim=3).shape == (1, 3)
    assert np.linalg.norm(model.encode("text", normalize_embeddings=True)) == pytest.approx(1)
    model.encode(["text"], precision="ubinary")
    assert BACKEND.asked == ["text"]
    model.encode(["text"], prompt_name="query")
    assert BACKEND.asked == ["text", "q: text"]
    other = core.load("m", backend="counting", model_kwargs={"scale": 3})
    assert not np.array_equal(other.encode(["text"]), full)
    assert core.load("other", backend="counting").encode(["text"]).shape == (1, 8)
    assert BACKEND.asked == ["text", "q: text", "text", "text"]


def test_no_texts_and_token_embeddings_pass_by(store: Store) -> None:
    model = core.load("m", backend="counting")
    assert model.encode([]).shape == (0, 8)
    assert model.encode("abc", output_value="token_embeddings").shape == (3, 8)
    assert store.counts().entries == 0


def test_texts_of_any_kind_are_keys() -> None:
    model = core.load("m", backend="counting")
    texts = ["", " ", "\0", "机器", "🙂", "x" * 100_000]
    np.testing.assert_array_equal(model.encode(texts), model.encode(texts))
    assert len(BACKEND.asked) == len(texts)


def test_it_stays_within_its_bound_and_keeps_what_is_used(tmp_path: Path) -> None:
    small = Store(tmp_path / "small.sqlite", 100 * 160)
    plugin.use(small)
    model = core.load("m", backend="counting")
    for i in range(60):
        model.encode([f"first {i}"])
    for i in range(300):
        model.encode(["first 0"])
        model.encode([f"second {i}"])
        assert small.counts().bytes <= 100 * 160
    BACKEND.asked.clear()
    model.encode(["first 0", "first 1", "second 299"])
    assert BACKEND.asked == ["first 1"]
    assert 50 < small.counts().entries <= 100
    small.clear()
    assert (small.counts().entries, small.counts().bytes) == (0, 0)
    small.close()


def test_a_broken_file_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "broken.sqlite"
    path.write_bytes(b"this is not a database " * 100)
    plugin.use(Store(path, 1_000_000))
    model = core.load("m", backend="counting")
    assert model.encode("four")[0] == 5
    assert "cannot be read and is left out" in caplog.text
    assert path.read_bytes().startswith(b"this is not a database")


def test_many_threads_share_it(store: Store) -> None:
    model = core.load("m", backend="counting")
    failures: list[Exception] = []

    def work(seed: int) -> None:
        try:
            for i in range(20):
                texts = [f"text {(7 * seed + i + k) % 50}" for k in range(10)]
                rows = model.encode(texts)
                assert [row[0] for row in rows] == [1 + len(text) for text in texts]
        except Exception as error:
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.counts().entries == 50


def _fill(path: str, start: int) -> None:
    store = Store(Path(path), 10_000_000)
    for i in range(start, start + 200):
        key = (i % 300).to_bytes(32, "big")
        store.add({key: np.full(8, i % 300, np.float32)})
        assert store.find([key])[key][0] == i % 300
    store.close()


def test_several_processes_share_it(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(str(store.path), n * 100)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert store.counts().entries == 300
    assert store.counts().bytes == 300 * (8 * 4 + 120)
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


class Letters:
    """A multi-vector backend: its results are no rows, and are left to it."""

    SOURCE = "name"
    KINDS = ("multi_vector",)

    @core.hookimpl
    def load(self, source, options):  # type: ignore[no-untyped-def]
        return core.MultiVectorEncoder(source, None, dimension=2)

    @core.hookimpl
    def encode(self, model, texts, options):  # type: ignore[no-untyped-def]
        return [np.full((len(text), 2), len(options.task or ""), np.float32) for text in texts]


def test_other_kinds_of_model_are_left_alone(store: Store) -> None:
    core.register_backend("letters", Letters(), replace=True)
    model = core.load_multi_vector("anything", backend="letters")
    for _ in range(2):
        assert [row.shape for row in model.encode(["ab", "abc"])] == [(2, 2), (3, 2)]
        assert model.encode_query("a").max() == 5
        assert model.encode_document("a").max() == 8
    assert store.counts().entries == 0
