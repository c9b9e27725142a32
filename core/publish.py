"""Where finished files go: a model's directory, an artifact beside it, the cache."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from core.artifact import SIDECAR_SUFFIX, Artifact
from core.cache import artifact_folder
from core.capabilities import Capabilities
from core.checkpoint import MODEL_MARKERS, Checkpoint, LocalFiles
from core.dialect import ModelSettings, write_configuration
from core.errors import CoreError, OptionError
from core.file_choice import is_file_of
from core.model import EmbeddingModel
from core.model_card import model_card
from core.options import SaveOptions
from core.staging import (
    explained_writes,
    is_exchangeable,
    locked_directory,
    put_in_place,
    recover,
    recover_inside,
    replace_files,
    staging_directory,
    sync_tree,
)

#: What holds weights or a compiled model, in any framework's format.
_WEIGHTS = re.compile(
    r".*\.(safetensors|bin|onnx|onnx[_.]data|xml|pt|pth|ckpt|h5|msgpack|ot|tflite|gguf|npz"
    r"|index\.json|mlmodel|mlpackage)(\.json)?"
)
#: Formats none of sentence-transformers' or our backends reads; a Hub repository's are left there.
_FOREIGN = re.compile(r".*(\.h5|\.msgpack|\.ot|\.tflite|\.gguf|\.mlmodel)|.*\.mlpackage/.*")


def destination_of(source: Checkpoint, target: str | os.PathLike[str] | None) -> Path:
    """The directory an artifact goes to: as given, the model's own, or the cache."""
    if target is not None:
        return Path(os.fspath(target)).expanduser()
    return source.directory or artifact_folder(source)


def check_overwritten(
    artifact: Artifact, destination: Path, capabilities: Capabilities, made_from: Sequence[str]
) -> None:
    """Refuse an artifact in the place of what it was made from, or of no file of its backend.

    Raises:
        OptionError: `file_name` or `file_suffix` names such a place.
    """
    name, *beside = artifact.all_files
    taken = [n for n in (name, *beside) if (destination / n).exists()]
    foreign = name in taken and not is_file_of(name, capabilities)
    # Weights beside a file that is not there belong to something else.
    foreign = foreign or (bool(taken) and name not in taken)
    if foreign or set(taken) & set(made_from):
        raise OptionError(
            f"Writing {name} to {str(destination)!r} would overwrite {', '.join(taken)}, which is "
            f"no earlier {artifact.operation} of the {artifact.backend} backend. Choose another "
            "file_name or file_suffix, or another target. Nothing was changed."
        )


def publish_artifact(artifact: Artifact, source: Checkpoint, destination: Path) -> None:
    """Move an artifact and its sidecar from staging into `destination`.

    An artifact with a folder of its own appears in one step, as a new version of that folder.
    Other places get its data first and the file that names it last. A directory that holds no
    model yet also gets the configuration and tokenizer it needs to load on its own.

    Raises:
        CoreError: Nothing can be written there; what was there is unchanged.
    """
    sidecar = artifact.file_name + SIDECAR_SUFFIX
    names = (*artifact.all_files, sidecar)
    with explained_writes(destination):
        destination.mkdir(parents=True, exist_ok=True)
        recover_inside(destination)
        if not any((destination / marker).is_file() for marker in MODEL_MARKERS):
            _complete(source, destination, artifact)
        tree = _only(artifact.root, names)
        folder = artifact.file_name.rpartition("/")[0]
        own_folder = bool(folder) and all(name.startswith(f"{folder}/") for name in names)
        place = destination / folder
        with locked_directory(destination):
            if own_folder and is_exchangeable(place) and not place.is_symlink():
                _link_missing(place, tree / folder)
                put_in_place(tree / folder, place)
                return
            sync_tree(tree)
            # In case of a crash in between: no description is better than that of another file.
            (destination / sidecar).unlink(missing_ok=True)
            replace_files(tree, destination, order=(artifact.file_name, sidecar))


def save_model(
    model: EmbeddingModel,
    directory: Path,
    options: SaveOptions,
    write: Callable[[Path], None],
) -> Path:
    """Stage a whole model directory and put it in the place of `directory` in one step.

    Files of an existing directory that the model does not bring stay, unless they are weights of
    another model. `write` adds the backend's own files.

    Raises:
        CoreError: Nothing can be written there; what was there is unchanged.
    """
    with explained_writes(directory):
        target = directory.resolve()
        if target.exists() and not target.is_dir():
            raise OptionError(f"{str(directory)!r} is a file; a model is saved to a directory.")
        recover(target)
        with staging_directory(target) as tree:
            stage_model(model, tree, target.name, options, write, existing=target)
            with locked_directory(target.parent):
                put_in_place(tree, target)
        return directory


