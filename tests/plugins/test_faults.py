"""Plugins that misbehave while running: the error names the one at fault, and its distribution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import core
from core.errors import OptionError, PluginError
from tests.plugins.conftest import SOUND, WRAPPER, Site

BACKEND = "backend 'bad' of distribution acme-bad 1.0"
RETURN = "    return np.array(rows, dtype=np.float32).reshape(-1, 4)"


def returning(expression: str) -> str:
    return SOUND.replace(RETURN, f"{RETURN.replace('return', 'good =')}\n    return {expression}")


ENCODE_FAULTS = {
    "nothing": (returning("None"), "returned nothing"),
    "list": (returning("good.tolist()"), "returned list, not a numpy array"),
    "float64": (returning("good.astype(float)"), "returned float64, not float32"),
    "flat": (returning("good.ravel()"), "returned shape [8] for 2 texts, not [2, d]"),
    "rows": (returning("good[:1]"), "returned shape [1, 4] for 2 texts, not [2, d]"),
    "width": (returning("good[:, :3].copy()"), "of 3 dimensions; the model has 4"),
    "nan": (
        returning("np.where(good == 5, np.nan, good).astype('f4')"),
        "NaN or infinity for 1 of 2 texts (positions 1)",
    ),
    "infinity": (
        returning("np.where(good == 5, np.inf, good).astype('f4')"),
        "NaN or infinity for 1 of 2 texts (positions 1)",
    ),
    "subclass": (
        returning("good.view(type('Own', (np.ndarray,), {}))"),
        "returned Own, not a plain numpy array",
    ),
    "masked": (returning("np.ma.array(good)"), "returned MaskedArray, not a plain numpy array"),
    "read-only": (returning("np.broadcast_to(good[:1], good.shape)"), "read-only array"),
    "raises": (returning("1 / 0"), "failed with ZeroDivisionError: division by zero"),
    "exits": (returning("exit(4)"), "failed with SystemExit: 4"),
    # Python turns it into a RuntimeError of the first generator it passes through.
    "stops": (returning("next(iter([]))"), "failed with StopIteration."),
}


@pytest.mark.parametrize("fault", ENCODE_FAULTS)
def test_a_bad_result_names_the_backend_not_those_around_it(site: Site, fault: str) -> None:
    source, reason = ENCODE_FAULTS[fault]
    site.install("acme-bad", source, backend="bad")
    site.install("acme-sound", SOUND, backend="sound")
    site.install("acme-around", WRAPPER, plugin="around")
    model = core.load("x", backend="bad")
    with pytest.raises(PluginError) as caught:
        model.encode(["four", "fives"])
    assert str(caught.value).startswith(f"encode of {BACKEND} ")
    assert reason in str(caught.value)
    assert "around" not in str(caught.value)
    assert core.load("x", backend="sound").encode("four").tolist() == [4, 1, 2, 3]


LOAD_FAULTS = {
    "nothing": ("return None", "returned nothing"),
    "something": ("return {'a': 1}", "returned dict, not an EmbeddingModel"),
    "raises": ("raise OSError('disk on fire')", "failed with OSError: disk on fire"),
    "exits": ("import sys; sys.exit('bye')", "failed with SystemExit: bye"),
}


@pytest.mark.parametrize("fault", LOAD_FAULTS)
def test_a_load_that_fails_names_the_backend(site: Site, fault: str) -> None:
    statement, reason = LOAD_FAULTS[fault]
    source = SOUND.replace("return core.EmbeddingModel(source, None, dimension=4)", statement)
    site.install("acme-bad", source, backend="bad")
    with pytest.raises(PluginError) as caught:
        core.load("x", backend="bad")
    assert f"load of {BACKEND} {reason}" in str(caught.value)


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        ("dimension=4.0", "dimension must be a positive integer or None, not 4.0"),
        ("dimension=0", "dimension must be 1 or more, not 0"),
        ("dimension=4, truncate_dim='2'", "truncate_dim must be a positive integer or None"),
        ("dimension=4, prompts={'query': None}", "prompts must map names to strings"),
        ("dimension=4, similarity_fn_name='cos'", "similarity_fn_name must be one of cosine"),
    ],
)
def test_a_loaded_model_with_a_wrong_setting_names_the_backend(
    site: Site, stated: str, why: str
) -> None:
    site.install("acme-bad", SOUND.replace("dimension=4", stated), backend="bad")
    with pytest.raises(PluginError) as caught:
        core.load("x", backend="bad")
    assert f"load of {BACKEND} returned a model whose {why}" in str(caught.value)


def test_token_embeddings_are_checked(site: Site) -> None:
    site.install("acme-bad", SOUND, backend="bad")
    model = core.load("x", backend="bad")
    with pytest.raises(PluginError, match=r"acme-bad 1.0 returned ndarray, not a list of 2 arrays"):
        model.encode(["a", "b"], output_value="token_embeddings")


def test_an_artifact_outside_the_staging_directory_is_refused(site: Site, minilm: object) -> None:
    source = SOUND.replace('SOURCE = "name"', "") + (
        "\n@core.hookimpl\ndef export(source, target, options):\n"
        "    (target.parent / 'evil').write_text('x')\n"
        "    return core.Artifact(root=target, file_name='../evil')\n"
    )
    site.install("acme-bad", source, backend="bad")
    with pytest.raises(PluginError, match=r"acme-bad 1.0 named '../evil' as a file, which is out"):
        core.export(str(minilm), site.root / "out", backend="bad")
    assert not (site.root / "out").exists()


ARTIFACT_FAULTS = {
    "a path as name": ("file_name=target / 'x'", "whose file_name is PosixPath(", "not a text"),
    "no precision": ("precision=None", "whose precision is None, not a text", ""),
    "one name as files": ("files='x'", "whose files is 'x', not a tuple of names", ""),
    "paths as files": ("files=(target / 'x',)", "whose files is (PosixPath(", "a tuple of names"),
    "nothing it refers to": ("refers_to=None", "whose refers_to is None, not a tuple of", ""),
    "no configuration": ("config=None", "whose config is no plain JSON object", ""),
    "numpy's numbers": ("config={'a': np.float32(1)}", "whose config is no plain JSON", "float32"),
    "no number": ("config={'a': [np.nan]}", "whose config is no plain JSON", ""),
    "half a character": ("config={'a': chr(0xd800)}", "whose config is no plain JSON", ""),
    "a list of versions": ("versions=['numpy']", "whose versions is no plain JSON object", ""),
}


@pytest.mark.parametrize("fault", ARTIFACT_FAULTS)
def test_an_artifact_with_a_wrong_field_names_the_backend(
    site: Site, minilm: object, fault: str
) -> None:
    field, *reasons = ARTIFACT_FAULTS[fault]
    source = SOUND.replace('SOURCE = "name"', "") + (
        "\n@core.hookimpl\ndef export(source, target, options):\n"
        "    (target / 'x').write_text('x')\n"
        f"    return core.Artifact(**{{'file_name': 'x', **dict({field})}}, root=target)\n"
    )
    site.install("acme-bad", source, backend="bad")
    with pytest.raises(PluginError) as caught:
        core.export(str(minilm), site.root / "out", backend="bad")
    assert str(caught.value).startswith(f"export of {BACKEND} returned an Artifact {reasons[0]}")
    assert reasons[1] in str(caught.value)
    assert not (site.root / "out").exists()


YIELD = "    return (yield)"
WRAPPER_FAULTS = {
    "raises before": ("    raise KeyError('before')\n    yield", "failed with KeyError: 'before'"),
    "raises after": ("    yield\n    raise KeyError('after')", "failed with KeyError: 'after'"),
    "forgets to return": ("    result = yield", "returned nothing"),
    "cuts rows": ("    return (yield)[:1]", "returned shape [1, 4] for 2 texts"),
    "turns to list": ("    return list((yield))", "returned list, not a numpy array"),
    "never yields": ("    return\n    yield", "did not yield"),
    "yields twice": ("    yield\n    yield", "yielded twice"),
    "exits": ("    yield\n    raise SystemExit(1)", "failed with SystemExit: 1"),
}


@pytest.mark.parametrize("fault", WRAPPER_FAULTS)
def test_a_bad_wrapper_is_the_only_one_named(site: Site, fault: str) -> None:
    body, reason = WRAPPER_FAULTS[fault]
    site.install("acme-sound", SOUND, backend="bad")
    site.install("acme-a", WRAPPER, plugin="aa")
    site.install("acme-culprit", WRAPPER.replace(YIELD, body), plugin="mm", version="7")
    site.install("acme-z", WRAPPER, plugin="zz")
    model = core.load("x", backend="bad")
    with pytest.raises(PluginError) as caught:
        model.encode(["four", "fives"])
    assert str(caught.value).startswith("encode of plugin 'mm' of distribution acme-culprit 7 ")
    assert reason in str(caught.value)
    assert "acme-sound" not in str(caught.value)
    assert "acme-z" not in str(caught.value)


def test_a_wrapper_that_swallows_an_error_is_named(site: Site) -> None:
    site.install("acme-bad", returning("1 / 0"), backend="bad")
    swallow = "    try:\n        return (yield)\n    except Exception:\n        pass"
    site.install("acme-culprit", WRAPPER.replace(YIELD, swallow), plugin="mm")
    with pytest.raises(PluginError, match=r"of plugin 'mm' of distribution acme-culprit 1.0 retur"):
        core.load("x", backend="bad").encode(["a"])


def test_a_wrapper_that_replaces_an_error_is_named_and_keeps_the_cause(site: Site) -> None:
    site.install("acme-bad", returning("1 / 0"), backend="bad")
    replace = (
        "    try:\n        return (yield)\n"
        "    except Exception as error:\n        raise LookupError('mine') from error"
    )
    site.install("acme-culprit", WRAPPER.replace(YIELD, replace), plugin="mm")
    with pytest.raises(PluginError, match=r"'mm'.*LookupError: mine") as caught:
        core.load("x", backend="bad").encode(["a"])
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__cause__.__cause__, ZeroDivisionError)


def test_a_backend_that_cannot_do_something_says_what_it_can(site: Site) -> None:
    site.install("acme-sound", SOUND, backend="sound")
    model = core.load("x", backend="sound")
    with pytest.raises(core.UnsupportedOperation, match=r"does not implement save. It.*load, enc"):
        model.save(site.root / "out")
    with pytest.raises(OptionError, match="model_kwargs of the sound backend does not take 'dtyp'"):
        core.load("x", backend="sound", model_kwargs={"dtyp": 1})
    with pytest.raises(OptionError, match="named by a string, not 3"):
        core.load(3, backend="sound")  # type: ignore[arg-type]


ORDERED = """
import core
seen = []

