"""Broken, missing, duplicate, too old and too new plugins, as really installed ones."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import core
from core.cli import main
from core.errors import BackendLoadError, BackendNotFound, OptionError
from core.plugin.registry import registry
from tests.conftest import with_path
from tests.plugins.conftest import SOUND, WRAPPER, Site

BROKEN = {
    "raises": ("raise RuntimeError('no license')", "importing it raised RuntimeError: no license"),
    "needs": ("import not_installed_here", "ModuleNotFoundError: No module named"),
    "exits": ("import sys; sys.exit(3)", "importing it raised SystemExit: 3"),
    "syntax": ("def load(:", "importing it raised SyntaxError"),
    "empty": ("", "it implements no hook"),
    "half": (SOUND.replace("@core.hookimpl\ndef encode", "def encode"), "not implement encode"),
    "typo": (SOUND + "\n@core.hookimpl\ndef optimise(model): ...\n", "unknown hook 'optimise'"),
    "argument": (SOUND.replace("encode(model, texts,", "encode(model, textes,"), "textes"),
    "stars": (SOUND.replace("encode(model, texts, options)", "encode(*given)"), "takes *given"),
    "keywords": (
        SOUND.replace("encode(model, texts,", "encode(*, model, texts,"),
        "its encode takes model by keyword only",
    ),
    "wrapped": (
        SOUND.replace("hookimpl\ndef enc", "hookimpl(wrapper=True)\ndef enc").replace(
            "    return np.array(rows", "    yield\n    return np.array(rows"
        ),
        "its encode is a wrapper",
    ),
    "old": (SOUND.replace("SPEC_VERSION = 1", "SPEC_VERSION = 0"), "it is too old"),
    "new": (SOUND.replace("SPEC_VERSION = 1", "SPEC_VERSION = 99"), "core is too old"),
    "version": (SOUND.replace("SPEC_VERSION = 1", "SPEC_VERSION = '1'"), "not an integer"),
    "devices": (SOUND + "\nDEVICES = 'cpu'\n", "its DEVICES must be a tuple of strings"),
    "source": (SOUND + "\nSOURCE = 'server'\n", "its SOURCE must be 'checkpoint' or 'name'"),
    "auto": (SOUND + "\nAUTO_EXPORT = 'yes'\n", "its AUTO_EXPORT must be True or False"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_backend_is_named_and_harms_no_other(site: Site, kind: str) -> None:
    source, reason = BROKEN[kind]
    site.install("acme-broken", source, backend="broken", version="2.3")
    site.install("acme-sound", SOUND, backend="sound")
    with pytest.raises(BackendLoadError) as caught:
        core.load("anything", backend="broken")
    message = str(caught.value)
    assert reason in message
    assert "Backend 'broken' (entry point 'acme_broken' of distribution acme-broken 2.3)" in message
    assert "CORE_DISABLE_PLUGINS=broken" in message
    assert core.load("anything", backend="sound").encode("four").tolist() == [4, 1, 2, 3]
    statuses = core.backends()
    assert statuses["broken"].status == "broken"
    assert reason in statuses["broken"].error
    assert statuses["sound"].status == "ok"


@pytest.mark.parametrize("kind", ["raises", "exits", "empty", "new"])
def test_a_broken_wrapper_is_left_out_with_one_warning(
    site: Site, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, reason = BROKEN[kind]
    site.install("acme-broken", source, plugin="broken", version="2.3")
    site.install("acme-sound", SOUND, backend="sound")
    site.install("acme-other", SOUND, backend="other")
    with caplog.at_level(logging.WARNING, logger="core"):
        assert core.load("x", backend="sound").encode("four").tolist() == [4, 1, 2, 3]
        core.load("x", backend="other")
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert "of distribution acme-broken 2.3" in record.getMessage()
    status = core.plugins()["broken"]
    assert (status.status, status.distribution) == ("broken", "acme-broken 2.3")


WRONG_WRAPPERS = {
    "not a generator": (WRAPPER.replace("(yield)", "None"), "not a generator function"),
    "old style": (WRAPPER.replace("wrapper=True", "hookwrapper=True"), "use wrapper=True"),
    "takes over": (SOUND, "would silently take the place of every backend's"),
}


@pytest.mark.parametrize("kind", WRONG_WRAPPERS)
def test_a_wrapper_of_the_wrong_kind_says_what_to_write(site: Site, kind: str) -> None:
    source, reason = WRONG_WRAPPERS[kind]
    site.install("acme-wrong", source, plugin="wrong")
    assert reason in core.plugins()["wrong"].error


def test_a_name_that_two_distributions_claim_is_refused(site: Site) -> None:
    site.install("acme-one", SOUND, backend="twice")
    site.install("acme-two", SOUND, backend="twice", version="4.0")
    with pytest.raises(BackendLoadError) as caught:
        core.hooks("twice")
    assert "claimed by 2 distributions: acme-one 1.0 (acme_one) and acme-two 4.0" in str(
        caught.value
    )
    assert core.backends()["twice"].status == "duplicate"
    assert "acme_one" not in sys.modules
    assert "acme_two" not in sys.modules


def test_a_wrapper_that_two_distributions_claim_is_left_out(site: Site) -> None:
    site.install("acme-one", WRAPPER, plugin="twice")
    site.install("acme-two", WRAPPER, plugin="twice")
    site.install("acme-sound", SOUND, backend="sound")
    status = core.plugins()["twice"]
    assert status.status == "duplicate"
    assert "acme-one 1.0 (acme_one) and acme-two 1.0 (acme_two)" in status.error
    assert core.backends()["sound"].wrappers == ()


@pytest.mark.parametrize(
    "content", ["[core.backends]\nnonsense\n", "[core.backends]\n= x\nmine == \x00\n"]
)
def test_unreadable_metadata_of_one_distribution_hides_no_other(
    site: Site, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.install("acme-corrupt", "", entry_points=content)
    site.install("acme-sound", SOUND, backend="sound")
    with caplog.at_level(logging.WARNING, logger="core"):
        assert core.load("x", backend="sound").encode("abc")[0] == 3
    assert {name for name in core.backends() if name in ("sound", "torch")} == {"sound", "torch"}


def test_a_missing_backend_says_what_is_installed_and_what_was_meant(site: Site) -> None:
    site.install("acme-sound", SOUND, backend="sounding")
    with pytest.raises(BackendNotFound, match=r"Did you mean 'sounding'.*Installed: .*sounding"):
        core.hooks("soundng")
    with pytest.raises(OptionError, match="named by a string"):
        core.hooks(["torch"])  # type: ignore[arg-type]


def test_a_backend_installed_while_running_is_found(site: Site) -> None:
    with pytest.raises(BackendNotFound, match="no backend 'late'"):
        core.hooks("late")
    site.install("acme-late", SOUND, backend="late")
    assert core.hooks("late").name == "late"


def test_disabled_plugins_are_not_imported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("acme-off", "raise SystemExit", backend="off")
    site.install("acme-around", "raise SystemExit", plugin="around")
    site.install("acme-sound", SOUND, backend="sound")
    monkeypatch.setenv("CORE_DISABLE_PLUGINS", "Off, around")
    with pytest.raises(BackendLoadError, match=r"CORE_DISABLE_PLUGINS='Off, around'.*Remove"):
        core.load("x", backend="off")
    assert core.backends()["off"].status == "disabled"
    assert core.plugins()["around"].status == "disabled"
    assert core.backends()["sound"].status == "ok"
    assert "off" not in registry.names()
    assert not {"acme_off", "acme_around"} & set(sys.modules)


def test_naming_one_backend_imports_no_other_and_no_runtime(site: Site) -> None:
    site.install("acme-sound", SOUND, backend="sound")
    site.install("acme-other", "raise RuntimeError", backend="other")
    program = (
        "import core, sys; core.load('x', backend='sound').encode('abc'); "
        "heavy = {'torch', 'transformers', 'onnxruntime', 'openvino', 'huggingface_hub'}; "
        "print(sorted(m for m in sys.modules if m in heavy or m.endswith('_backend')"
        " or m.startswith('acme')))"
    )
    environment = {**os.environ, "PYTHONPATH": with_path(site.root)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['acme_sound']"


COUNTED = (
    SOUND
    + """
