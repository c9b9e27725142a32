"""What a backend must offer so that others can name it in EXPORTS_FROM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import core
from core.plugin.plugin import BACKEND_GROUP
from core.plugin.registry import registry
from core.testing import BackendConformance, tiny_model
from core.toolkit import open_source


class Untraceable(core.Runtime):
    """Embeds a token as its id."""

    def token_embeddings(self, batch: core.TokenBatch, *, workers: int = 1) -> Any:
        width = self.architecture.hidden_size
        return np.repeat(batch.input_ids[:, :, None], width, axis=2).astype(np.float32)


class Traceable(Untraceable):
    input_names = ("input_ids",)

    @contextmanager
    def traceable(self, source: core.Checkpoint, wanted: str) -> Iterator[tuple[Any, Any]]:
        yield f"module for {wanted}", (np.zeros((2, 16), np.int64),)


def plugin(runtime: type[core.Runtime], **attributes: Any) -> ModuleType:
    """A backend that computes with a runtime."""

    @core.hookimpl
    def load(source: core.Checkpoint, options: core.LoadOptions) -> core.Model:
        return core.build_model(source, options, lambda s, architecture, o: runtime(architecture))

    @core.hookimpl
    def encode(model: core.Model, texts: list[str], options: core.EncodeOptions) -> Any:
        return core.encode_texts(model, texts, options)

    made = ModuleType("made_here")
    made.__dict__.update(SPEC_VERSION=1, load=load, encode=encode, **attributes)
    return made


@core.hookimpl
def export(source: core.Checkpoint, target: Path, options: core.ExportOptions) -> core.Artifact:
    with (
        open_source(source, options, "lines", "origin") as model,
        model.runtime.traceable(source, "lines") as (module, example),
    ):
        written = [module, str(len(example)), *model.runtime.input_names]
    (target / "model.lines").write_text("\n".join(written))
    return core.Artifact(root=target, file_name="model.lines", files=(), precision="fp32")


@contextmanager
def registered(origin: type[core.Runtime]) -> Iterator[None]:
    names = {"FILES": {"model.lines": ()}, "FILE_NAMES": ("model.lines",)}
    core.register_backend("origin", plugin(origin, FILE_NAMES=("model.safetensors",)))
    lines = plugin(Untraceable, export=export, EXPORTS_FROM="origin", **names)
    core.register_backend("lines", lines)
    try:
        yield
    finally:
        for name in ("origin", "lines"):
            registry.unregister(BACKEND_GROUP, name)


def test_any_backend_that_can_be_traced_may_be_exported_from(tmp_path: Path) -> None:
    with registered(Traceable):
        artifact = core.export(tiny_model(tmp_path / "model"), backend="lines")
    assert artifact.path.read_text().splitlines() == ["module for lines", "1", "input_ids"]
    assert artifact.verification is not None
    assert artifact.verification.min_cosine > 0.9999


def test_a_backend_that_cannot_be_traced_is_named(tmp_path: Path) -> None:
    with (
        registered(Untraceable),
        pytest.raises(core.UnsupportedOperation, match="origin backend opens a runtime without"),
    ):
        core.export(tiny_model(tmp_path / "model"), backend="lines")


def test_the_suite_knows_files_that_a_backend_loads_in_the_place_of_its_own() -> None:
    own = {"FILES": {"model.lines": ()}, "FILE_NAMES": ("model.lines",)}
    core.register_backend(
        "lines", plugin(Untraceable, FALLBACK_NAMES=("model.safetensors",), **own)
    )

    class Suite(BackendConformance):
        backend = "lines"
        model = tiny_model()

    try:
        assert Suite.shared().file_name == "model.safetensors"
        Suite().test_the_model_says_what_it_is()
        Suite.teardown_class()
    finally:
        registry.unregister(BACKEND_GROUP, "lines")
