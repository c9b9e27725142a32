"""The page in headless Chromium: a short way through it here, every way by `make ui-browser`."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import core
from tests.conftest import copy_model
from tests.hub.conftest import folder_files
from tests.hub.loopback import TOKEN, LoopbackHub
from tests.ui.browser import CHROMIUM, DRIVER, NARROW, WIDE, Browser, browser
from tests.ui.serving import Served, runs, served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver"
    ),
    # How selenium ends the driver's process.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
TEXTS = ["A cat sleeps.", "A kitten naps on the <b>sofa</b>.", "Stocks fell.", "Shares dropped."]


@pytest.fixture
def page() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def opened(page: Browser, url: str, model: str) -> None:
    page.driver.get(url)
    page.shows("model-facts", model)


@contextmanager
def held(page: Browser, server: Served) -> Iterator[None]:
    """The server's one job stands still: it ends neither before it is looked at nor before it is
    cancelled."""
    (job,) = page.wait(server.jobs, "a job")
    os.kill(job, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(job, signal.SIGCONT)


def test_a_model_is_made_reloaded_refused_and_cancelled(page: Browser, server: Served) -> None:
    opened(page, server.url, "tiny")
    facts = page.text("model-facts")
    assert "model.safetensors (default)" in facts
    assert "Dimension 32" in facts
    page.tab("Make")
    page.fill("make-target", "../outside")
    page.click("#make-start")
    page.shows("make-status", "outside of what this page may use")
    page.fill("make-target", "made")
    page.shows("make-code", f"--target {server.root}/made")
    page.click("#make-start")
    with held(page, server):
        page.shows("make-status", "Running")
        page.settled()
        page.driver.refresh()
        page.shows("model-facts", "tiny")
    page.tab("Make")
    page.holds("make-target", "made")
    page.shows("make-proof", "cosine mean")
    assert "times its source's" in page.text("make-proof")
    (made,) = (server.root / "made" / "onnx").glob("*.onnx")
    assert json.loads(Path(f"{made}.json").read_text())["verification"]["mean_cosine"] > 0.9
    page.fill("make-target", "cancelled")
    page.click("#make-start")
    with held(page, server):
        page.shows("make-status", "Running")
        page.settled()  # a button that is being drawn anew takes no click
        page.click("#make-cancel")
        page.shows("make-status", "Cancelling")
    page.shows("make-status", "Cancelled after")
    assert not (server.root / "cancelled").exists()
    assert sorted(path.name for path in server.root.iterdir()) == ["made", "tiny"]
    page.check(server.url)


@pytest.mark.browser
def test_a_verified_int8_minilm_in_four_clicks(page: Browser, minilm: Path, tmp_path: Path) -> None:
    copy_model(minilm, tmp_path / "minilm")
    with served(tmp_path) as server:
        page.driver.get(server.url)
        page.fill("model-name", "minilm")
        page.keys("\n")
        page.shows("model-facts", "Transformer (bert)")
        page.screenshot("model")
        page.tab("Make")
        page.click("#make-start")
        page.shows("make-proof", "cosine mean 0.9")
        assert page.clicks <= 4
        page.screenshot("make")
        page.fill("make-texts", "\n".join(TEXTS))
        page.click("#neighbours-start")
        page.shows("make-neighbours", "Nearest neighbours (cosine): the same for 4 of 4 texts")
        assert "A kitten naps on the <b>sofa</b>." in page.text("make-neighbours")
        page.tab("Try")
        page.wait(lambda: "int8" in page.value("try-right"), "what was made is chosen")
        assert "by default" in page.value("try-left")
        page.fill("try-texts", "\n".join(TEXTS))
        page.click("#try-start")
        page.shows("try-left-map", "1.000")
        page.shows("try-right-map", "1.000")
        page.screenshot("try")
        page.tab("Publish")
        page.fill("publish-target", "saved")
        page.click("#save-start")
        page.shows("publish-saved", "Saved to")
        page.check(server.url)
    with core.load(str(tmp_path / "saved"), backend="onnx") as model:
        assert "int8" in str(model.file_name)
        assert model.similarity(*model.encode(["a cat", "a kitten"])) > 0.5


@pytest.mark.browser
def test_a_pull_request_on_the_hub_from_a_search(
    page: Browser, server: Served, tmp_path: Path
) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.create("acme/tiny").add(folder_files(server.root / "tiny"))
        place = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }
        root = tmp_path / "root"
        root.mkdir()
        with served(root, environment=place) as running:
            page.driver.get(running.url)
            page.click("#model-hub button.label-wrap")
            page.fill("model-query", "tin")
            assert hub.requests == []  # nothing was asked yet
            page.click("#model-search")
            page.click("#model-found label")
            page.wait(lambda: page.value("model-name") == "acme/tiny", "it is taken")
            page.click("#model-show")
            page.shows("model-facts", "model.safetensors")
            page.tab("Make")
            page.click("#make-start")
            page.shows("make-proof", "cosine mean")
            page.tab("Publish")
            page.fill("publish-repository", "acme/tiny")
            page.click("#push-start")
            page.shows("push-status", "no token was given")  # an error, in core's words
            page.click("#publish-draft")
            page.wait(lambda: "Verified against" in page.value("publish-text"), "a draft")
            page.fill("publish-text", "In my own words.")
            page.fill("publish-token", TOKEN)
            page.click("#push-start")
            said = page.shows("publish-pushed", "refs/pr/1")
            assert f"{hub.url}/acme/tiny/discussions/1" in said
            assert "After the merge" in said
            assert TOKEN not in page.driver.page_source
            page.screenshot("publish")
            page.check(running.url)
        found = set(hub.store("acme/tiny").entries(hub.store("acme/tiny").resolve("refs/pr/1")))
        assert any(re.fullmatch(r"onnx/model_q.*\.onnx", name) for name in found)
        kept = [p for p in tmp_path.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
        assert kept == []


@pytest.mark.browser
def test_tune_recommends_and_one_click_takes_it(page: Browser, server: Served) -> None:
    opened(page, server.url, "tiny")
    page.tab("Choose")
    page.fill("choose-texts", "\n".join(f"text {n} about {n % 7} things" for n in range(150)))
    page.fill("choose-minutes", "0.3")
    page.click("#choose-start")
    page.shows("choose-table", "recommended")
    assert page.find("#choose-plot svg").is_displayed()
    page.screenshot("choose")
    page.click("#take-start")
    page.shows("choose-taken", "tiny-tuned")
    with core.load(str(server.root / "tiny-tuned"), backend="tuned") as model:
        assert model.encode("one text").shape == (32,)
    page.check(server.url)


@pytest.mark.browser
def test_what_was_typed_is_there_after_a_reload_and_a_token_is_not(
    page: Browser, server: Served
) -> None:
    typed = {
        "Model": {"model-name": "./tiny", "model-query": "minilm", "model-revision": "main"},
        "Make": {"make-calibration": "one\ntwo", "make-target": "here"},
        "Choose": {
            "choose-texts": "some\ntexts", "choose-minutes": "3", "choose-recall": "0.9"
        },
        "Try": {"try-texts": "a\nb\nc"},
        "Publish": {
            "publish-target": "d", "publish-repository": "a/b", "publish-text": "In my words.",
        },
    }  # fmt: skip
    opened(page, server.url, "tiny")
    page.click("#model-hub button.label-wrap")
    for tab, fields in typed.items():
        page.tab(tab)
        if tab == "Make":
            page.click("#make-operation label:nth-of-type(2)")
            page.wait(lambda: "optimize" in page.text("make-code"), "another operation")
            page.click("#make-operation label:nth-of-type(1)")
            page.click("#make-config label:nth-of-type(6)")
            page.wait(lambda: page.find("#make-calibration"), "this one is calibrated")
        if tab == "Choose":
            page.click("#choose-objective label:nth-of-type(2)")
        if tab == "Publish":
            page.fill("publish-token", "hf_secret")
            page.click("#publish-pr input")
        for name, text in fields.items():
            page.fill(name, text)
    page.settled()
    page.driver.refresh()
    page.shows("model-facts", "tiny")
    page.click("#model-hub button.label-wrap")
    for tab, fields in typed.items():
        page.tab(tab)
        for name, text in fields.items():
            page.holds(name, text)
        if tab == "Model":
            assert page.value("model-token") == ""
        if tab == "Make":
            page.shows("make-code", f"--target {server.root}/here --revision main --config static")
        if tab == "Choose":
            assert page.find("#choose-objective label:nth-of-type(2) input").is_selected()
            page.shows("choose-code", "--minutes 3 --for latency --min-recall 0.9")
        if tab == "Publish":
            assert page.value("publish-token") == ""
            assert not page.find("#publish-pr input").is_selected()
    page.check(server.url)


@pytest.mark.browser
def test_changes_that_overtake_their_answers_are_answered_once(
    page: Browser, server: Served
) -> None:
    opened(page, server.url, "tiny")
    with page.far_away(milliseconds=400):
        for name in ("./a", "./b", "./tiny"):
            page.fill("model-name", name)
        page.tab("Make")
        for nth in (2, 1, 2):
            page.click(f"#make-operation label:nth-of-type({nth})")
    page.settled()
    page.shows("make-code", f"core optimize {server.root}/tiny")
    page.check(server.url)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "proof", "measure"),
    [
        ("reranker-bert", "score difference at most", "score"),
        ("splade", "overlap of dimensions mean", "dot product"),
        ("colbert", "MaxSim difference at most", "MaxSim"),
    ],
)
def test_other_kinds_are_proved_and_compared_by_their_own_measure(
    page: Browser, tiny_kind: Callable[[str], Path], tmp_path: Path, name: str, proof: str,
    measure: str,
) -> None:  # fmt: skip
    copy_model(tiny_kind(name), tmp_path / "tiny")
    with served(tmp_path, "--model", "tiny") as server:
        opened(page, server.url, "tiny")
        page.tab("Make")
        page.click("#make-start")
        page.shows("make-proof", proof)
        page.fill("make-texts", "\n".join(TEXTS))
        page.click("#neighbours-start")
        page.shows("make-neighbours", f"Nearest neighbours ({measure}, each row a query")
        page.tab("Try")
        page.wait(lambda: "int8" in page.value("try-right"), "what was made is chosen")
        page.click("#try-start")
        for side in ("left", "right"):
            page.shows(f"try-{side}-map", f"{measure}, each row a query, each column a document")
        page.screenshot(f"try-{name}")
        page.check(server.url)


@pytest.mark.browser
def test_two_browsers_do_not_see_each_other(page: Browser, server: Served) -> None:
    opened(page, server.url, "tiny")
    with browser() as other:
        opened(other, server.url, "tiny")
        for number, one in enumerate((page, other)):
            one.tab("Make")
            one.fill("make-target", f"of-browser-{number}")
            one.click("#make-start")
        for number, one in enumerate((page, other)):
            assert f"of-browser-{number}" in one.shows("make-proof", "of-browser")
            one.tab("Try")
            one.holds("try-right", f"of-browser-{number}")
            one.check(server.url)


@pytest.mark.browser
@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_nothing_serious_is_found_by_axe_and_nothing_is_cut_off(
    server: Served, mode: str, size: tuple[int, int]
) -> None:
    with browser(size) as page:
        opened(page, f"{server.url}?__theme={mode}", "tiny")
        page.click("#model-hub button.label-wrap")
        for name in ("Model", "Make", "Choose", "Try", "Publish"):
            page.tab(name)
            page.wait(lambda: not page.busy(), "it stands still")
            page.screenshot(f"{mode}-{size[0]}-{name}")
            assert page.serious_findings() == [], name
            assert page.cut_off() == [], name


@pytest.mark.browser
def test_keys_alone_make_a_model(page: Browser, server: Served) -> None:
    opened(page, server.url, "tiny")

    def go_to(wanted: str) -> None:
        """By the tab key, to what has this id or text."""
        for _ in range(80):
            active = page.driver.switch_to.active_element
            if wanted in (active.get_attribute("id"), active.text):
                return
            inside = f"return !!arguments[0].closest('#{wanted}')"
            if re.fullmatch(r"[\w-]+", wanted) and page.driver.execute_script(inside, active):
                return
            active.send_keys("\ue004")
        raise AssertionError(f"{wanted} cannot be reached")

    go_to("Make")
    page.keys("\n")
    page.wait(lambda: page.find("#make-start"), "the page Make")
    go_to("make-config")
    page.keys("\ue004")  # each choice is a stop of its own, taken by the space bar
    page.keys(" ")
    page.shows("make-code", "--config avx2")
    go_to("make-target")
    page.keys("by-keys")
    go_to("make-start")
    page.keys("\n")
    page.shows("make-proof", "cosine mean")
    assert (server.root / "by-keys").is_dir()


@pytest.mark.browser
def test_a_killed_server_leaves_no_half_written_model(page: Browser, server: Served) -> None:
    with served(server.root, "--model", "tiny") as other:
        opened(page, other.url, "tiny")
        page.tab("Make")
        page.fill("make-target", "killed")
        page.click("#make-start")
        page.shows("make-status", "Running")
        job = page.wait(other.jobs, "a job")[0]
        os.kill(other.process.pid, signal.SIGKILL)
        other.process.wait()
    page.wait(lambda: not runs(job), "its command ends by itself")
    killed = server.root / "killed"
    assert not list(server.root.glob(".*"))
    for file in killed.rglob("*.onnx"):  # it was quicker: then it is whole
        with core.load(str(killed), backend="onnx", file_name=file.name) as model:
            assert model.encode("one text").shape == (32,)