def stage_model(
    model: EmbeddingModel,
    tree: Path,
    name: str,
    options: SaveOptions,
    write: Callable[[Path], None],
    existing: Path | None = None,
) -> None:
    """Write the whole model directory into `tree`; `name` is what its card calls it."""
    source = model.source
    names = _names_to_keep(source, options)
    _check_space(source, names, tree)
    for file in names:
        place = tree / file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path(file), place)
    write(tree)
    if source.names:
        write_configuration(tree, source, ModelSettings.of(model))
        _write_tokenizer(tree, model)
    if existing is not None and existing.is_dir():
        _link_missing(existing, tree, only_extras=not _same_model(existing, tree))
    card = tree / "README.md"
    if not card.exists():
        card.write_text(model_card(model, name), encoding="utf-8")


def _names_to_keep(source: Checkpoint, options: SaveOptions) -> list[str]:
    if not options.keep_source:
        return configuration_names(source)
    if isinstance(source.files, LocalFiles) or source.repo_id is None:
        return list(source.names)
    return [name for name in source.names if not _FOREIGN.fullmatch(name)]


def configuration_names(source: Checkpoint) -> list[str]:
    """What a directory needs beside a backend's file: configuration, tokenizer, small modules."""
    architecture = source.architecture
    if architecture.is_static:
        return [n for n in source.names if not n.endswith((".onnx", ".xml"))]
    folders = [f"{folder}/" for _, folder in architecture.entries[1:] if folder]
    beside = architecture.file("")
    kept = []
    for name in source.names:
        in_module = any(name.startswith(folder) for folder in folders)
        at_top = "/" not in name or "/" not in name.removeprefix(beside)
        if in_module or (at_top and not _WEIGHTS.fullmatch(name)):
            kept.append(name)
    return kept


def _complete(source: Checkpoint, destination: Path, artifact: Artifact) -> None:
    if not source.names or destination == source.directory:
        return
    tree = artifact.root.parent / "configuration"
    names = [n for n in configuration_names(source) if not n.startswith(".") and n != "README.md"]
    for name in names:
        place = tree / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path(name), place)
    write_configuration(tree, source, ModelSettings.of(source.architecture))
    for path in [p for p in tree.rglob("*") if p.is_file()]:
        if (destination / path.relative_to(tree)).exists():
            path.unlink()  # what is there stays
    sync_tree(tree)
    replace_files(tree, destination)


def _write_tokenizer(tree: Path, model: EmbeddingModel) -> None:
    """Older models have vocabulary files only; with tokenizer.json they load without torch."""
    place = tree / "tokenizer.json"
    architecture = model.source.architecture
    if architecture.is_static or place.exists() or model._tokenizer is None:
        return
    import tokenizers

    copy = tokenizers.Tokenizer.from_str(model.tokenizer.backend.to_str())
    copy.no_truncation()
    copy.save(str(place))


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
    old, new = (
        {name for name in LocalFiles(folder).names() if _WEIGHTS.fullmatch(name)}
        for folder in (existing, tree)
    )
    if old & new:
        return any(filecmp.cmp(existing / n, tree / n, shallow=False) for n in old & new)
    return not old


def _link_missing(old: Path, new: Path, *, only_extras: bool = False) -> None:
    """Files of `old` that `new` lacks, as hard links; with `only_extras` none of a model's."""
    if not old.is_dir():
        return
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old).as_posix()
        place = new / name
        if ".core-" in name or os.path.lexists(place):
            continue
        if only_extras and _belongs_to_model(name):
            continue
        if path.is_dir() and not path.is_symlink():
            place.mkdir(parents=True, exist_ok=True)  # .git needs its empty directories
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place, follow_symlinks=False)
        except OSError:
            shutil.copyfile(path, place, follow_symlinks=False)


def _belongs_to_model(name: str) -> bool:
    return (
        _WEIGHTS.fullmatch(name) is not None
        or name.endswith((".json", ".model", "vocab.txt", "merges.txt"))
        or re.match(r"\d+_\w+(/|$)", name) is not None
    )


def _only(tree: Path, names: tuple[str, ...]) -> Path:
    """A directory with just these files of a staging directory: hooks may leave others."""
    chosen = tree.parent / "chosen"
    for name in names:
        place = chosen / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (tree / name).replace(place)
    return chosen


__all__ = [
    "check_overwritten",
    "configuration_names",
    "destination_of",
    "publish_artifact",
    "save_model",
    "stage_model",
    "staging_directory",
]
