"""Files appear whole or not at all: staging beside the target, fsync, one exchange.

A finished directory takes the place of an old one in a single step of the kernel
(`renameat2(RENAME_EXCHANGE)` on Linux, `renamex_np(RENAME_SWAP)` on macOS). File systems without
it get two renames: a process killed between them leaves the old directory beside the target as
`.<name>.core-previous`, and the next save or load puts it back.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.errors import CoreError, PluginError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger("core")

STAGING_PREFIX = ".core-staging-"

_PREVIOUS_SUFFIX = ".core-previous"

#: Bytes; a disk that has no room for as many is full.
_A_LITTLE = 1 << 20

_AT_FDCWD = -100

_RENAME_EXCHANGE = 2

#: Of a chain of modules, its list and the transformer's own configuration.
_WITHOUT_WHICH_NO_MODEL = ("modules.json", "adapter_config.json", "config.json")

# EXDEV: overlayfs, for a directory of a lower layer.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV)


@contextmanager
def staging_directory(target: Path, *, inside: bool = False) -> Iterator[Path]:
    """An empty directory on the file system of `target`, gone afterwards.

    It lies beside the target, so that they can be exchanged; inside it where that is not possible
    (a mount point, a parent that is read-only). What killed processes left there is removed.

    Args:
        inside: They are not to be exchanged, so it lies inside.

    Raises:
        CoreError: Nothing can be written there, at first or while it is filled.
    """
    with explained_writes(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        parent = target if inside or not is_exchangeable(target) else target.parent
        with locked_directory(parent):
            _remove_abandoned(parent)
            outer = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=parent))
            in_use = _try_lock(outer)
    try:
        with explained_writes(target), _as_the_system_says(outer):
            inner = outer / "tree"
            inner.mkdir()  # with the permissions a new directory gets, which mkdtemp's has not
            yield inner
    finally:
        if in_use is not None:
            os.close(in_use)
        shutil.rmtree(outer, ignore_errors=True)


def is_exchangeable(target: Path) -> bool:
    """Whether another directory can be put in the place of `target` in one step."""
    if not target.exists():
        return True
    same_disk = target.stat().st_dev == target.parent.stat().st_dev
    alone = same_disk and not os.path.ismount(target) and os.access(target.parent, os.W_OK)
    # What is mounted inside would go away with the old directory, and be removed with it.
    return alone and not _mounts_inside(target)


def _mounts_inside(folder: Path) -> list[Path]:
    """Directories in a directory that are on other file systems."""
    found, device = [], folder.stat().st_dev
    for place, names, _ in os.walk(folder):
        for name in list(names):
            path = Path(place, name)
            with suppress(OSError):  # it is gone
                if not path.is_symlink() and path.stat().st_dev != device:
                    found.append(path)
                    names.remove(name)
    return found


def put_in_place(
    tree: Path, target: Path, obsolete: Callable[[str], bool] = lambda name: False
) -> None:
    """Make `tree` the directory `target`; afterwards `tree` is the old one, or gone.

    Where they cannot be exchanged, files are renamed one by one, data before what refers to them,
    and what `tree` lacks stays, unless `obsolete` says of its name that it goes.
    """
    sync_tree(tree)
    if target.is_dir():
        tree.chmod(stat.S_IMODE(target.stat().st_mode))
    inside = _relative_cwd(target)
    if not is_exchangeable(target):
        _replace_file_by_file(tree, target, obsolete)
    elif not target.exists() or not any(target.iterdir()):
        if sys.platform == "win32" and target.exists():  # nothing is renamed to what is there
            target.rmdir()
        tree.rename(target)
    elif not _exchange(tree, target):
        _replace_in_two_steps(tree, target, obsolete)
    sync_directory(target.parent)
    if inside is not None:  # the working directory is the one that was replaced
        with suppress(OSError):
            os.chdir(target / inside)
            logger.warning(
                "%s is the working directory and was replaced as a whole. A shell or a program "
                "that stands there sees the old one, which is gone: `cd .` leads to the new one.",
                target,
            )


def replace_files(tree: Path, target: Path, order: tuple[str, ...] = ()) -> None:
    """Rename every file of `tree` into `target`, those of `order` last, in that order.

    Without an order, what makes a directory a model comes last: a process that is killed leaves
    no part of a model that could be taken for the whole.
    """
    names = sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file())
    last = order or (*(n for n in names if n.endswith("/config.json")), *_WITHOUT_WHICH_NO_MODEL)
    first = [name for name in names if name not in last]
    for name in (*first, *(name for name in last if name in names)):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (tree / name).replace(place)
        sync_directory(place.parent)


def link_missing(
    old: Path, new: Path, leave_out: Callable[[str], bool] = lambda name: False
) -> None:
    """Put the files of `old` that `new` lacks into `new`, as hard links where that is possible.

    `leave_out` says of a name, relative and with forward slashes, that it stays behind.
    """
    if not old.is_dir():
        return
    for name, path in _entries(old):
        place = new / name
        if os.path.lexists(place) or leave_out(name):
            continue
        if path.is_dir() and not path.is_symlink():
            place.mkdir(parents=True, exist_ok=True)  # .git needs its empty directories
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place, follow_symlinks=False)
        except OSError:
            shutil.copyfile(path, place, follow_symlinks=False)


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of what lies in a directory, without what is mounted there."""
    mounted = _mounts_inside(folder)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if ".core-" not in name and not any(path.is_relative_to(place) for place in mounted):
            yield name, path


