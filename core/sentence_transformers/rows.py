"""What models with one embedding for each text share: how alike they are, and tokens."""

from __future__ import annotations

from typing import Any

from core.arguments import check_text_or_none
from core.sentence_transformers.inputs import check_extra, texts_of
from core.sentence_transformers.similarity_functions import every_pair, row_by_row
from core.sentence_transformers.tensors import as_tensor
from core.texts.inputs import check_texts


class Tokens:
    """`tokenize` and `preprocess`."""

    embedding_model: Any

    def tokenize(self, texts: Any, **kwargs: Any) -> dict[str, Any]:
        """The padded batch of texts: int64 tensors [texts, tokens] by name; {} without texts."""
        return self.preprocess(texts, **kwargs)

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """As `tokenize`, with a prompt in front of every text."""
        check_extra(kwargs)
        check_text_or_none("prompt", prompt or None)
        texts = check_texts(texts_of(inputs)[0])
        if not len(texts):
            return {}
        batch = self.embedding_model.tokenize([(prompt or "") + text for text in texts])
        return {name: as_tensor(value) for name, value in batch.items()}


class Rows(Tokens):
    """`similarity` and its kin."""

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Every row of one against every row of the other: a float32 tensor [n, m].

        Without torch installed, an array of the same values.
        """
        return every_pair(embeddings1, embeddings2, self.embedding_model.similarity_fn_name)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Each row of one against the same row of the other: a float32 tensor [n].

        Two vectors give one value; one vector goes with every row of the other.
        """
        return row_by_row(embeddings1, embeddings2, self.embedding_model.similarity_fn_name)
