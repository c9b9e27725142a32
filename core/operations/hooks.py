"""The six operations of one backend: what `core` does around each hook.

Every way of using a backend (`core.load`, `model.encode`, the command line, `core.hooks(name)`)
goes through `Hooks`, so wrappers see every call and every result is checked.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from core.arguments import check_keywords, check_path, check_unicode_path, in_any_case
from core.arguments import check_kind as check_type
from core.artifacts.artifact import Artifact
from core.artifacts.tuned import LOCK_NAME, TUNED
from core.checkpoint.checkpoint import Checkpoint
from core.checkpoint.resolve import resolve
from core.errors import BackendNotFound, OptionError
from core.models.model import Model
from core.operations.backend_choice import check_exportable
from core.operations.calls import BackendCalls
from core.operations.judging import Thresholds
from core.operations.lineage import warn_of_other_weights
from core.operations.loading import find_or_export, warn_of_precision
from core.operations.opening import (
    as_checkpoint,
    check_kind,
    check_load,
    open_file,
    portable,
)
from core.operations.production import Production, produce
from core.operations.results import check_encoded, check_saved
from core.operations.saving import save_model
from core.options import (
    DENSE,
    EncodeOptions,
    ExportOptions,
    LoadOptions,
    OptimizeOptions,
    QuantizeOptions,
    SaveOptions,
)
from core.plugin.registry import registry

_Options = TypeVar("_Options")


class Hooks(BackendCalls):
    """The six operations of one backend, callable by keyword.

    Obtained from `core.hooks(name)`. Options default to the options dataclass's defaults; names
    and paths are resolved, so `core.hooks("onnx").load(source="path/to/model")` works.

    Attributes:
        name: The backend's name.
        capabilities: What the backend says of itself.
        implemented: Which of the six it implements.
    """

    @functools.cached_property
    def unwrapped(self) -> Hooks:
        """The backend without plugins.

        For a plugin's implementation that computes a part of a call itself, such as the texts a
        cache does not know: the plugins around the call see it as a whole already.
        """
        return Hooks(self._backend.unwrapped)

    def load(
        self,
        source: Checkpoint | str | os.PathLike[str],
        options: LoadOptions | None = None,
    ) -> Any:
        """Open a checkpoint.

        Returns:
            The model, of the class of its kind: `EmbeddingModel`, `Reranker`, `SparseEncoder`,
            `MultiVectorEncoder`.

        Raises:
            ArtifactNotFound: The file asked for, or any this backend can load, is missing.
            OptionError: `model_kwargs` holds a name the backend does not know.
        """
        parsed = _parsed(options, LoadOptions)
        return self._load(as_checkpoint(self, source), parsed, exported=False)

    def _load(self, checkpoint: Checkpoint, options: LoadOptions, *, exported: bool) -> Model:
        """`load`; with `exported` only what an export put into the cache counts."""
        check_load(self, options)
        check_kind(self, checkpoint)
        files, found = find_or_export(self, checkpoint, options, self.export, look=not exported)
        model = open_file(self, files, found)
        name, arguments = checkpoint.location
        used = checkpoint.used()
        reload = Reload(
            self.name, name, arguments, portable(found), used, exported, checkpoint.kind
        )
        if files is not checkpoint:  # what was exported to the cache is found there again
            again = dataclasses.replace(reload.options, file_name=None, export=None)
            reload = dataclasses.replace(reload, options=again, exported=True)
        model.opened_by(self, found.file_name, reload)
        if files is checkpoint:
            warn_of_precision(checkpoint, options, found.file_name, model)
            warn_of_other_weights(checkpoint, found.file_name, model.weight_files)
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
        options = _parsed(options, ExportOptions)
        known = self.capabilities.precisions
        options = dataclasses.replace(
            options,
            precision=in_any_case(options.precision, known),
            exporter=options.exporter.lower(),
        )
        if options.precision not in known:
            raise OptionError(
                f"The {self.name} backend exports {', '.join(known)}, not {options.precision!r}."
            )
        checkpoint = as_checkpoint(self, source)
        check_kind(self, checkpoint)
        origin = self.capabilities.exports_from
        check_exportable(self, checkpoint)

        def reference() -> Model:
            assert origin is not None
            model: Model = hooks(origin).load(
                checkpoint,
                LoadOptions(
                    device=options.device,
                    trust_remote_code=options.trust_remote_code,
                    model_kwargs=options.model_kwargs,
                    config_kwargs=options.config_kwargs,
                ),
            )
            return model

        production = Production(
            "export",
            checkpoint,
            lambda staging: {"source": checkpoint, "target": staging, "options": options},
            self.load,
            None if origin is None else reference,
            Thresholds.of(options),
            options.trust_remote_code,
        )
        return produce(self, production, target)

    def optimize(
        self,
        model: Model,
        target: str | os.PathLike[str] | None = None,
        options: OptimizeOptions | None = None,
    ) -> Artifact:
        """Write a faster version of the model's file, verified, into `target`.

        Without `target`: into the model's own directory, or the cache for a Hub repository.
        """
        return self._rewrite("optimize", model, target, _parsed(options, OptimizeOptions))

    def quantize(
        self,
        model: Model,
        target: str | os.PathLike[str] | None = None,
        options: QuantizeOptions | None = None,
    ) -> Artifact:
        """Write a version of the model with fewer bits, verified, into `target`.

        Without `target`: into the model's own directory, or the cache for a Hub repository.
        """
        return self._rewrite("quantize", model, target, _parsed(options, QuantizeOptions))

    def encode(
        self,
        model: Model,
        texts: Sequence[Any],
        options: EncodeOptions | None = None,
    ) -> Any:
        """What `model.encode` or `model.predict` gives for texts, or for pairs of texts.

        Raises:
            OptionError: An input is not what the model takes, or the prompt's name is unknown.
            PluginError: The backend returned something other than what was asked for.
        """
        options = _parsed(options, EncodeOptions)
        self.check_model("encode", model)
        rows, options = model.prepare(texts, options)
        return model.finish(self.raw_encode(model, rows, options), options)

    def save(
        self,
        model: Model,
        target: str | os.PathLike[str],
        options: SaveOptions | None = None,
    ) -> Path:
        """Write the whole model to the directory `target`, atomically."""
        options = _parsed(options, SaveOptions)
        self.check_model("save", model)
        directory = check_path("target", target)
        check_unicode_path("target", directory)

        def write(staging: Path) -> None:
            check = functools.partial(check_saved, model=model, staging=staging)
            self.call("save", check, model=model, target=staging, options=options)

        return save_model(model, directory, options, write)

    def raw_encode(self, model: Model, texts: Sequence[Any], options: EncodeOptions) -> Any:
        """The checked result of the `encode` hook: float32 [len(texts), full_dimension], a
        reranker's scores, a sparse encoder's `SparseEmbeddings`, or a multi-vector model's vectors.

        `texts` have their prompts in front already, and truncation, normalization, precision and
        activation functions are not applied: what a plugin calls (on `hooks.unwrapped`) that
        answers a part of a call itself and leaves the other texts to the backend.
        """
        self.check_model("encode", model)
        # Which every backend has, whether or not it knows of outputs.
        alone = options.outputs == (DENSE,)
        asked = dataclasses.replace(options, outputs=None) if alone else options
        check = check_encoded(model, len(texts), asked)
        result = self.call("encode", check, model=model, texts=texts, options=asked)
        model.note_result(result, asked)
        return {DENSE: result} if alone else result

    def _rewrite(
        self,
        operation: str,
        model: Model,
        target: str | os.PathLike[str] | None,
        options: OptimizeOptions | QuantizeOptions,
    ) -> Artifact:
        self.check_model(operation, model)
        configs = getattr(self.capabilities, f"{operation}_configs")
        options = dataclasses.replace(options, config=in_any_case(options.config, configs))
        production = Production(
            operation,
            model.source,
            lambda staging: {"model": model, "target": staging, "options": options},
            self.load,
            lambda: nullcontext(model),
            Thresholds.of(options),
            model.trusts_remote_code,
        )
        return produce(self, production, target)


@dataclass(frozen=True)
class Reload:
    """Loads a model as it was loaded before: what a model is pickled as.

    Attributes:
        backend: Its name.
        source: A directory's absolute path, or a repository's name.
        arguments: Of `resolve`, besides the name.
        options: As the `load` hook got them.
        used: Files of a directory that were read, with size and time.
        exported: Whether the backend's file was exported to the cache and is read from there.
        kind: What the files are read as.
    """

    backend: str
    source: str
    arguments: Mapping[str, Any]
    options: LoadOptions
    used: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    exported: bool = False
    kind: str | None = None

    def changed(self, **options: Any) -> Reload:
        """The same with other values for these fields of `options`."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, **options))

    def of(self, source: Checkpoint) -> Reload:
        """The same files as the checkpoint has them: saving to its own directory rewrites them."""
        now = source.used()
        return dataclasses.replace(
            self, used={n: now.get(n, stamp) for n, stamp in self.used.items()}
        )

    def __call__(self, state: Mapping[str, Any]) -> Model:
        operations = hooks(self.backend)
        if operations.capabilities.source == "checkpoint":
            source = resolve(self.source, **self.arguments).read_as(self.kind)
            source.check_unchanged(self.used)
        else:
            source = as_checkpoint(operations, self.source).read_as(self.kind)
        model = operations._load(source, self.options, exported=self.exported)
        model.restore(state)
        return model


def _parsed(options: Any, kind: type[_Options]) -> _Options:
    """The options a hook was given, or the default ones.

    Raises:
        OptionError: They are those of another hook, or no options.
    """
    if options is None:
        return kind()
    check_type("options", options, kind)
    checked: _Options = options
    return checked


@check_keywords
def hooks(backend: str) -> Hooks:
    """The six operations of a backend, callable by keyword.

    Raises:
        BackendNotFound: It is not installed; the message has the command that installs it.
        BackendLoadError: It is installed and cannot be used.
    """
    if isinstance(backend, str) and backend.lower() == TUNED:
        raise BackendNotFound(
            f"{TUNED!r} is no backend: core.load(..., backend={TUNED!r}) loads a model with the "
            f"one that its {LOCK_NAME} names. Name a backend here: {', '.join(registry.names())}."
        )
    return Hooks(registry.backend(backend))
