"""What a checkpoint computes, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.architecture.chat_template import ChatTemplate
from core.architecture.heads import Head, Scoring
from core.architecture.late_interaction import LateInteraction
from core.architecture.modules import Module
from core.architecture.routes import Routes
from core.architecture.token_heads import TokenHeads
from core.options import DENSE

#: Older names of sentence_bert_config.json, all of the same content.
TRANSFORMER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint computes.

    Attributes:
        path: Where the transformer (or static embedding) lies, relative to the checkpoint; ""
            for its top.
        is_static: A table of token embeddings instead of a transformer.
        entries: (class, folder) of every module as modules.json lists them, the transformer first.
        modules: What follows the transformer, in order.
        config: The transformer's config.json, its `text_config` in its place if it has one.
        hidden_size: Width of a token embedding, or how many logits a token has; 0 if no file states
            it.
        dimension: Width of a sentence embedding, or how many scores a pair has; 0 if no file states
            it.
        max_seq_length: In tokens, special ones included; None for no limit.
        max_positions: Tokens that it has absolute positions for; None where that sets no limit.
        do_lower_case: Lower-case every text before tokenizing.
        model_kwargs: Load options the model's author stored (`model_args`).
        config_kwargs: The same for the configuration (`config_args`).
        tokenizer_kwargs: The same for the tokenizer (`tokenizer_args`).
        prompts: Name to prompt.
        default_prompt_name: Which of them to use unless told otherwise.
        similarity_fn_name: Of `SIMILARITIES`; of a multi-vector model one of `MAXSIM_FUNCTIONS`.
        truncate_dim: Leading dimensions to keep, or None.
        kind: Of `core.architecture.kinds.KINDS`.
        head: What the transformer is loaded with besides its layers; None for nothing.
        chat_template: Makes one text of a pair; None where a pair is given to the tokenizer.
        max_active_dims: Of a sparse encoder: the most values an embedding keeps; None for all.
        routes: Of a sparse encoder: which texts take another way than through the transformer;
            None where all take that one.
        late_interaction: Of a multi-vector model: which tokens get vectors.
        token_heads: Of an embedding model: what computes other embeddings beside `modules`; None
            for nothing.
    """

    path: str
    is_static: bool
    entries: tuple[tuple[str, str], ...]
    modules: tuple[Module, ...]
    config: Mapping[str, Any]
    hidden_size: int
    dimension: int
    max_seq_length: int | None = None
    max_positions: int | None = None
    do_lower_case: bool = False
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    config_kwargs: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_kwargs: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str = "cosine"
    truncate_dim: int | None = None
    kind: str = "embedding"
    head: Head | None = None
    chat_template: ChatTemplate | None = None
    max_active_dims: int | None = None
    routes: Routes | None = None
    late_interaction: LateInteraction | None = None
    token_heads: TokenHeads | None = None

    def file(self, name: str) -> str:
        """The checkpoint-relative name of a file beside the transformer."""
        return f"{self.path}/{name}" if self.path else name

    @property
    def model_type(self) -> str:
        """transformers' name of the architecture ("bert", "modernbert", ...), or ""."""
        return str(self.config.get("model_type", ""))

    @property
    def query_length(self) -> int | None:
        """Of a multi-vector model: tokens of a query."""
        return None if self.late_interaction is None else self.late_interaction.query_length

    @property
    def document_length(self) -> int | None:
        """Of a multi-vector model: tokens of a document."""
        return None if self.late_interaction is None else self.late_interaction.document_length

    @property
    def outputs(self) -> tuple[str, ...]:
        """Kinds of embeddings that an embedding model gives, of `core.options.OUTPUTS`."""
        return (DENSE, *(() if self.token_heads is None else self.token_heads.names))

    @property
    def activation(self) -> str | None:
        """What is applied to a reranker's scores, as its files state it; None if they do not."""
        return self.head.activation if isinstance(self.head, Scoring) else None
