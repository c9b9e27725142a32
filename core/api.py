"""The functions users call; each finds the backend and goes through its `Hooks`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.architecture.kinds import EMBEDDING, MULTI_VECTOR, RERANKER, SPARSE, choose_kind
from core.arguments import (
    check_flag,
    check_keywords,
    check_mapping_or_none,
    check_path_or_none,
    check_prompts,
    check_text_or_flag,
    check_text_or_none,
)
from core.artifacts.artifact import Artifact
from core.artifacts.push import check_push, pushed, upload_artifact
from core.artifacts.recorded import read_artifact
from core.artifacts.tuned import TUNED
from core.checkpoint.checkpoint import Checkpoint
from core.checkpoint.resolve import named_only, resolve
from core.errors import BackendNotFound, OptionError, UnsupportedOperation
from core.hub.upload import check_token, open_repository
from core.models.embedding import EmbeddingModel
from core.models.model import Model
from core.models.multi_vector import MultiVectorEncoder
from core.models.reranker import Reranker
from core.models.sparse import SparseEncoder
from core.operations.backend_choice import backend_with_a_file
from core.operations.following import has_choice, load_if_tuned, load_tuned
from core.operations.hooks import Hooks, hooks
from core.options import ExportOptions, LoadOptions, check_positive, split_options
from core.plugin.known_backends import install_hint
from core.plugin.plugin import BACKEND_GROUP, PLUGIN_GROUP
from core.plugin.registry import BACKEND_VARIABLE, registry
from core.plugin.status import BackendStatus, PluginStatus


@check_keywords
def load(
    model_name_or_path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    device: str | None = None,
    revision: str | None = None,
    file_name: str | None = None,
    export: bool | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
    truncate_dim: int | None = None,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    similarity_fn_name: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
) -> EmbeddingModel:
    """Load an embedding model.

    Args:
        model_name_or_path: A directory, `owner/name` on the Hub or its address there, or `name`
            for `sentence-transformers/name`.
        backend: `"torch"`, `"onnx"`, `"openvino"` or any installed one. None takes
            `$CORE_BACKEND`, else what `core tune` chose for a directory (its `core_tuned.json`:
            backend, file, options and device) where that holds on this machine, else torch if
            installed, else the only one installed. Where torch has no file in the model and
            another installed backend has, None takes that one. `"tuned"` insists on what
            `core tune` chose, for a directory or a repository.
        device: As the backend names it; None lets it choose.
        revision: Branch, tag, commit or `refs/pr/N` of a Hub repository.
        file_name: The backend's file to load, where the model has several.
        export: None uses the backend's file if there is one and else exports one into the cache;
            True always exports; False never does.
        token: For the Hub; None uses the stored login or `$HF_TOKEN`.
        cache_dir: The Hub cache; None for its default.
        local_files_only: Open no connection; use what is cached.
        trust_remote_code: Let code from the model repository run.
        truncate_dim: Leading dimensions to keep of every embedding.
        prompts: Name to prompt, on top of the model's own.
        default_prompt_name: Which prompt to use unless told otherwise.
        similarity_fn_name: `"cosine"`, `"dot"`, `"euclidean"` or `"manhattan"`.
        model_kwargs: The backend's own options; they count more than those `core tune` chose.
        config_kwargs: Overrides of the model's config.json.

    Raises:
        ModelNotFound, ArtifactNotFound, ModelFormatError: What is wrong with the files.
        UnsupportedOperation: It is no embedding model; the message says what loads it.
        BackendNotFound, BackendLoadError: What is wrong with the backend.
        OptionError: What is wrong with the arguments.
    """
    model: EmbeddingModel = _load(
        EMBEDDING,
        model_name_or_path,
        backend=backend,
        device=device,
        revision=revision,
        file_name=file_name,
        export=export,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        trust_remote_code=trust_remote_code,
        model_kwargs=model_kwargs,
        config_kwargs=config_kwargs,
    )
    with _closed_on_error(model):
        _apply_prompts(model, prompts, default_prompt_name)
        if similarity_fn_name is not None:
            model.similarity_fn_name = similarity_fn_name
        if truncate_dim is not None:
            model.truncate_dim = truncate_dim
    return model


@check_keywords
def load_reranker(
    model_name_or_path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    device: str | None = None,
    revision: str | None = None,
    file_name: str | None = None,
    export: bool | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    activation_fn: Any = None,
) -> Reranker:
    """Load a reranker (a cross-encoder), which scores pairs of texts.

    Args:
        model_name_or_path: As for `load`, and so are the arguments that are not listed here.
        prompts: Name to prompt, on top of the model's own; a prompt goes in front of a pair's first
            text.
        max_length: Tokens of a pair, special ones included; None for the model's own limit.
        activation_fn: Applied to the scores: a name (`"Sigmoid"`, `"Identity"`, ...), a dotted path
            of torch's, or a function of an array float32 [n, labels]. None for what the model's
            files name, else sigmoid with one label and nothing with several.

    Raises:
        ModelNotFound, ArtifactNotFound, ModelFormatError: What is wrong with the files.
        UnsupportedOperation: It is no reranker; the message says what loads it.
        BackendNotFound, BackendLoadError: What is wrong with the backend.
        OptionError: What is wrong with the arguments.
    """
    model: Reranker = _load(
        RERANKER,
        model_name_or_path,
        backend=backend,
        device=device,
        revision=revision,
        file_name=file_name,
        export=export,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        trust_remote_code=trust_remote_code,
        model_kwargs=model_kwargs,
        config_kwargs=config_kwargs,
    )
    with _closed_on_error(model):
        _apply_prompts(model, prompts, default_prompt_name)
        if max_length is not None:
            model.max_seq_length = check_positive("max_length", max_length)
        if activation_fn is not None:
            model.activation_fn = activation_fn
    return model


@check_keywords
def load_sparse(
    model_name_or_path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    device: str | None = None,
    revision: str | None = None,
    file_name: str | None = None,
    export: bool | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    similarity_fn_name: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
    max_active_dims: int | None = None,
) -> SparseEncoder:
    """Load a sparse encoder, which gives texts a weight for each of a few words.

    Args:
        model_name_or_path: As for `load`, and so are the arguments that are not listed here.
        similarity_fn_name: `"dot"`, `"cosine"`, `"euclidean"` or `"manhattan"`.
        max_active_dims: The most values of an embedding, the largest; None for what the model's
            files say.

    Raises:
        ModelNotFound, ArtifactNotFound, ModelFormatError: What is wrong with the files.
        UnsupportedOperation: It is no sparse encoder; the message says what loads it.
        BackendNotFound, BackendLoadError: What is wrong with the backend.
        OptionError: What is wrong with the arguments.
    """
    model: SparseEncoder = _load(
        SPARSE,
        model_name_or_path,
        backend=backend,
        device=device,
        revision=revision,
        file_name=file_name,
        export=export,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        trust_remote_code=trust_remote_code,
        model_kwargs=model_kwargs,
        config_kwargs=config_kwargs,
    )
    with _closed_on_error(model):
        _apply_prompts(model, prompts, default_prompt_name)
        if similarity_fn_name is not None:
            model.similarity_fn_name = similarity_fn_name
        if max_active_dims is not None:
            model.max_active_dims = max_active_dims
    return model


@check_keywords
def load_multi_vector(
    model_name_or_path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    device: str | None = None,
    revision: str | None = None,
    file_name: str | None = None,
    export: bool | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    similarity_fn_name: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
) -> MultiVectorEncoder:
    """Load a multi-vector model (late interaction, ColBERT), which gives every token a vector.

    Args:
        model_name_or_path: As for `load`, and so are the arguments that are not listed here. It may
            be a model of sentence-transformers, of PyLate or of Stanford's ColBERT.
        prompts: Name to prompt, on top of the model's own; `query` and `document` are those of
            `encode_query` and `encode_document`.
        similarity_fn_name: `"maxsim"`, or `"meanmaxsim"` for the mean over a query's vectors.

    Raises:
        ModelNotFound, ArtifactNotFound, ModelFormatError: What is wrong with the files.
        UnsupportedOperation: It is no multi-vector model; the message says what loads it.
        BackendNotFound, BackendLoadError: What is wrong with the backend.
        OptionError: What is wrong with the arguments.
    """
    model: MultiVectorEncoder = _load(
        MULTI_VECTOR,
        model_name_or_path,
        backend=backend,
        device=device,
        revision=revision,
        file_name=file_name,
        export=export,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        trust_remote_code=trust_remote_code,
        model_kwargs=model_kwargs,
        config_kwargs=config_kwargs,
    )
    with _closed_on_error(model):
        _apply_prompts(model, prompts, default_prompt_name)
        if similarity_fn_name is not None:
            model.similarity_fn_name = similarity_fn_name
    return model


@check_keywords
def kind_of(
    model_name_or_path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> str:
    """Which kind of model it is, by its files: what loads it.

    Args:
        model_name_or_path: As for `load`, and so are the other arguments.

    Returns:
        `"embedding"` (`load`), `"reranker"` (`load_reranker`), `"sparse"` (`load_sparse`) or
        `"multi_vector"` (`load_multi_vector`). Where the files fit several, the first of these that
        they fit; a backend whose models are names has embedding models.

    Raises:
        ModelNotFound, ModelFormatError: What is wrong with the files.
        BackendNotFound: The backend is not installed.
        OptionError: What is wrong with the arguments.
    """
    check_source(revision, token, cache_dir, local_files_only)
    named = _named_backend(backend)
    if named is not None and named.lower() != TUNED and _runs_names(hooks(named), revision):
        return EMBEDDING
    source = resolve(
        model_name_or_path,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    return choose_kind(source, None)


def _load(
    kind: str,
    model_name_or_path: str | os.PathLike[str],
    *,
    backend: str | None,
    device: str | None,
    revision: str | None,
    file_name: str | None,
    export: bool | None,
    token: str | bool | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
    trust_remote_code: bool,
    model_kwargs: Mapping[str, Any] | None,
    config_kwargs: Mapping[str, Any] | None,
) -> Any:
    """A model of this kind: what the functions that load one share."""
    named = _named_backend(backend)
    insists = named is not None and named.lower() == TUNED
    tuned = insists or (named is None and has_choice(model_name_or_path))
    operations = None if tuned else hooks(choose_backend(backend))
    check_mapping_or_none("model_kwargs", model_kwargs)
    check_mapping_or_none("config_kwargs", config_kwargs)
    check_source(revision, token, cache_dir, local_files_only)
    own = dict(model_kwargs or {})
    file_name = _one("file_name", file_name, own)
    export = _one("export", export, own)
    device = _one("device", device, own)
    subfolder = own.pop("subfolder", None)
    options = LoadOptions(
        device=device,
        file_name=file_name,
        subfolder=subfolder,
        export=export,
        trust_remote_code=trust_remote_code,
        model_kwargs=own,
        config_kwargs=dict(config_kwargs or {}),
    )

    def find() -> Checkpoint:
        return resolve(
            model_name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        ).read_as(kind)

    model = None
    if operations is None:
        model = load_tuned(find(), options) if insists else load_if_tuned(find(), options)
    if model is None:
        operations = operations or hooks(choose_backend(None))
        by_name = _runs_names(operations, revision)
        source = named_only(model_name_or_path).read_as(kind) if by_name else find()
        if named is None:
            operations = hooks(backend_with_a_file(operations, source, options))
        model = operations.load(source, options)
    return model


def _runs_names(operations: Hooks, revision: str | None) -> bool:
    """Whether the backend is given names, which have no revisions.

    Raises:
        OptionError: One is asked for.
    """
    if operations.capabilities.source != "name":
        return False
    if revision is not None:
        raise OptionError(
            f"revision={revision!r} is of a Hub repository, and the {operations.name} backend runs "
            "models by their names: leave it out."
        )
    return True


@contextmanager
def _closed_on_error(model: Model) -> Iterator[None]:
    """Close a model whose settings turn out to be wrong."""
    try:
        yield
    except OptionError:
        model.close()
        raise


def _one(name: str, value: Any, own: dict[str, Any]) -> Any:
    """A value that may come as an argument or in `model_kwargs`."""
    inner = own.pop(name, None)
    if value is not None and inner is not None and value != inner:
        raise OptionError(
            f"{name} is {value!r} as an argument and {inner!r} in model_kwargs: pass one of them."
        )
    return inner if value is None else value


def _apply_prompts(
    model: Model, prompts: Mapping[str, str] | None, default_prompt_name: str | None
) -> None:
    if prompts is not None:
        model.prompts.update(check_prompts(prompts))
    if default_prompt_name is not None:
        check_text_or_none("default_prompt_name", default_prompt_name)
        if default_prompt_name not in model.prompts:
            listed = ", ".join(map(repr, sorted(model.prompts))) or "none"
            raise OptionError(
                f"default_prompt_name={default_prompt_name!r} is not one of the model's prompts: "
                f"{listed}. Add it with prompts={{...}}."
            )
        model.default_prompt_name = default_prompt_name


@check_keywords
def export(
    model_name_or_path: str | os.PathLike[str] | Model,
    target: str | os.PathLike[str] | None = None,
    *,
    backend: str,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    push_to_hub: bool | str = False,
    create_pr: bool = False,
    **options: Any,
) -> Artifact:
    """Write a checkpoint in a backend's format; the result is verified before it is published.

    Args:
        model_name_or_path: As for `load`, of any kind of model; or a loaded model, whose files are
            exported with the options it was loaded with.
        target: A directory; None for the model's own, or the cache for a Hub repository.
        backend: Whose format.
        push_to_hub: True uploads the result to the model's repository, a string to that one.
        create_pr: Upload as a pull request.
        **options: Fields of `core.ExportOptions` (`precision`, `exporter`, `file_name`, ...); any
            other name goes to the backend's exporter.
    """
    operations = hooks(choose_backend(backend))
    check_path_or_none("target", target)
    check_source(revision, token, cache_dir, local_files_only)
    if isinstance(model_name_or_path, Model):
        source = _source_of(model_name_or_path, revision, cache_dir)
        if not source.names and operations.capabilities.source == "checkpoint":
            raise UnsupportedOperation(
                f"{model_name_or_path!r} has no files to export: the {model_name_or_path.backend} "
                "backend runs models by their names."
            )
        options = {**_loaded_with(model_name_or_path), **options}
    else:
        source = resolve(
            model_name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
    check_push(source, push_to_hub, create_pr)
    parsed = ExportOptions(**split_options(options, ExportOptions))
    artifact = operations.export(source, target, parsed)
    return pushed(artifact, source, push_to_hub, create_pr)


def _source_of(model: Model, revision: Any, cache_dir: Any) -> Checkpoint:
    for name, given in (("revision", revision), ("cache_dir", cache_dir)):
        if given is not None:
            raise OptionError(
                f"{name}={given!r} says where to find a model by its name, and {model!r} is "
                "loaded already: leave it out."
            )
    if model.closed:
        raise OptionError(f"{model!r} is closed. Load it again to use it.")
    return model.source


def _loaded_with(model: Model) -> dict[str, Any]:
    """What a model was loaded with and an export must know too."""
    given: dict[str, Any] = {}
    if model.trusts_remote_code:
        given["trust_remote_code"] = True
    if model.config_kwargs:
        given["config_kwargs"] = model.config_kwargs
    return given


@check_keywords
def optimize(
    model: Model,
    config: Any = None,
    target: str | os.PathLike[str] | None = None,
    *,
    file_suffix: str | None = None,
    push_to_hub: bool | str = False,
    create_pr: bool = False,
    **options: Any,
) -> Artifact:
    """Write a faster version of a model's file; verified before it is published.

    Args:
        model: From `core.load`, or another function that loads one.
        config: A preset (`"O2"` for onnx, `"fp16"` for torch, ...) or the backend's configuration
            object; None for the backend's default.
        target: A directory; None for the model's own, or the cache for a Hub repository.
        file_suffix: Of the new file's name; None for the preset's.
        push_to_hub: True uploads the result to the model's repository, a string to that one.
        create_pr: Upload as a pull request.
        **options: Fields of `core.OptimizeOptions`; any other name goes to the backend.
    """
    _check_model(model, "optimize")
    return model.optimize(
        config,
        target,
        file_suffix=file_suffix,
        push_to_hub=push_to_hub,
        create_pr=create_pr,
        **options,
    )


@check_keywords
def quantize(
    model: Model,
    config: Any = None,
    target: str | os.PathLike[str] | None = None,
    *,
    calibration: Any = None,
    file_suffix: str | None = None,
    push_to_hub: bool | str = False,
    create_pr: bool = False,
    **options: Any,
) -> Artifact:
    """Write a version of a model with fewer bits; verified before it is published.

    Args:
        model: From `core.load`, or another function that loads one.
        config: A preset's name or the backend's configuration object; None for its default.
        target: A directory; None for the model's own, or the cache for a Hub repository.
        calibration: Texts like those to be embedded, for configurations that take some: a
            sequence, a `.txt` or `.jsonl` file, or the name of a dataset when `datasets` is
            installed. None for those that come with `core`.
        file_suffix: Of the new file's name; None for the preset's.
        push_to_hub: True uploads the result to the model's repository, a string to that one.
        create_pr: Upload as a pull request.
        **options: Fields of `core.QuantizeOptions`; any other name goes to the backend.
    """
    _check_model(model, "quantize")
    return model.quantize(
        config,
        target,
        calibration=calibration,
        file_suffix=file_suffix,
        push_to_hub=push_to_hub,
        create_pr=create_pr,
        **options,
    )


@check_keywords
def save(model: Model, path: str | os.PathLike[str]) -> Path:
    """Write a model to a directory that this library and sentence-transformers load."""
    _check_model(model, "save")
    return model.save(path)


@check_keywords
def push(
    path: str | os.PathLike[str],
    repo_id: str,
    *,
    create_pr: bool = False,
    text: str | None = None,
    token: str | bool | None = None,
) -> Artifact:
    """Upload an artifact that was made before: its files and its sidecar, nothing else.

    Args:
        path: The file that `export`, `optimize` or `quantize` wrote; its record lies beside it.
        repo_id: The repository, `owner/name`.
        create_pr: As a pull request.
        text: The body of the commit or pull request; None for how it was made, how far it drifts
            and how to load it.
        token: For the Hub; None uses the stored login or `$HF_TOKEN`.

    Returns:
        The artifact, with its `url`.

    Raises:
        ArtifactNotFound: There is no such file, or no record beside it.
        OptionError: No such repository can be, or no connection may be opened.
        ModelError: There is no token, or the Hub refused.
    """
    check_flag("create_pr", create_pr)
    check_text_or_none("text", text)
    artifact = read_artifact(path)
    repository = open_repository(repo_id, token=token)
    check_token(repository)
    return upload_artifact(artifact, repository, create_pr=create_pr, text=text)


def backends() -> dict[str, BackendStatus]:
    """Every installed backend and whether it works. Imports them all."""
    return registry.statuses()


def plugins() -> dict[str, PluginStatus]:
    """Every installed wrapping plugin and whether it works. Imports them all."""
    return registry.plugin_statuses()


@check_keywords
def register_backend(name: str, plugin: Any, *, replace: bool = False) -> None:
    """Offer a backend without packaging it: any object with functions marked `core.hookimpl`.

    Raises:
        OptionError: The name is taken, or "tuned", which `load` takes for something else.
        BackendLoadError: The object is not a valid backend.
    """
    if isinstance(name, str) and name.lower() == TUNED:
        raise OptionError(
            f"backend={TUNED!r} loads what `core tune` chose for a model. Choose another name."
        )
    registry.register(BACKEND_GROUP, name, plugin, replace=replace)


@check_keywords
def register_plugin(name: str, plugin: Any, *, replace: bool = False) -> None:
    """Put a wrapping plugin around every backend without packaging it."""
    registry.register(PLUGIN_GROUP, name, plugin, replace=replace)


def choose_backend(backend: str | None) -> str:
    """The backend to use: as given, `$CORE_BACKEND`, torch if installed, the only one."""
    name = _named_backend(backend)
    if name:
        return name
    names: Sequence[str] = registry.names()
    if "torch" in names:
        return "torch"
    if len(names) == 1:
        return names[0]
    if not names:
        raise BackendNotFound(f"No backend is installed. {install_hint()}")
    raise BackendNotFound(
        f"Several backends are installed: {', '.join(names)}. Choose one with backend=..., or set "
        f"{BACKEND_VARIABLE}."
    )


def _named_backend(backend: Any) -> str | None:
    """What the caller or the environment names; None if core chooses."""
    check_text_or_none("backend", backend)
    return backend or os.environ.get(BACKEND_VARIABLE) or None


def check_source(revision: Any, token: Any, cache_dir: Any, local_files_only: Any) -> None:
    """Raise `OptionError` for what cannot say where a model is from."""
    check_text_or_none("revision", revision)
    check_text_or_flag("token", token)
    check_path_or_none("cache_dir", cache_dir)
    check_flag("local_files_only", local_files_only)


def _check_model(model: Any, operation: str) -> None:
    if not isinstance(model, Model):
        raise OptionError(
            f"core.{operation} takes a model from core.load, not {type(model).__name__}: "
            f"core.{operation}(core.load(...), ...)."
        )