def copy_file(source: Path, place: Path) -> None:
    """Copy a file's content to `place`, whose folder is created if necessary."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)


def recover(target: Path) -> None:
    """Finish or undo a replacement in two steps that was killed between them."""
    previous = _previous(target) if target.name else None
    if previous is None or not _is_directory(previous):
        return
    with locked_directory(target.parent):
        if not target.exists():
            with suppress(OSError):  # another process was faster, or this one may not write
                previous.rename(target)
        else:
            shutil.rmtree(previous, ignore_errors=True)


def recover_inside(folder: Path) -> None:
    """`recover` for everything that lies in a directory."""
    for previous in folder.glob(_previous(Path("*")).name):
        recover(folder / previous.name[1 : -len(_PREVIOUS_SUFFIX)])


def sync_tree(tree: Path) -> None:
    """Force every file and directory under `tree` to the disk."""
    for folder, _, files in os.walk(tree):
        for name in files:
            _sync_file(Path(folder, name))
        sync_directory(Path(folder))


def _sync_file(path: Path) -> None:
    # Windows forces to the disk what is open for writing, and nothing else.
    with path.open("r+b" if sys.platform == "win32" else "rb") as file:
        os.fsync(file.fileno())


def sync_directory(folder: Path) -> None:
    """Force a directory's entries to the disk, where the system can."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock_if_free(folder: Path) -> Iterator[bool]:
    """Hold a directory's lock; False, without waiting, where another process has it."""
    try:
        descriptor = _try_lock(folder)
    except OSError:  # it is gone, or cannot be opened
        yield False
        return
    try:
        yield descriptor is not None or sys.platform == "win32"
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def locked_directory(folder: Path) -> Iterator[None]:
    """One process at a time, without leaving a lock file: the directory itself is locked.

    Where directories cannot be locked this does nothing: an exchange is safe without it, and the
    last of several savers wins.
    """
    descriptor = None
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def explained_writes(target: Path, advice: str = "") -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what to do.

    Args:
        advice: A sentence on how to write elsewhere, where that is not the caller's argument.
    """
    try:
        yield
    except (OSError, CoreError) as error:
        # A hook that fails to write arrives wrapped.
        cause = error.__cause__ if isinstance(error, PluginError) else error
        if not isinstance(cause, OSError):
            raise
        if not _concerns(cause, target):
            if isinstance(error, CoreError):
                raise
            raise CoreError(f"Cannot read what goes to {target}: {error}.") from error
        if cause.errno not in _REASONS:
            if isinstance(error, CoreError):
                raise
            raise CoreError(f"Cannot write {target}: {error}. Nothing was changed.") from error
        reason = " ".join((_REASONS[cause.errno].format(place=target.parent), advice)).strip()
        raise CoreError(f"Cannot write {target}: {reason} Nothing was changed.") from error


@contextmanager
def _as_the_system_says(place: Path) -> Iterator[None]:
    """Raise the system's own refusal where a runtime could not write to `place`: it may call that
    a failed serialization, or a model that cannot be traced."""
    try:
        yield
    except (CoreError, OSError) as error:
        refusal = _refusal(place) if _may_be_refused(error) else None
        if refusal is None:
            raise
        raise refusal from error


def _may_be_refused(error: BaseException) -> bool:
    """Whether a plugin failed, or anything for a refusal to write, which numpy gives no number."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PluginError):
            return True
        if isinstance(cause, OSError) and cause.errno in (None, *_ONLY_WRITING):
            return True
        cause = cause.__cause__
    return False


