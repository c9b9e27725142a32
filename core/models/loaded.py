"""A loaded model of any kind: its life, its identity and its files."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from core.architecture.kinds import EMBEDDING
from core.arguments import (
    check_flag,
    check_flag_or_none,
    check_keywords,
    check_kind,
    check_path,
    check_path_or_none,
    check_text_or_flag,
    check_text_or_none,
)
from core.artifacts.artifact import Artifact
from core.artifacts.push import check_push, pushed
from core.checkpoint.checkpoint import Checkpoint, source_identity
from core.errors import CoreError, OptionError, UnsupportedOperation
from core.files.staging import copy_file
from core.hub.upload import (
    create_branch,
    create_repository,
    find_repository,
    has_file,
    told_of_creation,
    upload_folder,
)
from core.machine.surroundings import temporary_directory
from core.options import (
    CardData,
    EncodeOptions,
    LoadOptions,
    OptimizeOptions,
    QuantizeOptions,
    SaveOptions,
    check_positive,
    split_options,
)
from core.texts.calibration import read_calibration
from core.tokenizer.beside import end_processes_beside
from core.tokenizer.tokenizer import Tokenizer


class Operations(Protocol):
    """The operations of a model's backend, as `core.hooks(name)` has them."""

    @property
    def name(self) -> str:
        """The backend's name."""
        ...

    @property
    def distribution(self) -> str:
        """Name and version of what installed the backend; "" when registered in code."""
        ...

    @property
    def capabilities(self) -> Any:
        """The backend's `core.Capabilities`."""
        ...

    @property
    def unwrapped(self) -> Operations:
        """The same without wrapping plugins."""
        ...

    def optimize(
        self, model: Any, target: Any = None, options: OptimizeOptions | None = None
    ) -> Artifact: ...

    def quantize(
        self, model: Any, target: Any = None, options: QuantizeOptions | None = None
    ) -> Artifact: ...

    def encode(
        self, model: Any, texts: Sequence[str], options: EncodeOptions | None = None
    ) -> Any: ...

    def raw_encode(self, model: Any, texts: Sequence[str], options: EncodeOptions) -> Any:
        """The checked result of the `encode` hook alone."""
        ...

    def save(self, model: Any, target: Any, options: SaveOptions | None = None) -> Path: ...

    def check_implements(self, hook: str) -> None:
        """Raise `UnsupportedOperation` where the backend lacks a hook."""
        ...

    def check_model(self, hook: str, model: Any) -> None:
        """Raise `OptionError` for a model that a hook cannot take."""
        ...


class Reload(Protocol):
    """Loads a model as it was loaded before: what is pickled in its place."""

    @property
    def options(self) -> LoadOptions:
        """As they were given to the `load` hook."""
        ...

    def changed(self, **options: Any) -> Reload:
        """The same with other values for these fields of `options`."""
        ...

    def of(self, source: Checkpoint) -> Reload:
        """The same files as the checkpoint has them now."""
        ...

    def __call__(self, state: Mapping[str, Any]) -> Any:
        """The model, with what was changed on it after loading."""
        ...