@core.hookimpl(wrapper=True{flags})
def encode(texts):
    import acme_log
    acme_log.calls.append("{name} in")
    result = yield
    acme_log.calls.append("{name} out")
    return result
"""


def test_wrappers_run_once_in_the_order_of_their_names(site: Site) -> None:
    site.install("acme-log", "calls = []")
    site.install("acme-sound", SOUND, backend="sound")
    for name in ("b", "c", "a"):
        site.install(f"acme-{name}", ORDERED.format(name=name, flags=""), plugin=name)
    first = ORDERED.format(name="first", flags=", tryfirst=True")
    site.install("acme-first", first, plugin="z-first")
    import acme_log  # type: ignore[import-not-found]

    model = core.load("x", backend="sound")
    around = ["first in", "a in", "b in", "c in", "c out", "b out", "a out", "first out"]
    calls: list[Callable[[], Any]] = [
        lambda: model.encode("one"),
        lambda: core.hooks("sound").encode(model=model, texts=["one"]),
        lambda: model.encode_query(["one"]),
        lambda: list(model.encode_stream(["one"])),
    ]
    for call in calls:
        acme_log.calls.clear()
        call()
        assert acme_log.calls == around
    status = core.backends()["sound"]
    assert status.calls["encode"] == ("z-first", "a", "b", "c", "sound")
    acme_log.calls.clear()
    core.hooks("sound").unwrapped.encode(model, ["one"])
    assert acme_log.calls == []


PARTIAL = """
import numpy as np
import core

