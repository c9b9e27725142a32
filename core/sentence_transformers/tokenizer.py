"""transformers' tokenizer and configuration of a model, for code that asks for them."""

from __future__ import annotations

from typing import Any

from core.architecture.configuration import clean_configuration
from core.errors import UnsupportedOperation
from core.models.model import Model
from core.tokenizer.settings import read_settings
from core.tokenizer.vocabulary import staged_tokenizer


def transformers_tokenizer(model: Model) -> Any:
    """`AutoTokenizer` of the model's files, cut where the model cuts."""
    check_has_files(model, "model.tokenizer")
    transformers = _transformers("model.tokenizer")
    source, architecture = model.source, model.source.architecture
    settings = read_settings(source, architecture)
    with staged_tokenizer(source, architecture, settings, with_tokenizer=True) as folder:
        found = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    if model.max_seq_length is not None:
        found.model_max_length = model.max_seq_length
    return found


def transformers_config(model: Model) -> Any:
    """`AutoConfig` of the model's files; None for models that are not transformers models."""
    check_has_files(model, "model.config")
    source, architecture = model.source, model.source.architecture
    if architecture.is_static:
        return None
    transformers = _transformers("model.config")
    name = architecture.file("config.json")
    folder = source.folder([name]) / architecture.path
    with clean_configuration(source, name, folder) as place:
        return transformers.AutoConfig.from_pretrained(
            str(place), local_files_only=True, trust_remote_code=False
        )


def check_has_files(model: Model, asked: str) -> None:
    """Raise `UnsupportedOperation` for a model that is a name to its backend."""
    if not model.source.names:
        raise UnsupportedOperation(
            f"{asked} is read from a model's files, and {model!r} has none: the {model.backend} "
            "backend runs models by their names."
        )


def _transformers(asked: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UnsupportedOperation(
            f"{asked} is made by transformers, which is not installed: `pip install transformers`. "
            "Without it, model.tokenize(texts) gives the tokens and "
            "model.embedding_model.source.architecture.config the configuration."
        ) from error
    return transformers
