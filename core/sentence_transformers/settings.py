"""What a `SentenceTransformer` is and computes with, and what it has not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from core.errors import UnsupportedOperation
from core.model import EmbeddingModel
from core.sentence_transformers.arguments import NotProvided, plain
from core.sentence_transformers.placement import (
    device_of,
    dtype_of,
    moved,
    place_of,
    transformers_tokenizer,
)

#: What belongs to training or to torch's modules, and what to do instead.
_NOT_HERE = {
    **dict.fromkeys(
        (
            "fit",
            "old_fit",
            "smart_batching_collate",
            "gradient_checkpointing_enable",
            "backward",
            "zero_grad",
        ),
        "Train with sentence_transformers, and load what it saved here.",
    ),
    **dict.fromkeys(
        (
            "forward",
            "parameters",
            "named_parameters",
            "state_dict",
            "load_state_dict",
            "modules",
            "named_modules",
            "children",
            "named_children",
            "auto_model",
        ),
        "A model here is no torch module; the torch backend's is model.transformers_model.",
    ),
    "save_to_hub": "Its newer name is push_to_hub.",
    "compile": 'A compiled model is an artifact: core.optimize(model.embedding_model, "compile").',
    "set_pooling_include_prompt": 'Set "include_prompt" in the model\'s 1_Pooling/config.json.',
    "merge": "Merge models with sentence_transformers, and load the result here.",
}


class Settings:
    """The attributes of a model, around the `core.EmbeddingModel` underneath."""

    embedding_model: EmbeddingModel

    def __getattr__(self, name: str) -> Any:
        if name in _NOT_HERE:
            raise NotProvided(f"SentenceTransformer.{name} is not in core. {_NOT_HERE[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getitem__(self, index: Any) -> Any:
        raise NotProvided(
            f"model[{index!r}] is a torch module in the reference, and no backend but torch has "
            "any. Its settings are here: model.max_seq_length, model.tokenizer, "
            "model.embedding_model.source.architecture."
        )

    # What it is

    @property
    def prompts(self) -> dict[str, str]:
        """Name to prompt."""
        return self.embedding_model.prompts

    @prompts.setter
    def prompts(self, value: Mapping[str, str]) -> None:
        self.embedding_model.prompts = dict(value)

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
        self.embedding_model.truncate_dim = value

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
        """`"cosine"`, `"dot"`, `"euclidean"` or `"manhattan"`."""
        return self.embedding_model.similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        self.embedding_model.similarity_fn_name = str(plain(value))

    @property
    def max_seq_length(self) -> int | None:
        """Texts are cut after this many tokens."""
        return self.embedding_model.max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.embedding_model.max_seq_length = value

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
    def device(self) -> Any:
        """A `torch.device` with the torch backend; else a string with `type` and `index`."""
        return device_of(self.embedding_model)

    @property
    def dtype(self) -> Any:
        """A `torch.dtype` with the torch backend; else its name."""
        return dtype_of(self.embedding_model)

    @property
    def tokenizer(self) -> Any:
        """transformers' tokenizer of the model, for code that counts or splits tokens.

        A copy: changing it changes nothing here. Needs transformers.
        """
        return transformers_tokenizer(self.embedding_model)

    @property
    def transformers_model(self) -> Any:
        """The torch backend's transformers model."""
        module = getattr(self.embedding_model.runtime, "module", None)
        if module is None:
            raise UnsupportedOperation(
                f"The {self.backend} backend runs a graph, no transformers model: load the model "
                'with backend="torch" for that.'
            )
        return module

    @property
    def modalities(self) -> list[str]:
        """What it embeds."""
        return ["text"]

    # Where and in what it computes

    def to(self, *arguments: Any, **named: Any) -> Self:
        """Compute on another device or in another dtype: the model is loaded again there.

        Raises:
            UnsupportedOperation: The backend computes what its file holds.
        """
        device, dtype = place_of(arguments, named)
        self.embedding_model = moved(self.embedding_model, device, dtype)
        return self

    def half(self) -> Self:
        """Compute in float16."""
        return self.to(dtype="float16")

    def bfloat16(self) -> Self:
        """Compute in bfloat16."""
        return self.to(dtype="bfloat16")

    def float(self) -> Self:
        """Compute in float32."""
        return self.to(dtype="float32")

    def cpu(self) -> Self:
        """Compute on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Compute on an NVIDIA GPU."""
        return self.to(
            "cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device
        )

    def eval(self) -> Self:
        """Nothing: a model here only infers."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Only `train(False)`: training is outside core."""
        if mode:
            raise NotProvided(f"SentenceTransformer.train is not in core. {_NOT_HERE['fit']}")
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Only `requires_grad_(False)`."""
        return self.train(requires_grad)

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """Call an evaluator of sentence-transformers, or any callable, with this model."""
        return evaluator(self, output_path)