class LoadedModel:
    """A loaded model of any kind.

    Args:
        source: The checkpoint it was loaded from.
        runtime: Whatever the backend's `encode` needs; a `core.Runtime` for the shared engine.
        tokenizer: For the shared engine; None for backends that take text.
        max_seq_length: In tokens; None for the tokenizer's.
        device, dtype: None for the runtime's.
    """

    #: Of `core.architecture.kinds.KINDS`.
    kind: ClassVar[str]
    #: What it is, in the words of a commit message.
    noun: ClassVar[str] = "model"

    def __init__(
        self,
        source: Checkpoint,
        runtime: Any,
        *,
        tokenizer: Tokenizer | None = None,
        max_seq_length: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.source = source
        self.runtime = runtime
        #: The file it was loaded from, relative to the checkpoint; None if there is none.
        self.file_name: str | None = None
        self._tokenizer = tokenizer
        self._max_seq_length = max_seq_length
        self._device = device
        self._dtype = dtype
        self._hooks: Operations | None = None
        self._reload: Reload | None = None
        self._identity: tuple[Any, str] | None = None
        self._closed = False

    def __repr__(self) -> str:
        shown = f"{type(self).__name__} {str(self.source)!r}"
        if self._closed:
            return f"<{shown}, closed>"
        if self._hooks is None:  # as a wrapper of the load hook sees it
            return f"<{shown}>"
        return f"<{shown} on {self.backend} ({self.device}, {self.dtype}){self._facts()}>"

    def _facts(self) -> str:
        """What a kind of model adds to a sentence on it: ", dimension 384"."""
        return ""

    def opened_by(self, hooks: Operations, file_name: str | None, reload: Reload | None) -> None:
        """Remember who loaded it, from which file, and how to do so again."""
        self._hooks, self.file_name, self._reload = hooks, file_name, reload

    # What it is

    @property
    def hooks(self) -> Operations:
        """The six operations of this model's backend."""
        if self._hooks is None:
            raise OptionError(
                f"This {type(self).__name__} was not made by core.load or core.hooks(name).load, "
                "so no backend belongs to it."
            )
        return self._hooks

    @property
    def owner(self) -> Operations | None:
        """`hooks`; None for a model that no `load` of `core` has returned yet."""
        return self._hooks

    @property
    def backend(self) -> str:
        """Its backend's name."""
        return self.hooks.name

    @property
    def reload(self) -> Reload:
        """Loads it again, in this process or another.

        Raises:
            CoreError: It was not loaded through `core`, or with options that cannot be pickled.
        """
        if self._reload is None:
            raise CoreError(
                "Only models from core.load can be pickled: pickling stores how to load it again."
            )
        _check_portable(self._reload.options.model_kwargs)
        return self._reload.of(self.source)

    @property
    def trusts_remote_code(self) -> bool:
        """Whether it was loaded with `trust_remote_code=True`."""
        return self._reload is not None and self._reload.options.trust_remote_code

    @property
    def config_kwargs(self) -> dict[str, Any]:
        """The overrides of its config.json that it was loaded with."""
        return {} if self._reload is None else dict(self._reload.options.config_kwargs)

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """The backend's own options that it was loaded with."""
        return {} if self._reload is None else dict(self._reload.options.model_kwargs)

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Files of the checkpoint its weights were read from; may be empty."""
        stated: tuple[str, ...] = getattr(self.runtime, "files", ())
        return stated or ((self.file_name,) if self.file_name else ())

    @property
    def identity(self) -> str:
        """64 hexadecimal digits that differ whenever its results may: for caches and records.

        Covers checkpoint (commit, or a directory's files by size and time), file, backend and its
        version, load options, device, dtype and token limit; not prompts and truncation, which are
        options of a call.
        """
        key = (*self._lengths(), self._device, self._dtype)
        if self._identity is None or self._identity[0] != key:
            self._identity = (key, self._digest())
        return self._identity[1]

    def _lengths(self) -> tuple[Any, ...]:
        """Where it cuts texts."""
        return (self.max_seq_length,)

    def _digest(self) -> str:
        options = LoadOptions() if self._reload is None else self._reload.options
        document = [
            source_identity(self.source),
            self.file_name,
            self.hooks.name,
            self.hooks.distribution,
            self.device,
            self.dtype,
            *self._lengths(),
            repr(sorted(options.model_kwargs.items())),
            repr(sorted(options.config_kwargs.items())),
        ]
        if self.kind != EMBEDDING:
            document.append(self.kind)
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()

    @property
    def device(self) -> str:
        """Where it really computes, as the runtime reports it."""
        return str(self._device or getattr(self.runtime, "device", "cpu"))

    @property
    def dtype(self) -> str:
        """What it really computes in, as the runtime reports it."""
        return str(self._dtype or getattr(self.runtime, "dtype", "float32"))

    @property
    def has_tokenizer(self) -> bool:
        """Whether it tokenizes here; backends that take text do not."""
        return self._tokenizer is not None

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the shared engine.

        Raises:
            UnsupportedOperation: The backend takes text and has no tokenizer.
        """
        if self._tokenizer is None:
            raise UnsupportedOperation(f"Models of the {self.backend} backend have no tokenizer.")
        return self._tokenizer

    @property
    def max_seq_length(self) -> int | None:
        """Texts are cut after this many tokens, special ones included; None for no limit.

        It can be set, up to the positions the model has; None sets all of them.
        """
        if self._max_seq_length is None and self._tokenizer is not None:
            return self._tokenizer.max_length
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        value = check_positive("max_seq_length", value)
        most: int | None = getattr(
            getattr(self.runtime, "architecture", None), "max_positions", None
        )
        if value is not None and most is not None and value > most:
            raise OptionError(
                f"max_seq_length={value}: the model has positions for {most} tokens, and cannot "
                f"read more. Set {most} or less, and embed longer texts in parts."
            )
        self._cut_at(most if value is None else value)

    def _cut_at(self, length: int | None) -> None:
        self._tokenizer = self.tokenizer.with_max_length(length)
        self._max_seq_length = None

    # Files

    def copy_weights(self, target: Path) -> Path:
        """The body of a `save` hook: the weight files at their places in `target`.

        What is there already stays; returns `target`.
        """
        for name in self.weight_files:
            if not (target / name).exists():
                copy_file(self.source.path(name), target / name)
        return target

    @check_keywords
    def optimize(
        self,
        config: Any = None,
        target: str | os.PathLike[str] | None = None,
        *,
        file_suffix: str | None = None,
        push_to_hub: bool | str = False,
        create_pr: bool = False,
        **options: Any,
    ) -> Artifact:
        """Write a faster version of the model's file; see `core.optimize`."""
        check_path_or_none("target", target)
        check_push(self.source, push_to_hub, create_pr)
        given = {"config": config, "file_suffix": file_suffix, **options}
        parsed = OptimizeOptions(**split_options(given, OptimizeOptions))
        artifact = self.hooks.optimize(self, target, parsed)
        return pushed(artifact, self.source, push_to_hub, create_pr)

    @check_keywords
    def quantize(
        self,
        config: Any = None,
        target: str | os.PathLike[str] | None = None,
        *,
        calibration: Any = None,
        file_suffix: str | None = None,
        push_to_hub: bool | str = False,
        create_pr: bool = False,
        **options: Any,
    ) -> Artifact:
        """Write a version of the model with fewer bits; see `core.quantize`."""
        check_path_or_none("target", target)
        check_push(self.source, push_to_hub, create_pr)
        given = {"config": config, "file_suffix": file_suffix, **options}
        if calibration is not None:
            given["calibration"] = self.read_calibration(calibration, given)
        parsed = QuantizeOptions(**split_options(given, QuantizeOptions))
        artifact = self.hooks.quantize(self, target, parsed)
        return pushed(artifact, self.source, push_to_hub, create_pr)

    def read_calibration(self, calibration: Any, given: dict[str, Any]) -> Sequence[Any]:
        """The texts that `quantize` is given; see `core.texts.calibration.read_calibration`."""
        return read_calibration(calibration, given)

    @check_keywords
    def save(self, path: str | os.PathLike[str], *, card: CardData | None = None) -> Path:
        """Write the model to a directory that this library and sentence-transformers load.

        Args:
            card: What to say in the README.md written for a model that has no README.md yet.
        """
        check_path("path", path)
        return self.hooks.save(self, path, SaveOptions(card=card))

    @check_keywords
    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | bool | None = None,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        card: CardData | None = None,
    ) -> str:
        """Upload what `save` writes; returns the URL of the commit or pull request.

        A README.md the repository has stays as it is, unless `replace_model_card`.

        Args:
            repo_id: `owner/name`; `name` alone belongs to the token's owner. Created if necessary.
            private: Of a repository that is created; None for the owner's default.
            revision: The branch, created if necessary; None for main.
            create_pr: Open a pull request against main instead of committing.
            exist_ok: Commit to a repository that exists. A pull request never needs it.
            card: As for `save`; without a name of its own it loads the repository.

        Raises:
            CoreError: The Hub refused; the message says what to do.
        """
        check_text_or_flag("token", token)
        check_text_or_none("revision", revision)
        check_text_or_none("commit_message", commit_message)
        check_flag_or_none("private", private)
        for name, flag in (
            ("create_pr", create_pr),
            ("exist_ok", exist_ok),
            ("replace_model_card", replace_model_card),
        ):
            check_flag(name, flag)
        if card is not None:
            check_kind("card", card, CardData)
        if create_pr and revision not in (None, "main"):
            raise OptionError(
                f"create_pr=True opens a pull request against main, and revision={revision!r} is "
                "a branch: pass one of them."
            )
        # Whether it can be saved, and that it is, before anything appears on the Hub.
        self.hooks.check_implements("save")
        self.hooks.check_model("save", self)
        there = exist_ok or create_pr
        # Where a directory lies on this machine is nobody else's business.
        origin = str(self.source) if self.source.repo_id else self.source.readable_name
        repository = find_repository(repo_id, revision=revision, token=token, exist_ok=there)
        with temporary_directory("core-push-") as folder:
            tree = Path(folder) / "model"
            card = card or CardData()
            self.save(tree, card=card.named(repository.repo_id))
            repository = create_repository(repository, private=private, exist_ok=there)
            with told_of_creation(repository, created=not there):
                if not create_pr:
                    create_branch(repository)
                keeps_card = not replace_model_card and has_file(repository, "README.md")
                return upload_folder(
                    repository,
                    tree,
                    title=commit_message or f"Add a {self.noun} ({self.backend} backend)",
                    text=f"Saved with core from {origin}: {self.backend} backend, "
                    f"{self.dtype}{self._facts()}. It loads with core and with "
                    "sentence-transformers 5 and 6.",
                    create_pr=create_pr,
                    leave_out=("README.md",) if keeps_card else (),
                )

    # Life

    def close(self) -> None:
        """Free the runtime. Using the model afterwards is an error; closing twice is not."""
        if not self._closed:
            self._closed = True
            close = getattr(self.runtime, "close", None)
            if close is not None:
                close()
            self.runtime = None
            if self._tokenizer is not None:
                end_processes_beside(self._tokenizer)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        return self.reload, (self.state(),)

    def state(self) -> dict[str, Any]:
        """Attributes that can be changed after loading, by name."""
        return {"max_seq_length": self.max_seq_length if self.has_tokenizer else None}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set what `state` gave, without checking it against the model's sizes again."""
        for name, value in state.items():
            if name != "max_seq_length":
                setattr(self, name, value)
            elif value is not None and value != self.max_seq_length:
                self._cut_at(int(value))


def _check_portable(model_kwargs: Mapping[str, Any]) -> None:
    """Raise `CoreError` for a load option that cannot go to another process."""
    for name, value in model_kwargs.items():
        try:
            pickle.dumps(value)
        except Exception as error:  # whatever its __reduce__ raises
            raise CoreError(
                f"The model was loaded with {name}={value!r} in model_kwargs, which cannot be "
                f"pickled ({error}), so another process cannot load it the same way. Load it with "
                "plain values: a mapping, strings and numbers."
            ) from error
