"""Saving and pickling: a model elsewhere, or later, is the same model."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import core
from core.plugin.plugin import PLUGIN_GROUP
from core.plugin.registry import registry
from core.testing.subject import TEXTS, Subject


class _Listing:
    """A wrapping plugin that notes which files the `save` hook adds."""

    def __init__(self) -> None:
        self.added: set[str] = set()

    @core.hookimpl(wrapper=True)
    def save(self, target: Path) -> Any:
        before = _files(target)
        result = yield
        self.added = _files(target) - before
        return result


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    stats = {name: (folder / name).stat() for name in _files(folder)}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


@contextmanager
def _listing() -> Iterator[_Listing]:
    plugin = _Listing()
    core.register_plugin("conformance_listing", plugin)
    try:
        yield plugin
    finally:
        registry.unregister(PLUGIN_GROUP, "conformance_listing")


class SavingContract(Subject):
    """What `save` writes and what pickling stores loads again."""

    def test_a_saved_model_loads_and_embeds_the_same(self, tmp_path: Path) -> None:
        """`save` writes a directory that `core.load` takes with the same backend."""
        implemented = "save" in core.hooks(self.backend).implemented
        assert implemented != self.lacking("save"), (
            "it implements save and declares that it lacks it"
            if implemented
            else "it does not implement save: do so, or declare lacks = {'save'}"
        )
        if implemented:
            path = self.shared().save(tmp_path / "saved")
            self._assert_loads(path)

    def test_save_writes_the_weights_itself(self, tmp_path: Path) -> None:
        """What it was loaded from may be gone, and nothing of it is kept: the hook writes all that
        the configuration lacks."""
        if self.lacking("save"):
            return
        self.shared()
        with _listing() as listing, self._from_a_copy(tmp_path / "copy") as model:
            core.hooks(self.backend).save(
                model, tmp_path / "saved", core.SaveOptions(keep_source=False)
            )
            static = bool(model.source.names) and model.source.architecture.is_static
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        # The table of static embeddings is core's to keep.
        assert static or listing.added, "save wrote no file: write the weights to target"
        self._assert_loads(tmp_path / "saved")

    def test_no_call_changes_the_files_it_was_loaded_from(self, tmp_path: Path) -> None:
        """They may be read-only, or those of many processes."""
        if self.lacking("save") or not self.shared().source.names:
            return  # there is no directory of its own
        folder = self.shared().save(tmp_path / "copy")
        before = _stamps(folder)
        with core.load(folder, **{**self.load_arguments, "backend": self.backend}) as model:
            model.encode(list(TEXTS))
            model.save(tmp_path / "saved")
        after = _stamps(folder)
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        assert not changed, f"load, encode or save has written or removed {', '.join(changed)}"

    @contextmanager
    def _from_a_copy(self, folder: Path) -> Iterator[core.EmbeddingModel]:
        """The model loaded from a directory of its own; itself where it has no files."""
        if not self.shared().source.names:
            with self.load() as model:
                yield model
            return
        arguments = {**self.load_arguments, "backend": self.backend}
        # Saved rather than copied: a copy would have to be exported again.
        with core.load(self.shared().save(folder), **arguments) as model:
            yield model

    def _assert_loads(self, path: Path) -> None:
        arguments = {**self.load_arguments, "backend": self.backend}
        with core.load(path, **arguments) as again:
            self.assert_close(again.encode(list(TEXTS)), self.rows())

    def test_a_pickled_model_embeds_the_same(self) -> None:
        """Pickling stores how to load it again; prompts and truncation go with it."""
        model = self.load()
        model.prompts["conformance"] = "query: "
        model.truncate_dim = max(1, model.full_dimension // 2)
        expected = model.encode(list(TEXTS), prompt_name="conformance")
        with pickle.loads(pickle.dumps(model)) as again:
            self.assert_close(again.encode(list(TEXTS), prompt_name="conformance"), expected)
        model.close()
