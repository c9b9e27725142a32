"""Texts of a multi-vector model: their tokens, and which of them get vectors.

Queries may be filled up with a token whose vectors count, tokens may be left out, and vectors of
the tokens that are left are cut out of a batch. Rules and their order are those of
sentence-transformers' `Transformer` and `MultiVectorMask`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.batch import TokenBatch
from core.architecture.late_interaction import LateInteraction, QueryExpansion
from core.engine.batching import Batches
from core.tokenizer.tokenizer import TokenizedTexts


@dataclass(frozen=True)
class ScoringRules:
    """Which tokens get vectors, by their ids.

    Attributes:
        expansion: Of queries; None for none.
        expansion_id: The token that fills a query up.
        expansion_side: "left" or "right": where it does so.
        skipped: Token ids without a vector, int64.
        skipped_tasks: In texts encoded as what.
        kept: Token ids that alone have vectors in everything but queries; None for all.
    """

    expansion: QueryExpansion | None = None
    expansion_id: int = 0
    expansion_side: str = "right"
    skipped: NDArray[np.int64] | None = None
    skipped_tasks: tuple[str, ...] = ("document",)
    kept: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        rules: LateInteraction,
        *,
        expansion_id: int,
        skipped: Sequence[int],
        padding_side: str,
    ) -> ScoringRules:
        """A model's rules with its tokenizer's ids."""
        expansion, kept = rules.expansion, rules.keep_only_token_ids
        # One query alone is never padded, and widened on the right.
        fixed = expansion is not None and expansion.strategy == "fixed"
        return cls(
            expansion=expansion,
            expansion_id=expansion_id,
            expansion_side=padding_side if fixed else "right",
            skipped=np.array(skipped, dtype=np.int64) if skipped else None,
            skipped_tasks=rules.skiplist_tasks,
            kept=None if kept is None else np.array(kept, dtype=np.int64),
        )

    def expand(self, tokenized: TokenizedTexts, task: str | None) -> TokenizedTexts:
        """The texts with queries filled up; each still ends where it did by their lengths before.

        Token types of what is added are 0, as all others of a single text are.
        """
        expansion = self.expansion
        if expansion is None or task != "query" or not len(tokenized.lengths):
            return tokenized
        lengths = np.maximum(tokenized.lengths, expansion.length)
        ends, stops = np.cumsum(lengths), np.cumsum(tokenized.lengths)
        starts = ends - (tokenized.lengths if self.expansion_side == "left" else lengths)
        ids = np.full(int(ends[-1]), self.expansion_id, dtype=np.int32)
        inside = np.arange(len(tokenized.ids)) - np.repeat(
            stops - tokenized.lengths, tokenized.lengths
        )
        ids[inside + np.repeat(starts, tokenized.lengths)] = tokenized.ids
        return TokenizedTexts(ids, lengths)

    def marked(self, batch: TokenBatch, lengths: NDArray[np.int64], task: str | None) -> TokenBatch:
        """A batch with its scoring mask; what fills queries up is unseen where that is so.

        Args:
            batch: Padded on the right, of texts from `expand`.
            lengths: Tokens of each row before that.
        """
        present = batch.attention_mask
        expansion = self.expansion
        if expansion is not None and task == "query":
            columns = np.arange(batch.width)
            if self.expansion_side == "left":  # where a row has no padding
                real = columns >= (batch.width - lengths)[:, None]
            else:
                real = columns < lengths[:, None]
            attended = present if expansion.attend else present * real
            added = present * ~real
            batch = replace(batch, attention_mask=attended, expansion_mask=added)
        scored = present.astype(bool)
        if self.skipped is not None and (task or "document") in self.skipped_tasks:
            scored &= ~np.isin(batch.input_ids, self.skipped)
        if self.kept is not None and task != "query":
            scored &= np.isin(batch.input_ids, self.kept)
        return replace(batch, scoring_mask=scored.astype(np.int64))


@dataclass(frozen=True)
class ScoredBatches:
    """Batches with their scoring masks.

    Attributes:
        batches: Of texts from `ScoringRules.expand`, as `cut_batches` sorts them.
        lengths: int64 [texts]: tokens of each text before that, in the order of `batches`.
    """

    batches: Batches
    lengths: NDArray[np.int64]
    rules: ScoringRules
    task: str | None

    @property
    def order(self) -> NDArray[np.int64]:
        """The text at each sorted position."""
        return self.batches.order

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], TokenBatch]]:
        """As `Batches`."""
        for (first, last), (positions, batch) in zip(
            self.batches.bounds, self.batches, strict=True
        ):
            yield positions, self.rules.marked(batch, self.lengths[first:last], self.task)


def cut_out(vectors: Any, batch: TokenBatch) -> list[NDArray[np.float32]]:
    """Of [batch, tokens, dimension] each text's own [tokens, dimension], a copy."""
    mask = batch.attention_mask if batch.scoring_mask is None else batch.scoring_mask
    return [row[kept] for row, kept in zip(vectors, mask.astype(bool), strict=True)]