def _refusal(place: Path) -> OSError | None:
    """Why nothing more can be written to a directory; None where it can."""
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_A_LITTLE))
            file.flush()
    except OSError as error:
        return error if error.errno in _ONLY_WRITING else None
    return None


_ONLY_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _concerns(error: OSError, target: Path) -> bool:
    """Whether the system refused something at the target, and not at a file that was read."""
    if error.errno in _ONLY_WRITING or not isinstance(error.filename, str | bytes):
        return True
    path = Path(os.fsdecode(error.filename)).absolute()
    places = {target.absolute(), target.resolve()}
    return any(part.startswith(STAGING_PREFIX) for part in path.parts) or any(
        path.is_relative_to(place) or place.is_relative_to(path) for place in places
    )


_REASONS = {
    errno.ENOSPC: "the disk is full. Free space on the file system of {place}.",
    errno.EDQUOT: "the disk quota is used up. Free space on the file system of {place}.",
    errno.EFBIG: "a file would be larger than allowed here (see `ulimit -f`).",
    errno.EROFS: "the file system is read-only. Choose another directory.",
    errno.EACCES: "no permission. Choose a directory you may write to, or change {place}'s mode.",
    errno.EPERM: "not permitted. Choose a directory you may write to.",
    errno.ENOTDIR: "a part of the path is a file. Choose another path.",
    errno.EEXIST: "a file is in the way. Choose another path.",
    errno.ENAMETOOLONG: "the path is too long. Choose a shorter one.",
}


def _exchange(tree: Path, target: Path) -> bool:
    """Swap two directories in one step; False where the system cannot."""
    libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform != "win32" else None
    first, second = os.fsencode(tree), os.fsencode(target)
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE)
    elif hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(first, second, _RENAME_EXCHANGE)
    else:
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(target))


def _replace_file_by_file(tree: Path, target: Path, obsolete: Callable[[str], bool]) -> None:
    goes = [
        path
        for name, path in _entries(target)
        if obsolete(name)
        and (path.is_symlink() or not path.is_dir())
        and not os.path.lexists(tree / name)
    ]
    replace_files(tree, target)
    for path in goes:
        path.unlink()


def _replace_in_two_steps(tree: Path, target: Path, obsolete: Callable[[str], bool]) -> None:
    previous = _previous(target)
    shutil.rmtree(previous, ignore_errors=True)
    try:
        target.rename(previous)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _replace_file_by_file(tree, target, obsolete)
        return
    try:
        tree.rename(target)
    except BaseException:
        previous.rename(target)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}{_PREVIOUS_SUFFIX}")


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # where nobody may look, or of a name that is too long to be there
        return False


def _relative_cwd(target: Path) -> Path | None:
    try:
        return Path.cwd().relative_to(target.resolve())
    except (OSError, ValueError):
        return None


def _try_lock(folder: Path) -> int | None:
    """A descriptor holding the folder's lock, or None when another process has it."""
    descriptor = None
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            descriptor = None
    return descriptor


def _remove_abandoned(parent: Path) -> None:
    """Remove staging directories whose processes are gone: nobody holds their lock."""
    for folder in parent.glob(f"{STAGING_PREFIX}*"):
        try:
            descriptor = _try_lock(folder)
        except OSError:
            continue
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
