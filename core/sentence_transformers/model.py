"""`SentenceTransformer`, on `core.load`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from core.api import load
from core.arguments import check_keywords, check_mapping_or_none, check_text_or_none
from core.sentence_transformers.absent import Unprovided
from core.sentence_transformers.arguments import (
    plain,
    renamed,
)
from core.sentence_transformers.construction import (
    closed_on_error,
    complete_prompts,
    load_as_asked,
)
from core.sentence_transformers.encoding import Encoding
from core.sentence_transformers.files import Files
from core.sentence_transformers.model_card import SentenceTransformerModelCardData

#: Prompts every model has, empty where neither its files nor the caller give one.
_PROMPTS = ("query", "document")


class SentenceTransformer(Encoding, Files, Unprovided):
    """An embedding model with sentence-transformers' interface.

    Args:
        model_name_or_path: A directory, `owner/name`, or `name` for `sentence-transformers/name`.
        modules: Not here; a model is loaded from files.
        device: As the backend names it; None lets it choose.
        prompts: Name to prompt, on top of the model's own; `query` and `document` are always
            there, empty unless given.
        default_prompt_name: Which of them to use unless told otherwise.
        cache_folder: The Hub cache; None for `$SENTENCE_TRANSFORMERS_HOME`, else its default.
        trust_remote_code: Let code from the model repository run.
        revision: Branch, tag, commit or `refs/pr/N`.
        local_files_only: Open no connection.
        token: For the Hub; `use_auth_token` is its older name.
        model_kwargs: The backend's own options: `dtype` or `torch_dtype`, `attn_implementation`;
            `provider`, `provider_options`, `session_options`; `ov_config`; `file_name`,
            `subfolder`, `export`. A `device_map` that names one device is that device. What only
            says how weights get into memory is accepted: `low_cpu_mem_usage`, `use_safetensors`.
        processor_kwargs: `model_max_length`; `tokenizer_kwargs` is its older name.
        config_kwargs: Overrides of the model's config.json.
        model_card_data: Goes into the README.md written for a model that has no README.md yet.
        backend: `"torch"`, `"onnx"`, `"openvino"`, or any installed one; `"tuned"` for what
            `core tune` chose, which the default does not follow: the reference's is `"torch"`.
        similarity_fn_name: `"cosine"`, `"dot"`, `"euclidean"` or `"manhattan"`.
        truncate_dim: Leading dimensions to keep of every embedding.

    Raises:
        CoreError: As `core.load`; what is wrong with an argument is a ValueError too.

    Attributes:
        embedding_model: The `core.EmbeddingModel` underneath.
    """

    @check_keywords
    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        modules: Any = None,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        use_auth_token: bool | str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
        similarity_fn_name: Any = None,
        truncate_dim: int | None = None,
    ) -> None:
        check_text_or_none("default_prompt_name", default_prompt_name)
        check_mapping_or_none("tokenizer_kwargs", tokenizer_kwargs)
        self.embedding_model = load_as_asked(
            load,
            model_name_or_path,
            modules=modules,
            device=device,
            prompts=prompts,
            cache_folder=cache_folder,
            trust_remote_code=trust_remote_code,
            revision=revision,
            local_files_only=local_files_only,
            token=renamed("use_auth_token", "token", use_auth_token, token),
            model_kwargs=model_kwargs,
            processor_kwargs=renamed(
                "tokenizer_kwargs", "processor_kwargs", tokenizer_kwargs, processor_kwargs
            ),
            config_kwargs=config_kwargs,
            backend=backend,
            similarity_fn_name=plain(similarity_fn_name),
        )
        self.model_card_data = model_card_data or SentenceTransformerModelCardData()
        with closed_on_error(self.embedding_model):
            if truncate_dim is not None:
                self.truncate_dim = truncate_dim
        complete_prompts(self.embedding_model, (*_PROMPTS, *(prompts or ())), default_prompt_name)

    @staticmethod
    def load(input_path: str) -> SentenceTransformer:
        """`SentenceTransformer(input_path)`, its older spelling."""
        return SentenceTransformer(input_path)
