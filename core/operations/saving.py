"""Save: a whole model directory, staged and put in place in one step."""

from __future__ import annotations

import filecmp
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from core.architecture.writing import ModelSettings, write_configuration
from core.artifacts.artifact import SIDECAR_SUFFIX
from core.artifacts.tuned import LOCK_NAME
from core.checkpoint.checkpoint import Checkpoint
from core.errors import CoreError, OptionError
from core.files.files import LocalFiles
from core.files.paths import is_same_file
from core.files.staging import (
    copy_file,
    explained_writes,
    link_missing,
    locked_directory,
    put_in_place,
    recover,
    replace_files,
    staging_directory,
    sync_tree,
)
from core.models.model import Model
from core.operations.model_card import model_card
from core.operations.model_files import (
    configuration_names,
    has_marks,
    holds_model,
    is_foreign,
    is_weights,
    model_parts,
    write_tokenizer,
)
from core.operations.tuned import carry_choice
from core.options import CardData, SaveOptions
from core.plugin.registry import registry

logger = logging.getLogger("core")


def save_model(
    model: Model,
    directory: Path,
    options: SaveOptions,
    write: Callable[[Path], None],
) -> Path:
    """Stage a whole model directory and put it in the place of `directory` in one step.

    Files of an existing model that this one does not bring stay, unless they are another model's
    weights and configuration. A directory that holds something else (a project, a home) is not
    replaced: the model's files are put into it, and nothing else in it is touched. `write` adds
    the backend's own files.

    Raises:
        CoreError: Nothing can be written there; what was there is unchanged.
    """
    with explained_writes(directory):
        target = directory.resolve()
        if target.exists() and not target.is_dir():
            raise OptionError(f"{str(directory)!r} is a file; a model is saved to a directory.")
        recover(target)
        replaced = shared = False
        if target.exists():
            with locked_directory(target.parent):  # no other process exchanges it meanwhile
                replaced = holds_model(target) or model.source.directory == target
                shared = not replaced and any(target.iterdir())
        with staging_directory(target, inside=shared) as tree:
            stage_model(model, tree, target.name, options, write, target if replaced else None)
            with locked_directory(target.parent):
                if shared:
                    _put_beside_others(tree, target)
                else:
                    put_in_place(tree, target, obsolete=model_parts())
        if model.source.directory == target:  # copies of what was loaded
            model.source.list_again(None)
        return directory


def stage_model(
    model: Model,
    tree: Path,
    name: str,
    options: SaveOptions,
    write: Callable[[Path], None],
    replaced: Path | None = None,
) -> None:
    """Write the whole model directory into `tree`; `name` is what its card calls it.

    Args:
        replaced: The directory of the model in whose place it goes.
    """
    source = model.source
    names = [name for name in _names_to_keep(source, options) if name != LOCK_NAME]
    _check_space(source, names, tree)
    missing = [name for name in names if not source.available(name)]
    for file in names:
        if file not in missing:
            copy_file(source.path(file), tree / file)
    if missing:
        logger.warning(
            "%s: saved without %s, which the cache does not have. With a connection, they are "
            "downloaded and saved too.",
            source,
            ", ".join(missing),
        )
    write(tree)
    _copy_sidecar(model, tree)
    if source.names:
        ignored = getattr(model.runtime, "ignored_token", None)
        settings = ModelSettings.of(model)
        write_configuration(tree, source, source.architecture, settings, ignored)
        _write_tokenizer(tree, model)
    if replaced is not None:
        same, is_part = _same_model(replaced, tree), model_parts()
        link_missing(replaced, tree, leave_out=lambda n: not same and is_part(n))
    carry_choice(source, tree)
    card = tree / "README.md"
    if not card.exists():
        data = (options.card or CardData()).named(name)
        card.write_text(model_card(model, data), encoding="utf-8")


def _put_beside_others(tree: Path, target: Path) -> None:
    """Put a model's files into a directory that holds no model; what it has besides stays.

    Raises:
        OptionError: A file there would be lost, or taken for one of the model's.
    """
    is_part = model_parts()
    brought = [p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()]
    there = [name for name in brought if os.path.lexists(target / name)]
    looked_for = {n for _, found in registry.working() for n in found.capabilities.file_names}
    in_the_way = {
        *(n for n in there if n == "config.json" and not is_same_file(target / n, tree / n)),
        *(n for n in there if (target / n).is_dir()),
        *(str(f) for n in brought for f in Path(n).parents if (target / f).is_file()),
        *(n for n in looked_for - set(brought) if (target / n).exists()),
    }
    if in_the_way:
        raise OptionError(
            f"{str(target)!r} holds no model that core knows, but "
            f"{', '.join(sorted(in_the_way))}, in the place of what the model brings or where its "
            "files are looked for. Choose another directory, or remove it. Nothing was changed."
        )
    for name in there:
        if not is_part(name):
            (tree / name).unlink()
    sync_tree(tree)
    replace_files(tree, target)


def _names_to_keep(source: Checkpoint, options: SaveOptions) -> list[str]:
    if not options.keep_source:
        return configuration_names(source)
    if isinstance(source.files, LocalFiles) or source.repo_id is None:
        return list(source.names)
    return [name for name in source.names if not is_foreign(name)]


def _copy_sidecar(model: Model, tree: Path) -> None:
    """The record of what the model's file was made from stays with the file."""
    name = f"{model.file_name}{SIDECAR_SUFFIX}"
    written = model.file_name is not None and (tree / model.file_name).is_file()
    if written and model.source.available(name) and not (tree / name).exists():
        copy_file(model.source.path(name), tree / name)


def _write_tokenizer(tree: Path, model: Model) -> None:
    """Older models have vocabulary files only; with tokenizer.json they load without torch."""
    place = tree / "tokenizer.json"
    architecture = model.source.architecture
    if architecture.is_static or not model.has_tokenizer:
        return
    if has_marks(architecture) or not place.exists():
        write_tokenizer(tree, model.tokenizer)


def _check_space(source: Checkpoint, names: list[str], tree: Path) -> None:
    needed = sum(source.size(name) or 0 for name in names)
    free = shutil.disk_usage(tree).free
    if needed > free:
        raise CoreError(
            f"The disk is full: the model has {needed:,} bytes and {free:,} are free on the file "
            f"system of {tree.parents[1]}. Free space or choose another directory. Nothing was "
            "changed."
        )


def _same_model(existing: Path, tree: Path) -> bool:
    """Whether the weights two directories have in common are the same."""
    is_part = model_parts()
    old, new = (
        {name for name in LocalFiles(folder).names() if is_weights(name) and is_part(name)}
        for folder in (existing, tree)
    )
    if old & new:
        return any(filecmp.cmp(existing / n, tree / n, shallow=False) for n in old & new)
    return not old