@core.hookimpl(tryfirst=True)
def encode(model, texts, options):
    unknown = [text for text in texts if text != "known"]
    if len(unknown) == len(texts):
        return None
    result = np.full((len(texts), 4), 7, np.float32)
    if unknown:
        rows = model.hooks.unwrapped.raw_encode(model, unknown, options)
        result[[i for i, text in enumerate(texts) if text != "known"]] = rows
    return result
"""


def test_a_plugin_answers_a_part_and_leaves_the_rest_to_the_backend(site: Site) -> None:
    counted = SOUND.replace("    rows = ", "    asked.append(list(texts))\n    rows = ")
    module = site.install("acme-counted", counted + "\nasked = []\n", backend="counted")
    site.install("acme-partial", PARTIAL, plugin="partial")
    model = core.load("x", backend="counted")
    rows = model.encode(["a", "known", "four"])
    assert rows[:, 0].tolist() == [1, 7, 4]
    assert model.encode(["known"])[:, 0].tolist() == [7]
    assert model.encode(["b"])[:, 0].tolist() == [1]
    assert __import__(module).asked == [["a", "four"], ["b"]]


def test_tracing_prints_each_call_with_every_share(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORE_TRACE_HOOKS", "1")
    site.install("acme-sound", SOUND + "\nMODEL_KWARGS = ('key',)\n", backend="sound")
    site.install("acme-around", WRAPPER, plugin="around")
    model = core.load("x", backend="sound", model_kwargs={"key": "secret"})
    model.encode(["private text", "b"])
    lines = capsys.readouterr().err.splitlines()
    starts = [
        "[core] load on sound: source=x, options=LoadOptions(model_kwargs={key})",
        "[core]   backend 'sound' of distribution acme-sound 1.0: ",
        "[core] load on sound: ",
        "[core] encode on sound: model=<EmbeddingModel 'x' on sound",
        "[core]   backend 'sound' of distribution acme-sound 1.0: ",
        "[core]   plugin 'around' of distribution acme-around 1.0: ",
        "[core] encode on sound: ",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start), line
    assert "texts=2 texts" in lines[3]
    assert lines[5].endswith(" ms around it")
    assert lines[6].endswith(" ms, float32 [2, 4]")
    assert not any("secret" in line or "private" in line for line in lines)
    monkeypatch.delenv("CORE_TRACE_HOOKS")


def test_tracing_shows_a_failure(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORE_TRACE_HOOKS", "1")
    site.install("acme-bad", returning("1 / 0"), backend="bad")
    site.install("acme-around", WRAPPER, plugin="around")
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        core.load("x", backend="bad").encode("a")
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("raised ZeroDivisionError('division by zero')")
    )


#: Loads the weights of a checkpoint in a way of its own, and saves nothing.
FORGETFUL = """
import numpy as np
import core

SPEC_VERSION = 1
FILE_NAMES = ("model.safetensors",)


@core.hookimpl
def load(source, options):
    source.path(options.file_name)
    return core.EmbeddingModel(source, None, dimension=4)


@core.hookimpl
def encode(model, texts, options):
    return np.ones((len(texts), 4), dtype=np.float32)


@core.hookimpl
def save(model, target, options):
    return target
"""


def test_a_save_hook_that_writes_no_weights_is_named_and_nothing_is_left(
    site: Site, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    site.install("acme-bad", FORGETFUL, backend="bad")
    model = core.load(tiny_model("bert-mean"), backend="bad")
    options = core.SaveOptions(keep_source=False)
    with pytest.raises(
        PluginError, match=r"did not write model.safetensors.*copy_weights"
    ) as raised:
        core.hooks("bad").save(model=model, target=tmp_path / "saved", options=options)
    assert str(raised.value).startswith(f"save of {BACKEND} ")
    assert list(tmp_path.glob("saved*")) == []
    # What is copied for it needs no hook.
    assert core.hooks("bad").save(model=model, target=tmp_path / "saved").is_dir()
