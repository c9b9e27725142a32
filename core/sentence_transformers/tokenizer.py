"""transformers' tokenizer and configuration of a model, for code that asks for them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from core.architecture.configuration import clean_configuration
from core.errors import UnsupportedOperation
from core.models.embedding import EmbeddingModel
from core.tokenizer.reading import text_files


def transformers_tokenizer(model: EmbeddingModel) -> Any:
    """`AutoTokenizer` of the model's files, cut where the model cuts."""
    found = _from_files("AutoTokenizer", "model.tokenizer", model)
    if model.max_seq_length is not None:
        found.model_max_length = model.max_seq_length
    return found


def transformers_config(model: EmbeddingModel) -> Any:
    """`AutoConfig` of the model's files; None for models that are no transformers model."""
    if model.source.architecture.is_static:
        return None
    return _from_files("AutoConfig", "model.config", model)


def _from_files(class_name: str, asked: str, model: EmbeddingModel) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UnsupportedOperation(
            f"{asked} is made by transformers, which is not installed: `pip install transformers`. "
            "Without it, model.tokenize(texts) gives the tokens and "
            "model.embedding_model.source.architecture.config the configuration."
        ) from error
    source, architecture = model.source, model.source.architecture
    folder = source.folder(text_files(source, architecture)) / architecture.path
    name = architecture.file("config.json")
    clean: AbstractContextManager[Path] = nullcontext(folder)
    if class_name == "AutoConfig" and source.has(name):
        clean = clean_configuration(source, name, folder)
    with clean as place:
        return getattr(transformers, class_name).from_pretrained(
            str(place), local_files_only=True, trust_remote_code=False
        )
