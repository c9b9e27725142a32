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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.artifacts.artifact import Artifact
from core.checkpoint.checkpoint import Checkpoint
from core.checkpoint.resolve import resolve
from core.engine.postprocessing import postprocess
from core.errors import OptionError
from core.machine.surroundings import expand_home
from core.models.embedding import EmbeddingModel
from core.operations.calls import BackendCalls
from core.operations.loading import find_or_export
from core.operations.opening import as_checkpoint, check_load, open_file
from core.operations.production import Production, produce
from core.operations.results import (
    check_embeddings,
    check_saved,
    check_token_embeddings,
)
from core.operations.saving import save_model
from core.options import (
    EncodeOptions,
    ExportOptions,
    LoadOptions,
    OptimizeOptions,
    QuantizeOptions,
    SaveOptions,
)
from core.plugin.registry import registry
from core.texts.inputs import check_texts, choose_prompt


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
    ) -> EmbeddingModel:
        """Open a checkpoint.

        Raises:
            ArtifactNotFound: The file asked for, or any this backend can load, is missing.
            OptionError: `model_kwargs` holds a name the backend does not know.
        """
        options = LoadOptions() if options is None else options
        checkpoint = as_checkpoint(self, source)
        check_load(self, options)
        files, found = find_or_export(self, checkpoint, options, self.export)
        model = open_file(self, files, found)
        # What was exported to the cache is found there again.
        again = found if files is checkpoint else dataclasses.replace(found, file_name=None)
        name, arguments = checkpoint.location
        model.opened_by(self, found.file_name, Reload(self.name, name, arguments, again))
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
        checkpoint = as_checkpoint(self, source)
        known = self.capabilities.precisions
        if options.precision not in known:
            raise OptionError(
                f"The {self.name} backend exports {', '.join(known)}, not {options.precision!r}."
            )
        origin = self.capabilities.exports_from

        def reference() -> EmbeddingModel:
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

        production = Production(
            "export",
            checkpoint,
            lambda staging: {"source": checkpoint, "target": staging, "options": options},
            self.load,
            None if origin is None else reference,
            options.min_cosine,
            options.trust_remote_code,
        )
        return produce(self, production, target)

    def optimize(
        self,
        model: EmbeddingModel,
        target: str | os.PathLike[str] | None = None,
        options: OptimizeOptions | None = None,
    ) -> Artifact:
        """Write a faster version of the model's file, verified, into `target`.

        Without `target`: into the model's own directory, or the cache for a Hub repository.
        """
        return self._rewrite("optimize", model, target, options or OptimizeOptions())

    def quantize(
        self,
        model: EmbeddingModel,
        target: str | os.PathLike[str] | None = None,
        options: QuantizeOptions | None = None,
    ) -> Artifact:
        """Write a version of the model with fewer bits, verified, into `target`.

        Without `target`: into the model's own directory, or the cache for a Hub repository.
        """
        return self._rewrite("quantize", model, target, options or QuantizeOptions())

    def encode(
        self,
        model: EmbeddingModel,
        texts: Sequence[str],
        options: EncodeOptions | None = None,
    ) -> Any:
        """Embed texts: float32 [len(texts), dimension], or as `options` ask.

        Raises:
            OptionError: An input is not a string, or the prompt's name is unknown.
            PluginError: The backend returned something else than asked.
        """
        options = EncodeOptions() if options is None else options
        if isinstance(texts, str):
            raise OptionError("encode takes a sequence of texts here, not one string.")
        rows = check_texts(texts)
        prompt = choose_prompt(options, model.prompts, model.default_prompt_name)
        if prompt:
            rows = [prompt + text for text in rows]
        if prompt != (options.prompt or ""):
            options = dataclasses.replace(options, prompt=prompt)
        embeddings = self.raw_encode(model, rows, options)
        return postprocess(embeddings, options, model.truncate_dim, model.tensor_device)

    def save(
        self,
        model: EmbeddingModel,
        target: str | os.PathLike[str],
        options: SaveOptions | None = None,
    ) -> Path:
        """Write the whole model to the directory `target`, atomically."""
        options = SaveOptions() if options is None else options
        self.check_model("save", model)
        directory = expand_home(target)

        def write(staging: Path) -> None:
            check = functools.partial(check_saved, model=model, staging=staging)
            self.call("save", check, model=model, target=staging, options=options)

        return save_model(model, directory, options, write)

    def raw_encode(
        self, model: EmbeddingModel, texts: Sequence[str], options: EncodeOptions
    ) -> Any:
        """The checked result of the `encode` hook: float32 [len(texts), full_dimension].

        `texts` have their prompts in front already, and truncation, normalization and precision
        are not applied: what a plugin calls (on `hooks.unwrapped`) that answers a part of a call
        itself and leaves the other texts to the backend.
        """
        self.check_model("encode", model)
        if options.output_value == "token_embeddings":
            check = functools.partial(check_token_embeddings, count=len(texts))
        else:
            check = functools.partial(
                check_embeddings, count=len(texts), dimension=model.known_dimension
            )
        result = self.call("encode", check, model=model, texts=texts, options=options)
        if model.known_dimension is None and options.output_value != "token_embeddings":
            model.known_dimension = int(result.shape[1])
        return result

    def _rewrite(
        self,
        operation: str,
        model: EmbeddingModel,
        target: str | os.PathLike[str] | None,
        options: OptimizeOptions | QuantizeOptions,
    ) -> Artifact:
        self.check_model(operation, model)
        production = Production(
            operation,
            model.source,
            lambda staging: {"model": model, "target": staging, "options": options},
            self.load,
            lambda: nullcontext(model),
            options.min_cosine,
            model.trusts_remote_code,
        )
        return produce(self, production, target)


@dataclass(frozen=True)
class Reload:
    """Loads a model as it was loaded before: what a model is pickled as.

    Attributes:
        backend: Its name.
        source: A directory's absolute path, or a repository's name.
        arguments: Of `resolve`, beside the name.
        options: As the `load` hook got them.
    """

    backend: str
    source: str
    arguments: Mapping[str, Any]
    options: LoadOptions

    def on(self, device: str) -> Reload:
        """The same on another device."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, device=device))

    def __call__(self, state: Mapping[str, Any]) -> EmbeddingModel:
        operations = hooks(self.backend)
        source: Checkpoint | str = self.source
        if operations.capabilities.source == "checkpoint":
            source = resolve(self.source, **self.arguments)
        model = operations.load(source, self.options)
        model.restore(state)
        return model


def hooks(backend: str) -> Hooks:
    """The six operations of a backend, callable by keyword.

    Raises:
        BackendNotFound: It is not installed; the message has the command that installs it.
        BackendLoadError: It is installed and cannot be used.
    """
    return Hooks(registry.backend(backend))
