"""What a multi-vector model does with the tokens of queries and documents, as data.

Names are those of sentence-transformers' `Transformer`, `MultiVectorMask` and
`HierarchicalTokenPooling`.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.options import TASKS as TASKS

EXPANSION_STRATEGIES = ("fixed", "min")

MAXSIM_FUNCTIONS = ("maxsim", "meanmaxsim")


@dataclass(frozen=True)
class QueryExpansion:
    """Queries are filled up with a token, and its vectors count as theirs.

    Attributes:
        length: How many tokens a query then has, special ones included.
        strategy: `"fixed"` cuts longer queries to that; `"min"` leaves them as they are.
        attend: Whether the other tokens see those that were added.
        token: The token; None for the tokenizer's mask token, or else the one that ends a text.
    """

    length: int
    strategy: str = "fixed"
    attend: bool = False
    token: str | None = None


@dataclass(frozen=True)
class TokenPooling:
    """Close vectors of a text are replaced by their mean.

    Attributes:
        pool_factor: About one vector in so many is left; 1 leaves all of them.
        num_protected_tokens: So many leading vectors stay as they are, such as that of [CLS].
        normalize_embeddings: Scale all vectors that are left to length 1.
        tasks: Of `TASKS`, what is pooled; a text that is neither counts as a document.
    """

    pool_factor: float
    num_protected_tokens: int = 1
    normalize_embeddings: bool = True
    tasks: tuple[str, ...] = ("document",)

    def applies_to(self, task: str | None) -> bool:
        """Whether vectors of texts encoded as this are pooled."""
        return (task or "document") in self.tasks


@dataclass(frozen=True)
class LateInteraction:
    """Which tokens of a text get vectors.

    Attributes:
        query_length: Tokens of a query, special ones included; None for the model's limit.
        document_length: The same for a document.
        expansion: None for queries as they are.
        skiplist_words: Tokens without a vector.
        skiplist_tasks: Of `TASKS`, where they have none.
        keep_only_token_ids: Of everything but queries only these tokens have vectors; None for all.
        pooling: Part of the model itself; None for none.
        prefixes: Prompts, or their first words, that are one token where the vocabulary has one.
    """

    query_length: int | None = None
    document_length: int | None = None
    expansion: QueryExpansion | None = None
    skiplist_words: tuple[str, ...] = ()
    skiplist_tasks: tuple[str, ...] = ("document",)
    keep_only_token_ids: tuple[int, ...] | None = None
    pooling: TokenPooling | None = None
    prefixes: tuple[str, ...] = ()
