"""What a model consists of, without opening (or downloading) its weights: behind `core info`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from core.architecture.architecture import Architecture
from core.architecture.heads import Head, LogitScore, MaskedLanguageHead, Scoring
from core.architecture.kinds import EMBEDDING
from core.architecture.late_interaction import LateInteraction
from core.architecture.modules import Dense, LayerNorm, Module, Normalize, Pooling
from core.architecture.reading import read_architecture
from core.architecture.sparse_modules import SparseAutoEncoder, SpladePooling
from core.artifacts.artifact import DTYPE_PRECISIONS
from core.artifacts.tuned import LOCK_NAME
from core.checkpoint.checkpoint import Checkpoint
from core.errors import CoreError
from core.files.weights import WEIGHT_FILES
from core.operations.backend_choice import fallback_file
from core.operations.file_choice import (
    companions,
    find_artifacts,
    is_exportable,
    is_last_resort,
    preferred,
    read_sidecar,
    stated_precision,
)
from core.operations.lineage import made_from_others
from core.operations.tuned import check_choice, read_choice
from core.plugin.capabilities import Capabilities
from core.plugin.registry import registry


@dataclass(frozen=True)
class FoundArtifact:
    """A file a backend can load.

    Attributes:
        size: Bytes, its external data included; None if the Hub does not say.
        precision: From its sidecar, else from its name or config.json; None if neither states it.
        default: Whether the backend loads it unless told otherwise.
        operation: What made it, from its sidecar.
        verification: Its sidecar's: cosines to what it was made from.
        made_from_other: The file it was made from, where another one is in its place by now.
    """

    backend: str
    file: str
    size: int | None
    precision: str | None
    default: bool
    operation: str | None = None
    verification: dict[str, Any] | None = None
    made_from_other: str | None = None


@dataclass(frozen=True)
class FoundChoice:
    """What `core tune` chose for a model, from its `core_tuned.json`.

    Attributes:
        fits: Whether `core.load` follows it on this machine. Of a repository, the content of files
            is not looked at.
        why: Why it does not; None if it does.
        backend: None where the document cannot be read, as all that follows.
    """

    fits: bool
    why: str | None
    backend: str | None = None
    file_name: str | None = None
    device: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    objective: str | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    tuned_at: str | None = None


@dataclass(frozen=True)
class ModelInfo:
    """What `core info` prints; None where no file states it."""

    model: str
    commit: str | None
    architecture: str | None
    modules: list[str]
    dimension: int | None
    max_seq_length: int | None
    similarity: str
    truncate_dim: int | None
    prompts: dict[str, str]
    default_prompt_name: str | None
    kind: str = EMBEDDING
    labels: list[str] | None = None
    activation: str | None = None
    query_length: int | None = None
    document_length: int | None = None
    max_active_dims: int | None = None
    outputs: list[str] = field(default_factory=list)
    artifacts: list[FoundArtifact] = field(default_factory=list)
    tuned: FoundChoice | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def inspect_model(source: Checkpoint) -> ModelInfo:
    """Read configuration files and sidecars of a checkpoint, and nothing larger."""
    architecture = read_architecture(source, kind=source.kind, weights=False)
    head = architecture.head
    labels = list(head.labels) if isinstance(head, Scoring) else None
    return ModelInfo(
        model=source.repo_id or source.name,
        commit=source.commit,
        architecture=architecture.model_type or None,
        modules=describe_modules(architecture),
        dimension=(architecture.dimension or None) if labels is None else None,
        max_seq_length=architecture.max_seq_length,
        similarity=architecture.similarity_fn_name,
        truncate_dim=architecture.truncate_dim,
        prompts=dict(architecture.prompts),
        default_prompt_name=architecture.default_prompt_name,
        kind=architecture.kind,
        labels=labels,
        activation=architecture.activation,
        query_length=architecture.query_length,
        document_length=architecture.document_length,
        max_active_dims=architecture.max_active_dims,
        outputs=list(architecture.outputs) if architecture.kind == EMBEDDING else [],
        artifacts=list_artifacts(source, architecture),
        tuned=inspect_choice(source),
    )


def inspect_choice(source: Checkpoint) -> FoundChoice | None:
    """What `core tune` chose, and whether that holds here; None where it chose nothing."""
    if not source.available(LOCK_NAME):
        return None
    try:
        choice = read_choice(source)
    except CoreError as error:
        return FoundChoice(fits=False, why=str(error))
    why = None
    try:
        check_choice(choice, source, contents=source.directory is not None)
    except CoreError as error:
        why = str(error)
    return FoundChoice(
        fits=why is None,
        why=why,
        backend=choice.backend,
        file_name=choice.file_name,
        device=choice.device,
        options=dict(choice.options),
        objective=choice.objective,
        measured=dict(choice.measured),
        tuned_at=choice.tuned_at,
    )


def describe_modules(architecture: Architecture) -> list[str]:
    """One phrase a module, the transformer first."""
    if architecture.is_static:
        first = "StaticEmbedding"
    else:
        first = f"Transformer ({architecture.model_type or 'unknown'})"
    heads = [] if architecture.head is None else [_describe_head(architecture.head)]
    rules = architecture.late_interaction
    last = [] if rules is None else _describe_rules(rules)
    modules = [first, *heads, *map(_describe, architecture.modules), *last]
    if architecture.routes is not None:
        folders = architecture.routes.folders.items()
        looked_up = ", ".join(route for route, folder in folders if folder is not None)
        modules.insert(0, f"Router (SparseStaticEmbedding for {looked_up or 'nothing'})")
    return modules


def _describe_rules(rules: LateInteraction) -> list[str]:
    """What a multi-vector model does with tokens."""
    expansion, words = rules.expansion, len(rules.skiplist_words)
    said = []
    if expansion is not None:
        least = "at least " if expansion.strategy == "min" else ""
        said.append(f"queries filled up to {least}{expansion.length} tokens")
    if words:
        said.append(f"{words} words left out of {' and '.join(rules.skiplist_tasks)}")
    phrases = [f"MultiVectorMask ({', '.join(said)})" if said else "MultiVectorMask"]
    if rules.pooling is not None:
        phrases.append(f"HierarchicalTokenPooling (factor {rules.pooling.pool_factor:g})")
    return phrases


def _describe_head(head: Head) -> str:
    if isinstance(head, LogitScore):
        less = "" if head.false_token is None else f" - {head.false_token}"
        return f"LogitScore (token {head.true_token}{less})"
    if isinstance(head, Scoring):
        count = len(head.labels)
        return f"classification head ({count} {'label' if count == 1 else 'labels'})"
    if isinstance(head, MaskedLanguageHead):
        return "masked language head"
    return type(head).__name__


def _describe(module: Module) -> str:
    if isinstance(module, Pooling):
        prompt = "" if module.include_prompt else ", without the prompt"
        return f"Pooling ({' + '.join(module.modes)}{prompt})"
    if isinstance(module, Dense):
        outputs, inputs = module.weight.shape
        residual = ", residual" if module.use_residual else ""
        return f"Dense ({inputs} to {outputs}, {module.activation}{residual})"
    if isinstance(module, LayerNorm):
        return "LayerNorm"
    if isinstance(module, SpladePooling):
        return f"SpladePooling ({module.strategy}, {module.activation})"
    if isinstance(module, SparseAutoEncoder):
        outputs, inputs = module.weight.shape
        return f"SparseAutoEncoder ({inputs} to {outputs}, {module.k} kept)"
    return "Normalize" if isinstance(module, Normalize) else type(module).__name__


def list_artifacts(source: Checkpoint, architecture: Architecture) -> list[FoundArtifact]:
    """Every file an installed backend can load, defaults first, backends in their order."""
    found = []
    for name, backend in registry.working():
        capabilities = backend.capabilities
        if architecture.is_static:
            files = [n for n in map(architecture.file, WEIGHT_FILES) if source.has(n)][:1]
        else:
            files = find_artifacts(source.names, capabilities, architecture.path)
            files = preferred(source, capabilities, files, architecture.path)
            if not files and not is_exportable(source, capabilities, architecture.path):
                other = fallback_file(source, capabilities, architecture.path)
                files = [other] if other else []
        for number, file in enumerate(files):
            path = architecture.path
            exported = is_last_resort(source, capabilities, file, path) and is_exportable(
                source, capabilities, path
            )
            default = number == 0 and not exported
            found.append(
                _inspect_file(source, architecture, name, file, capabilities, default=default)
            )
    return found


def _inspect_file(
    source: Checkpoint,
    architecture: Architecture,
    backend: str,
    file: str,
    capabilities: Capabilities,
    *,
    default: bool,
) -> FoundArtifact:
    sidecar = read_sidecar(source, file)
    verification = sidecar.get("verification")
    _, other = made_from_others(source, file) or (file, None)
    return FoundArtifact(
        backend=backend,
        file=file,
        size=_size(source, file, sidecar, capabilities),
        precision=stated_precision(source, file) or _precision(file, architecture),
        default=default,
        operation=sidecar.get("operation"),
        verification=verification if isinstance(verification, dict) else None,
        made_from_other=other,
    )


def _size(
    source: Checkpoint, file: str, sidecar: dict[str, Any], capabilities: Capabilities
) -> int | None:
    listed = sidecar.get("files")
    names = {file, *companions(file, source.names, capabilities)}
    names |= {n for n in listed if isinstance(n, str)} if isinstance(listed, list) else set()
    sizes = [source.size(name) for name in sorted(names) if source.has(name)]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _precision(file: str, architecture: Architecture) -> str | None:
    if "/" in file.removeprefix(architecture.file("")):
        return "fp32"  # an export's default
    stated = architecture.config.get("dtype") or architecture.config.get("torch_dtype")
    return DTYPE_PRECISIONS.get(
        str(stated).removeprefix("torch."), "fp32" if stated is None else None
    )
