"""The six operations of one backend: what `core` does around each hook.

Every way of using a backend (`core.load`, `model.encode`, the command line, `core.hooks(name)`)
goes through `Hooks`, so wrappers see every call and every result is checked.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.artifact import Artifact
from core.backend import Backend
from core.capabilities import Capabilities
from core.chain import Trail
from core.checkpoint import Checkpoint, resolve
from core.errors import CoreError, OptionError, PluginError, UnsupportedOperation
from core.file_choice import choose_artifact
from core.hookspecs import HOOK_NAMES
from core.inputs import check_texts, choose_prompt
from core.model import EmbeddingModel
from core.options import (
    EncodeOptions,
    ExportOptions,
    LoadOptions,
    OptimizeOptions,
    QuantizeOptions,
    SaveOptions,
    check_names,
)
from core.precision import finish
from core.registry import registry
from core.results import (
    Check,
    check_artifact,
    check_embeddings,
    check_instance,
    check_token_embeddings,
)

if TYPE_CHECKING:
    pass

logger = logging.getLogger("core")


class Hooks:
    """The six operations of one backend, callable by keyword.

    Obtained from `core.hooks(name)`. Options default to the options dataclass's defaults; names
    and paths are resolved, so `core.hooks("onnx").load(source="path/to/model")` works.

    Attributes:
        name: The backend's name.
        capabilities: What the backend says of itself.
        implemented: Which of the six it implements.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._chains = backend.chains

    def __repr__(self) -> str:
        return f"<hooks of backend {self._backend.plugin}: {', '.join(self.implemented)}>"

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def capabilities(self) -> Capabilities:
        return self._backend.capabilities

    @property
    def distribution(self) -> str:
        """Name and version of what installed the backend; "" when registered in code."""
        return self._backend.plugin.distribution

    @property
    def implemented(self) -> tuple[str, ...]:
        return tuple(hook for hook in HOOK_NAMES if hook in self._backend.hooks)

    @functools.cached_property
    def unwrapped(self) -> Hooks:
        """The backend without plugins.

        For a plugin's implementation that computes a part of a call itself, such as the texts a
        cache does not know: the plugins around the call see it as a whole already.
        """
        return Hooks(self._backend.unwrapped)

    # The operations

    def load(
        self,
        source: Checkpoint | str | os.PathLike[str],
        options: LoadOptions | None = None,
    ) -> EmbeddingModel:
        """Open a checkpoint.

        Raises:
            ArtifactNotFound: The file asked for, or any this backend can load, is missing.
            OptionError: `model_kwargs` holds a name the backend does not know.
        """
        options = LoadOptions() if options is None else options
        checkpoint = self._checkpoint(source)
        self._check_device(options.device)
        known = self.capabilities.model_kwargs
        check_names(options.model_kwargs, known, f"model_kwargs of the {self.name} backend")
        files = checkpoint
        if self.capabilities.source == "checkpoint":
            files, options = self._choose_file(checkpoint, options)
        model: EmbeddingModel = self._call(
            "load", check_instance(EmbeddingModel), source=files, options=options
        )
        model._hooks = self
        model.file_name = options.file_name
        model._reload = {
            **checkpoint.arguments,
            "model_name_or_path": checkpoint.name,
            "backend": self.name,
            "device": options.device,
            "file_name": options.file_name,
            "trust_remote_code": options.trust_remote_code,
            "model_kwargs": dict(options.model_kwargs),
            "config_kwargs": dict(options.config_kwargs),
        }
        if files is not checkpoint:  # exported to the cache: found there again
            model._reload.update(file_name=None)
        return model

    def export(
        self,
        source: Checkpoint | str | os.PathLike[str],
        target: str | os.PathLike[str] | None = None,
        options: ExportOptions | None = None,
    ) -> Artifact:
        """Write the checkpoint in this backend's format, verified, into `target`.

        Without `target`: into the model's own directory, or the cache for a Hub repository.

        Raises:
            VerificationError: The result disagrees with its source; nothing is published.
        """
        options = ExportOptions() if options is None else options
        checkpoint = self._checkpoint(source)
        known = self.capabilities.precisions
        if options.precision not in known:
            raise OptionError(
                f"The {self.name} backend exports {', '.join(known)}, not {options.precision!r}."
            )

        def reference() -> EmbeddingModel:
            origin = self.capabilities.exports_from
            assert origin is not None
            return hooks(origin).load(
                checkpoint,
                LoadOptions(
                    device=options.device,
                    trust_remote_code=options.trust_remote_code,
                    model_kwargs=options.model_kwargs,
                    config_kwargs=options.config_kwargs,
                ),
            )

        return self._produce(
            "export",
            checkpoint,
            target,
            options,
            lambda staging: {"source": checkpoint, "target": staging, "options": options},
            reference if self.capabilities.exports_from else None,
            options.trust_remote_code,
        )

    def optimize(
        self,
        model: EmbeddingModel,
        target: str | os.PathLike[str] | None = None,
        options: OptimizeOptions | None = None,
    ) -> Artifact:
        """Write a faster version of the model's file, verified, into `target`.

        Without `target`: into the model's own directory, or the cache for a Hub repository.
        """
        options = OptimizeOptions() if options is None else options
        return self._rewrite("optimize", model, target, options)

    def quantize(
        self,
        model: EmbeddingModel,
        target: str | os.PathLike[str] | None = None,
        options: QuantizeOptions | None = None,
    ) -> Artifact:
        """Write a version of the model with fewer bits, verified, into `target`.

        Without `target`: into the model's own directory, or the cache for a Hub repository.
        """
        options = QuantizeOptions() if options is None else options
        return self._rewrite("quantize", model, target, options)

    def encode(
        self,
        model: EmbeddingModel,
        texts: Sequence[str],
        options: EncodeOptions | None = None,
    ) -> Any:
        """Embed texts: float32 [len(texts), dimension], or as `options` ask.

        Raises:
            OptionError: An input is no string, or the prompt's name is unknown.
            PluginError: The backend returned something else than asked.
        """
        options = EncodeOptions() if options is None else options
        if isinstance(texts, str):
            raise OptionError("encode takes a sequence of texts here, not one string.")
        rows = check_texts(texts)
        prompt = choose_prompt(model, options)
        if prompt:
            rows = [prompt + text for text in rows]
        if prompt != (options.prompt or ""):
            options = dataclasses.replace(options, prompt=prompt)
        return finish(self.raw_encode(model, rows, options), model, options)

    def save(
        self,
        model: EmbeddingModel,
        target: str | os.PathLike[str],
        options: SaveOptions | None = None,
    ) -> Path:
        """Write the whole model to the directory `target`, atomically."""
        from core.publish import save_model

        options = SaveOptions() if options is None else options
        self._check_model("save", model)
        directory = Path(os.fspath(target)).expanduser()

        def write(staging: Path) -> None:
            self._call("save", check_instance(Path), model=model, target=staging, options=options)

        return save_model(model, directory, options, write)

    # What lies around a hook call

    def raw_encode(
        self, model: EmbeddingModel, texts: Sequence[str], options: EncodeOptions
    ) -> Any:
        """The checked result of the `encode` hook: float32 [len(texts), full_dimension].

        `texts` have their prompts in front already, and truncation, normalisation and precision
        are not applied: what a plugin calls (on `hooks.unwrapped`) that answers a part of a call
        itself and leaves the other texts to the backend.
        """
        self._check_model("encode", model)
        if options.output_value == "token_embeddings":
            check = functools.partial(check_token_embeddings, count=len(texts))
        else:
            check = functools.partial(
                check_embeddings, count=len(texts), dimension=model._dimension
            )
        result = self._call("encode", check, model=model, texts=texts, options=options)
        if model._dimension is None and options.output_value != "token_embeddings":
            model._dimension = int(result.shape[1])
        return result

    def _call(self, hook: str, check: Check, **arguments: Any) -> Any:
        """Call a hook; `check` says what is wrong with a result, or None."""
        chain = self._chains.get(hook)
        if chain is None:
            raise self._unsupported(hook)
        trail: Trail = []
        try:
            result = chain(arguments, trail)
        except CoreError:
            raise
        except (Exception, SystemExit) as error:
            raised = f"failed with {type(error).__name__}: {error}"
            culprit = next((p for p, value in trail if value is error), self._backend.plugin)
            raise PluginError(f"{hook} of {culprit} {raised}.") from error
        if result is None or check(result) is not None:
            raise self._wrong(hook, check, trail)
        return result

    def _wrong(self, hook: str, check: Check, trail: Trail) -> PluginError:
        """Name the innermost plugin whose result was bad; those around it passed it on."""
        culprit, what = self._backend.plugin, "returned nothing"
        for plugin, value in trail:
            if isinstance(value, BaseException):
                continue
            fault = "returned nothing" if value is None else check(value)
            if fault is not None:
                culprit, what = plugin, fault
                break
        return PluginError(f"{hook} of {culprit} {what}.")

    def _unsupported(self, hook: str) -> UnsupportedOperation:
        return UnsupportedOperation(
            f"The {self.name} backend does not implement {hook}. It implements "
            f"{', '.join(self.implemented)}."
        )

    def _check_device(self, device: str | None) -> None:
        """Refuse what a backend of one device cannot do; with several it chooses itself."""
        devices = self.capabilities.devices
        if device is None or len(devices) != 1:
            return
        if device.lower().partition(":")[0] != devices[0].lower():
            raise OptionError(
                f"The {self.name} backend computes on {devices[0]} only, not on {device!r}. Leave "
                "out device, or choose another backend."
            )

    def _check_model(self, hook: str, model: EmbeddingModel) -> None:
        if not isinstance(model, EmbeddingModel):
            raise OptionError(f"{hook} takes an EmbeddingModel, not {type(model).__name__}.")
        if model.closed:
            raise OptionError(f"{model!r} is closed. Load it again to use it.")
        owner = model._hooks
        if owner is not None and owner is not self and owner.name != self.name:
            raise OptionError(
                f"{model!r} belongs to the {model.backend} backend; "
                f"call core.hooks({model.backend!r}).{hook}."
            )

    def _checkpoint(self, source: Checkpoint | str | os.PathLike[str]) -> Checkpoint:
        if isinstance(source, Checkpoint):
            return source
        if self.capabilities.source == "name":
            return named_only(source)
        return resolve(source)

    def _choose_file(
        self, checkpoint: Checkpoint, options: LoadOptions
    ) -> tuple[Checkpoint, LoadOptions]:
        capabilities = self.capabilities
        if checkpoint.architecture.is_static or not capabilities.file_names:
            return checkpoint, options
        chosen = None
        if options.export is not True:
            chosen = choose_artifact(
                checkpoint,
                self.name,
                capabilities,
                file_name=options.file_name,
                subfolder=options.subfolder,
            )
        elif options.file_name is not None:
            raise OptionError(
                f"file_name={options.file_name!r} names a file that exists and export=True makes "
                "another: pass one of them."
            )
        if chosen is None:
            from core.production import export_to_cache

            checkpoint, chosen = export_to_cache(self, checkpoint, options)
        return checkpoint, dataclasses.replace(options, file_name=chosen)

    def _rewrite(
        self,
        operation: str,
        model: EmbeddingModel,
        target: str | os.PathLike[str] | None,
        options: OptimizeOptions | QuantizeOptions,
    ) -> Artifact:
        self._check_model(operation, model)
        trusted = bool((model._reload or {}).get("trust_remote_code"))
        return self._produce(
            operation,
            model.source,
            target,
            options,
            lambda staging: {"model": model, "target": staging, "options": options},
            lambda: nullcontext(model),
            trusted,
        )

    def _produce(
        self,
        operation: str,
        source: Checkpoint,
        target: str | os.PathLike[str] | None,
        options: Any,
        arguments: Callable[[Path], dict[str, Any]],
        reference: Callable[[], AbstractContextManager[EmbeddingModel]] | None,
        trust_remote_code: bool,
    ) -> Artifact:
        from core.production import produce

        if operation not in self._backend.hooks:
            raise self._unsupported(operation)

        def write(staging: Path) -> Artifact:
            check = functools.partial(check_artifact, staging=staging)
            artifact: Artifact = self._call(operation, check, **arguments(staging))
            return dataclasses.replace(
                artifact, root=staging, backend=self.name, operation=operation
            )

        return produce(
            self,
            source,
            target,
            write,
            reference,
            min_cosine=options.min_cosine,
            trust_remote_code=trust_remote_code,
        )


def named_only(name: str | os.PathLike[str]) -> Checkpoint:
    """A checkpoint without files, for backends whose models are not files."""
    from core.checkpoint import NoFiles

    if not isinstance(name, str | os.PathLike) or not (name := os.fspath(name)):
        raise OptionError(f"A model is named by a string, not {name!r}.")
    return Checkpoint(name, NoFiles())


def hooks(backend: str) -> Hooks:
    """The six operations of a backend, callable by keyword.

    Raises:
        BackendNotFound: It is not installed; the message has the command that installs it.
        BackendLoadError: It is installed and cannot be used.
    """
    return Hooks(registry.backend(backend))
