"""The body of a `load` hook that runs checkpoints through the shared engine."""

from __future__ import annotations

from core.checkpoint.checkpoint import Checkpoint
from core.engine.limits import check_tokenizer
from core.engine.runtime import RuntimeFactory
from core.engine.static import StaticRuntime
from core.models.embedding import EmbeddingModel
from core.options import LoadOptions
from core.tokenizer.reading import read_tokenizer


def build_model(
    source: Checkpoint, options: LoadOptions, open_runtime: RuntimeFactory
) -> EmbeddingModel:
    """The body of a `load` hook that runs checkpoints through the shared engine.

    Reads the architecture and the tokenizer and calls `open_runtime(source, architecture,
    options)` for the rest. Static embeddings need no runtime of a backend and get the shared one.
    """
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
