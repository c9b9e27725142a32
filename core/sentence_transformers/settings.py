"""What models of the drop-in are and are set to, around the model of `core` underneath."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from core.arguments import check_prompts
from core.models.embedding import EmbeddingModel
from core.options import check_positive
from core.sentence_transformers.absent import NotProvided
from core.sentence_transformers.arguments import plain
from core.sentence_transformers.inputs import is_one
from core.sentence_transformers.tokenizer import (
    check_has_files,
    transformers_config,
    transformers_tokenizer,
)


class Underlying:
    """What every kind of model says of the one underneath and sets in it, and what transformers
    makes of its files."""

    embedding_model: Any

    @property
    def backend(self) -> str:
        """Its backend's name."""
        backend: str = self.embedding_model.backend
        return backend

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

    def __len__(self) -> int:
        check_has_files(self.embedding_model, "len(model)")
        return len(self.embedding_model.source.architecture.entries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.embedding_model!r})"

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise NotProvided(
            "model(features) runs torch modules in the reference, and no backend but torch has "
            "any: call what it is for, such as model.encode(texts), or model.predict(pairs)."
        )

    @property
    def prompts(self) -> dict[str, str]:
        """Name to prompt; where texts are embedded, `query` and `document` are there from the
        start, if only as ""."""
        prompts: dict[str, str] = self.embedding_model.prompts
        return prompts

    @prompts.setter
    def prompts(self, value: Mapping[str, str]) -> None:
        self.embedding_model.prompts = check_prompts(value)

    @property
    def default_prompt_name(self) -> str | None:
        """Which prompt is used unless told otherwise."""
        default_prompt_name: str | None = self.embedding_model.default_prompt_name
        return default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, value: str | None) -> None:
        self.embedding_model.default_prompt_name = value

    @property
    def max_seq_length(self) -> int | None:
        """Texts are cut after this many tokens."""
        max_seq_length: int | None = self.embedding_model.max_seq_length
        return max_seq_length

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

    @property
    def modalities(self) -> list[str]:
        """What it reads."""
        return ["text"]

    def supports(self, modality: Any) -> bool:
        """Whether it reads that: only `"text"`."""
        return modality in self.modalities

    def get_model_kwargs(self) -> list[str]:
        """Names of further arguments of `encode`: none."""
        return []

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """Call an evaluator of sentence-transformers, or any callable, with this model."""
        return evaluator(self, output_path)


class Attributes(Underlying):
    """The attributes that every kind of model has which embeds texts."""

    #: What `similarity_fn_name = None` sets.
    usual_similarity: ClassVar[str] = "cosine"

    @property
    def similarity_fn_name(self) -> str:
        """How similarities are computed; set None for what is usual for this kind."""
        similarity_fn_name: str = self.embedding_model.similarity_fn_name
        return similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        self.embedding_model.similarity_fn_name = plain(value) or self.usual_similarity

    def get_embedding_dimension(self) -> Any:
        """Width of the embeddings."""
        return self.embedding_model.dimension

    def _prompt_name(
        self, names: Sequence[str], prompt_name: str | None, prompt: str | None
    ) -> str | None:
        """The name given, else, where there is no prompt either, the first that the model has."""
        if prompt is not None or prompt_name is not None:
            return prompt_name
        return next((name for name in names if name in self.prompts), None)

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether `encode` takes an input as one text rather than as several."""
        return is_one(inputs)


class Settings(Attributes):
    """Those of a `SentenceTransformer` alone."""

    embedding_model: EmbeddingModel

    def __getitem__(self, index: Any) -> Any:
        raise NotProvided(
            f"model[{index!r}] is a torch module in the reference, and no backend but torch has "
            "any. Its settings are here: model.max_seq_length, model.tokenizer, "
            "model.embedding_model.source.architecture."
        )

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

    get_sentence_embedding_dimension = Attributes.get_embedding_dimension
