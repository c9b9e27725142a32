"""The body of a `load` hook that runs checkpoints through the shared engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.architecture.heads import MaskedLanguageHead, Scoring
from core.architecture.kinds import EMBEDDING, MULTI_VECTOR, RERANKER, SPARSE
from core.checkpoint.checkpoint import Checkpoint
from core.engine.limits import check_tokenizer
from core.engine.lookup import read_word_weights
from core.engine.runtime import Runtime, RuntimeFactory
from core.engine.scores import stated_activation
from core.engine.static import StaticRuntime
from core.engine.token_vectors import ScoringRules
from core.models.embedding import EmbeddingModel
from core.models.model import Model
from core.models.multi_vector import MultiVectorEncoder
from core.models.reranker import Reranker
from core.models.sparse import SparseEncoder
from core.options import LoadOptions
from core.tokenizer.chat import read_template
from core.tokenizer.reading import read_tokenizer, unknown_token
from core.tokenizer.scored_tokens import expansion_id, skipped_ids


def build_model(source: Checkpoint, options: LoadOptions, open_runtime: RuntimeFactory) -> Model:
    """The body of a `load` hook that runs checkpoints through the shared engine.

    Reads the architecture and the tokenizer and calls `open_runtime(source, architecture,
    options)` for the rest. Static embeddings need no runtime of a backend and get the shared one.

    Returns:
        The model, of the class that belongs to the architecture's kind: `EmbeddingModel`,
        `Reranker`, `SparseEncoder`, `MultiVectorEncoder`.
    """
    architecture = source.architecture
    return _BUILDERS[architecture.kind](source, options, open_runtime)


def _embedding_model(
    source: Checkpoint, options: LoadOptions, open_runtime: RuntimeFactory
) -> EmbeddingModel:
    architecture = source.architecture
    tokenizer = read_tokenizer(source, architecture)
    if architecture.is_static:
        open_runtime = StaticRuntime.open
    runtime = open_runtime(source, architecture, options)
    check_tokenizer(str(source), runtime, tokenizer)
    if isinstance(runtime, StaticRuntime):
        runtime.check_vocabulary(source, tokenizer)
    return EmbeddingModel(
        source,
        runtime,
        tokenizer=tokenizer,
        prompts=architecture.prompts,
        default_prompt_name=architecture.default_prompt_name,
        similarity_fn_name=architecture.similarity_fn_name,
        truncate_dim=architecture.truncate_dim,
    )


def _reranker(source: Checkpoint, options: LoadOptions, open_runtime: RuntimeFactory) -> Reranker:
    architecture = source.architecture
    head = architecture.head
    assert isinstance(head, Scoring)
    activation = stated_activation(
        head.activation, len(head.labels), options.trust_remote_code, str(source)
    )
    template = read_template(source, architecture)
    tokenizer = read_tokenizer(source, architecture, template)
    runtime: Runtime = open_runtime(source, architecture, options)
    check_tokenizer(str(source), runtime, tokenizer)
    return Reranker(
        source,
        runtime,
        labels=head.labels,
        tokenizer=tokenizer,
        prompts=architecture.prompts,
        default_prompt_name=architecture.default_prompt_name,
        activation=activation,
        template=template,
    )


def _sparse_encoder(
    source: Checkpoint, options: LoadOptions, open_runtime: RuntimeFactory
) -> SparseEncoder:
    architecture = source.architecture
    tokenizer = read_tokenizer(source, architecture)
    folders = {} if architecture.routes is None else architecture.routes.folders
    lookups = {
        folder: read_word_weights(source, architecture, folder)
        for folder in folders.values()
        if folder is not None
    }
    runtime = open_runtime(source, architecture, options)
    check_tokenizer(str(source), runtime, tokenizer)
    return SparseEncoder(
        source,
        runtime,
        tokenizer=tokenizer,
        prompts=architecture.prompts,
        default_prompt_name=architecture.default_prompt_name,
        similarity_fn_name=architecture.similarity_fn_name,
        max_active_dims=architecture.max_active_dims,
        routes=architecture.routes,
        lookups=lookups,
        names_words=isinstance(architecture.head, MaskedLanguageHead),
    )


def _multi_vector(
    source: Checkpoint, options: LoadOptions, open_runtime: RuntimeFactory
) -> MultiVectorEncoder:
    architecture = source.architecture
    rules = architecture.late_interaction
    assert rules is not None
    tokenizer = read_tokenizer(source, architecture)
    filler = expansion_id(source, architecture, tokenizer.backend)
    skipped = skipped_ids(source, tokenizer.backend, rules, unknown_token(tokenizer.backend))
    runtime = open_runtime(source, architecture, options)
    check_tokenizer(str(source), runtime, tokenizer)
    return MultiVectorEncoder(
        source,
        runtime,
        tokenizer=tokenizer,
        scoring_rules=ScoringRules.of(
            rules,
            expansion_id=filler,
            skipped=skipped,
            padding_side=tokenizer.padding_side,
        ),
        late_interaction=rules,
        dimension=architecture.dimension or None,
        prompts=architecture.prompts,
        default_prompt_name=architecture.default_prompt_name,
        similarity_fn_name=architecture.similarity_fn_name,
    )


#: Each kind's builder of a model.
_BUILDERS: Mapping[str, Callable[[Checkpoint, LoadOptions, RuntimeFactory], Model]] = {
    EMBEDDING: _embedding_model,
    RERANKER: _reranker,
    SPARSE: _sparse_encoder,
    MULTI_VECTOR: _multi_vector,
}
