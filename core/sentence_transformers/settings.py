"""What a `SentenceTransformer` is and is set to, around the `core.EmbeddingModel` underneath."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from core.arguments import check_prompts
from core.models.embedding import EmbeddingModel
from core.options import check_positive
from core.sentence_transformers.absent import NotProvided
from core.sentence_transformers.arguments import plain
from core.sentence_transformers.inputs import is_one
from core.sentence_transformers.tokenizer import transformers_config, transformers_tokenizer


class Settings:
    """The attributes of a model that are read, and those that can be set."""

    embedding_model: EmbeddingModel

    def __len__(self) -> int:
        return len(self.embedding_model.source.architecture.entries)

    def __getitem__(self, index: Any) -> Any:
        raise NotProvided(
            f"model[{index!r}] is a torch module in the reference, and no backend but torch has "
            "any. Its settings are here: model.max_seq_length, model.tokenizer, "
            "model.embedding_model.source.architecture."
        )

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise NotProvided(
            "model(features) runs torch modules in the reference, and no backend but torch has "
            "any: model.encode(texts), or model.encode(texts, output_value=None) for the tokens "
            "and their embeddings as well."
        )

    @property
    def prompts(self) -> dict[str, str]:
        """Name to prompt; `query` and `document` are there from the start, if only as ""."""
        return self.embedding_model.prompts

    @prompts.setter
    def prompts(self, value: Mapping[str, str]) -> None:
        self.embedding_model.prompts = check_prompts(value)

    @property
    def default_prompt_name(self) -> str | None:
        """Which prompt is used unless told otherwise."""
        return self.embedding_model.default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, value: str | None) -> None:
        self.embedding_model.default_prompt_name = value

    @property
    def truncate_dim(self) -> int | None:
        """Leading dimensions kept of every embedding; None for all."""
        return self.embedding_model.truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, value: int | None) -> None:
        # More than there are keeps all of them, as in the reference.
        self.embedding_model.restore({"truncate_dim": check_positive("truncate_dim", value)})

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Inside, `encode` keeps this many dimensions."""
        before = self.truncate_dim
        self.truncate_dim = truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

    @property
    def similarity_fn_name(self) -> str:
        """`"cosine"`, `"dot"`, `"euclidean"` or `"manhattan"`; set None for cosine."""
        return self.embedding_model.similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        self.embedding_model.similarity_fn_name = plain(value) or "cosine"

    @property
    def max_seq_length(self) -> int | None:
        """Texts are cut after this many tokens."""
        return self.embedding_model.max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        length = check_positive("max_seq_length", value)
        if length is None:
            self.embedding_model.max_seq_length = None
        # More than the model has positions for is accepted, as in the reference.
        self.embedding_model.restore({"max_seq_length": length})

    def get_max_seq_length(self) -> int | None:
        """`max_seq_length`, its older spelling."""
        return self.max_seq_length

    def get_embedding_dimension(self) -> int:
        """Width of the embeddings."""
        return self.embedding_model.dimension

    get_sentence_embedding_dimension = get_embedding_dimension

    @property
    def backend(self) -> str:
        """Its backend's name."""
        return self.embedding_model.backend

    def get_backend(self) -> str:
        """Its backend's name."""
        return self.backend

    @property
    def tokenizer(self) -> Any:
        """transformers' tokenizer of the model, for code that counts or splits tokens.

        A copy: changing it changes nothing here. Needs transformers.
        """
        return transformers_tokenizer(self.embedding_model)

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        raise NotProvided(
            "A model's tokenizer is read from its files and cannot be replaced: save the other "
            "tokenizer into the model's directory, and load that."
        )

    @property
    def processor(self) -> Any:
        """`tokenizer`: of a model of texts they are the same."""
        return self.tokenizer

    @property
    def config(self) -> Any:
        """transformers' configuration of the model; None for static embeddings.

        With other backends than torch a copy, and it needs transformers.
        """
        own = getattr(self.transformers_model, "config", None)
        return transformers_config(self.embedding_model) if own is None else own

    @property
    def transformers_model(self) -> Any:
        """The torch backend's transformers model; None where a graph runs, not a module."""
        return getattr(self.embedding_model.runtime, "module", None)

    @property
    def modalities(self) -> list[str]:
        """What it embeds."""
        return ["text"]

    def supports(self, modality: Any) -> bool:
        """Whether it embeds that: only `"text"`."""
        return modality in self.modalities

    def get_model_kwargs(self) -> list[str]:
        """Names of further arguments of `encode`: none."""
        return []

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether `encode` takes an input as one text rather than as several."""
        return is_one(inputs)

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """Call an evaluator of sentence-transformers, or any callable, with this model."""
        return evaluator(self, output_path)
