"""The reference's token pooling, for `encode(..., token_pooling=...)` and for vectors at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.arguments import check_keywords
from core.engine.token_pooling import chosen_pooling, pool_tokens
from core.errors import OptionError
from core.sentence_transformers.tensors import as_array, as_tensor, is_tensor

__all__ = ["HierarchicalTokenPooling"]


class HierarchicalTokenPooling:
    """Close vectors of a text are replaced by their mean, by Ward's method on cosine distances.

    Args:
        pool_factor: About one vector in so many is left; 1.0 joins none.
        num_protected_tokens: So many leading vectors stay as they are.
        normalize_embeddings: Scale all vectors that are left to length 1.
        tasks: What is pooled: `"document"`, `"query"` or both; None for documents.

    Raises:
        OptionError: Numbers out of range. It is a ValueError too.
    """

    @check_keywords
    def __init__(
        self,
        pool_factor: float = 1.0,
        *,
        num_protected_tokens: int = 1,
        normalize_embeddings: bool = True,
        tasks: str | Sequence[str] | None = None,
    ) -> None:
        self.pool_factor = pool_factor
        self.num_protected_tokens = num_protected_tokens
        self.normalize_embeddings = normalize_embeddings
        self.tasks = [tasks] if isinstance(tasks, str) else list(tasks or ["document"])
        chosen_pooling(self)

    def __repr__(self) -> str:
        return f"HierarchicalTokenPooling(pool_factor={self.pool_factor})"

    def applies_to(self, task: str | None) -> bool:
        """Whether vectors of texts encoded as this are pooled; None counts as a document."""
        return (task or "document") in self.tasks

    @check_keywords
    def pool(
        self,
        embeddings: Any,
        *,
        task: str | None = None,
        attention_mask: Any = None,
        padding_side: str = "right",
    ) -> Any:
        """Vectors of several texts, pooled.

        Args:
            embeddings: A list of tensors or arrays [tokens, dimension], or a padded tensor
                [texts, tokens, dimension].
            task: What the texts were encoded as.
            attention_mask: [texts, tokens]: which vectors of a padded tensor are no padding; None
                where padding is zeros.
            padding_side: `"right"` or `"left"`, of a padded tensor.

        Returns:
            A list of tensors, or a padded tensor, as was given.
        """
        if not self.applies_to(task):
            return embeddings
        if isinstance(embeddings, list | tuple):
            return [self.pool_one(one) for one in embeddings]
        if padding_side not in ("left", "right"):
            raise OptionError(f"padding_side must be 'left' or 'right', not {padding_side!r}.")
        padded = as_array(embeddings)
        if padded.ndim != 3:
            raise OptionError(
                "embeddings must be a list of [tokens, dimension], or [texts, tokens, dimension], "
                f"not {list(padded.shape)}."
            )
        if attention_mask is None:
            kept = [_within(rows.any(axis=1), padding_side) for rows in padded]
        else:
            kept = list(as_array(attention_mask).astype(bool))
        pooled = [self._pooled(rows[mask]) for rows, mask in zip(padded, kept, strict=True)]
        width = max(map(len, pooled), default=0)
        result = np.zeros((len(pooled), width, padded.shape[2]), dtype=np.float32)
        for row, vectors in zip(result, pooled, strict=True):
            place = slice(width - len(vectors), None) if padding_side == "left" else None
            row[place or slice(len(vectors))] = vectors
        return _like(result, embeddings)

    def pool_one(self, embedding: Any) -> Any:
        """The vectors of one text, a tensor or an array [tokens, dimension], pooled."""
        return _like(self._pooled(as_array(embedding)), embedding)

    def _pooled(self, rows: Any) -> Any:
        return pool_tokens(
            rows, self.pool_factor, self.num_protected_tokens, self.normalize_embeddings
        )


def _within(real: Any, padding_side: str) -> Any:
    """True up to the last real vector, or from the first."""
    (places,) = np.nonzero(real)
    mask = np.zeros(len(real), dtype=bool)
    if len(places):
        mask[places[0] if padding_side == "left" else 0 :] = True
        if padding_side == "right":
            mask[places[-1] + 1 :] = False
    return mask


def _like(array: Any, given: Any) -> Any:
    if not is_tensor(given):
        return array
    dtype = str(given.dtype).removeprefix("torch.")
    return as_tensor(array, device=given.device, dtype=dtype)