import threading, time
made = []

class Backend:
    SOURCE = "name"
    load = staticmethod(load)
    encode = staticmethod(encode)

    def __init__(self):
        time.sleep(0.05)
        made.append(threading.get_ident())
"""
)


def test_many_threads_find_one_instance(site: Site) -> None:
    module = site.install("acme-counted", COUNTED, backend="counted", attribute="Backend")
    barrier = threading.Barrier(16)

    def use(_: int) -> float:
        barrier.wait()
        return float(core.load("x", backend="counted").encode("four")[0])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(use, range(16))) == [4.0] * 16
    assert len(sys.modules[module].made) == 1


def test_an_import_that_hangs_holds_up_only_its_own_backend(site: Site) -> None:
    hanging = "import threading\nreached = threading.Event()\ngo = threading.Event()\n"
    site.install("acme-state", hanging)
    slow = "import acme_state\nacme_state.reached.set()\nacme_state.go.wait(30)\n" + SOUND
    site.install("acme-slow", slow, backend="slow")
    site.install("acme-sound", SOUND, backend="sound")
    import acme_state  # type: ignore[import-not-found]

    thread = threading.Thread(target=core.hooks, args=("slow",), daemon=True)
    thread.start()
    try:
        assert acme_state.reached.wait(10)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(core.hooks, "sound").result(timeout=10).name == "sound"
        assert thread.is_alive()
    finally:
        acme_state.go.set()
        thread.join(10)
    assert core.hooks("slow").name == "slow"


def test_registering_while_another_thread_loads_loses_no_wrapper(site: Site) -> None:
    slow = SOUND + "\nimport time\ntime.sleep(0.2)\n"
    module = site.install("acme-slow", slow, backend="slow")

    class Late:
        @core.hookimpl(wrapper=True)
        def encode(self, model, texts, options):  # type: ignore[no-untyped-def]
            return (yield) + 1

    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(core.load, "x", backend="slow")
        while module not in sys.modules:
            time.sleep(0.005)
        core.register_plugin("late", Late())
        try:
            assert loading.result(10).encode("four").tolist() == [5, 2, 3, 4]
        finally:
            registry.unregister("core.plugins", "late")


class Plain:
    """A backend given as an object or a class."""

    SOURCE = "name"

    @core.hookimpl
    def load(self, source, options):  # type: ignore[no-untyped-def]
        return core.EmbeddingModel(source, None, dimension=4)

    @core.hookimpl
    def encode(self, model, texts, options):  # type: ignore[no-untyped-def]
        import numpy as np

        return np.ones((len(texts), 4), np.float32)

    def __eq__(self, other: object) -> bool:
        return True  # must not make pluggy take it for another plugin

    __hash__ = None  # type: ignore[assignment]


class Around:
    """A wrapping plugin that takes itself for every other one."""

    @core.hookimpl(wrapper=True)
    def encode(self):  # type: ignore[no-untyped-def]
        return (yield)

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def clean_registry() -> object:
    yield
    for name in ("mine", "mine-too", "around"):
        registry.unregister("core.backends", name)
        registry.unregister("core.plugins", name)


@pytest.mark.usefixtures("clean_registry")
def test_backends_registered_in_code(site: Site) -> None:
    module = site.install("acme-module", SOUND)
    core.register_backend("mine", Plain)
    core.register_backend("mine-too", Plain())
    core.register_plugin("around", Around())
    assert core.load("x", backend="mine").encode("a").tolist() == [1, 1, 1, 1]
    assert core.backends()["mine-too"].wrappers == ("around",)
    with pytest.raises(OptionError, match="Another object is registered as 'mine' already"):
        core.register_backend("mine", Plain())
    core.register_backend("mine", __import__(module), replace=True)
    assert core.load("x", backend="mine").encode("a").tolist() == [1, 1, 2, 3]
    with pytest.raises(OptionError, match="'torch' is already installed by distribution core-tor"):
        core.register_backend("torch", Plain())
    with pytest.raises(OptionError, match="must read like an identifier"):
        core.register_backend("no name", Plain())
    with pytest.raises(BackendLoadError, match="'mine' cannot be used: it implements no hook"):
        core.register_backend("mine", object(), replace=True)
    assert core.load("x", backend="mine").encode("a").tolist() == [1, 1, 2, 3]


def test_old_plugins_run_on_a_newer_core(site: Site) -> None:
    """A missing SPEC_VERSION is version 1; arguments added since may be left out."""
    older = (
        SOUND.replace("SPEC_VERSION = 1\n", "")
        .replace("def encode(model, texts, options)", "def encode(texts)")
        .replace("def load(source, options)", "def load(source)")
    )
    site.install("acme-older", older, backend="older")
    site.install("acme-outer", WRAPPER.replace("model, texts, options", "texts"), plugin="outer")
    assert core.load("x", backend="older").encode("four").tolist() == [4, 1, 2, 3]
    status = core.backends()["older"]
    assert status.capabilities.spec_version == 1
    assert status.wrappers == ("outer",)


def test_what_a_plugin_prints_is_not_in_the_output_of_a_command(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    banner = "print('Acme 2.3, licensed to you')\n"
    site.install("acme-backend", banner + SOUND, backend="loud")
    site.install("acme-plugin", banner + WRAPPER, plugin="around")
    assert main(["backends", "--json"]) == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out)["loud"]["status"]
    assert shown.err.count("licensed") == 2
    assert main(["encode", "any", "text", "--backend", "loud"]) == 0
    assert json.loads(capfd.readouterr().out)["embedding"] == [4, 1, 2, 3]


def test_a_revision_is_refused_where_a_backend_runs_names(site: Site) -> None:
    site.install("acme-sound", SOUND, backend="sound")
    for call in (core.load, core.kind_of):
        with pytest.raises(OptionError, match=r"revision='v1' .* the sound backend"):
            call("x", backend="sound", revision="v1")
