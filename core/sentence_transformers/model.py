"""`SentenceTransformer`, on `core.load`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core.api import load
from core.checkpoint import LocalFiles
from core.errors import OptionError
from core.pool import ProcessPool
from core.sentence_transformers.arguments import (
    as_tensor,
    one_input,
    plain,
    read_tokenizer_kwargs,
    renamed,
)
from core.sentence_transformers.encoding import check_extra, encode
from core.sentence_transformers.settings import Settings
from core.threads import available_cpus

#: The Hub cache, as older releases name it.
_CACHE_VARIABLE = "SENTENCE_TRANSFORMERS_HOME"
_MOST_PROCESSES = 4


class SentenceTransformer(Settings):
    """An embedding model with sentence-transformers' interface.

    Args:
        model_name_or_path: A directory, `owner/name`, or `name` for `sentence-transformers/name`.
        modules: Not here; a model is loaded from files.
        device: As the backend names it; None lets it choose.
        prompts: Name to prompt, on top of the model's own.
        default_prompt_name: Which of them to use unless told otherwise.
        cache_folder: The Hub cache; None for `$SENTENCE_TRANSFORMERS_HOME`, else its default.
        trust_remote_code: Let code from the model repository run.
        revision: Branch, tag, commit or `refs/pr/N`.
        local_files_only: Open no connection.
        token: For the Hub; `use_auth_token` is its older name.
        model_kwargs: The backend's own options: `dtype` or `torch_dtype`, `attn_implementation`;
            `provider`, `provider_options`, `session_options`; `ov_config`; `file_name`,
            `subfolder`, `export`.
        processor_kwargs: `model_max_length`; `tokenizer_kwargs` is its older name.
        config_kwargs: Overrides of the model's config.json.
        model_card_data: Kept as an attribute; cards describe the model as it is.
        backend: `"torch"`, `"onnx"`, `"openvino"`, or any installed one.
        similarity_fn_name: `"cosine"`, `"dot"`, `"euclidean"` or `"manhattan"`.
        truncate_dim: Leading dimensions to keep of every embedding.

    Raises:
        CoreError: As `core.load`; what is wrong with an argument is a ValueError too.

    Attributes:
        embedding_model: The `core.EmbeddingModel` underneath.
    """

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
        if modules is not None or model_name_or_path is None:
            raise OptionError(
                "A model is loaded from files: pass its directory or its name on the Hub. To put "
                "one together from modules, do so with sentence_transformers, save it, and load it."
            )
        length = read_tokenizer_kwargs(
            renamed("tokenizer_kwargs", "processor_kwargs", tokenizer_kwargs, processor_kwargs)
        )
        own = dict(model_kwargs or {})
        for name in ("dtype", "torch_dtype"):
            if name in own:
                own[name] = plain(own[name])
        # As in the reference, None is an empty prompt.
        named = {name: text or "" for name, text in prompts.items()} if prompts else None
        self.embedding_model = load(
            model_name_or_path,
            backend=backend,
            device=plain(device),
            revision=revision,
            token=renamed("use_auth_token", "token", use_auth_token, token),
            cache_dir=cache_folder or os.environ.get(_CACHE_VARIABLE),
            local_files_only=local_files_only,
            trust_remote_code=trust_remote_code,
            truncate_dim=truncate_dim,
            prompts=named,
            default_prompt_name=default_prompt_name,
            similarity_fn_name=plain(similarity_fn_name),
            model_kwargs=own,
            config_kwargs=config_kwargs,
        )
        self.model_card_data = model_card_data
        if length is not None:
            self.max_seq_length = length

    def __repr__(self) -> str:
        return f"SentenceTransformer({self.embedding_model!r})"

    # Encoding

    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embed texts, in their order.

        Args:
            inputs: One text or a sequence of them; `sentences` is the older name.
            prompt_name: Which of `prompts` to put in front of every text.
            prompt: A prompt to use instead.
            batch_size: The most texts in one batch; batches are cut by tokens below that.
            show_progress_bar: None shows it when logging is at INFO or below.
            output_value: `"sentence_embedding"`; `"token_embeddings"` for a list of tensors
                [tokens, hidden]; None for a dictionary with both and the tokens.
            precision: `"float32"`, `"int8"`, `"uint8"`, `"binary"` or `"ubinary"`.
            convert_to_numpy: False gives a list of tensors.
            convert_to_tensor: One tensor instead of an array.
            device: Moves the model there; a list starts a process for each.
            normalize_embeddings: Scale every embedding to length 1.
            truncate_dim: Leading dimensions to keep.
            pool: From `start_multi_process_pool`.
            chunk_size: Accepted; processes are given chunks that end at about the same time.

        Returns:
            float32 [texts, dimension]; for one text [dimension]. Without texts [0, dimension].

        Raises:
            OptionError: An unknown argument or an input that is no text. It is a ValueError too.
        """
        texts = one_input("inputs", inputs, "sentences", kwargs)
        check_extra(kwargs)
        options = {
            "prompt_name": prompt_name,
            "prompt": prompt,
            "batch_size": batch_size,
            "show_progress_bar": show_progress_bar,
            "output_value": output_value,
            "precision": precision or "float32",
            "normalize_embeddings": normalize_embeddings,
            "truncate_dim": truncate_dim,
        }
        run = functools.partial(
            encode,
            inputs=texts,
            options=options,
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
        )
        if pool is None and isinstance(device, list | tuple) and device:
            with self.start_multi_process_pool(list(device)) as pool:
                return run(self.embedding_model, pool=pool)
        if device is not None and not isinstance(device, list | tuple):
            self.to(device)
        return run(self.embedding_model, pool=pool)

    def encode_query(self, inputs: Any = None, *arguments: Any, **named: Any) -> Any:
        """`encode` with the prompt named `query`, if the model has one and none is given."""
        return self._encode_with(("query",), inputs, arguments, named)

    def encode_document(self, inputs: Any = None, *arguments: Any, **named: Any) -> Any:
        """`encode` with the prompt named `document`, `passage` or `corpus`, the first there is."""
        return self._encode_with(("document", "passage", "corpus"), inputs, arguments, named)

    def _encode_with(
        self, names: Sequence[str], inputs: Any, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        # The first two after the inputs are prompt_name and prompt, as in encode.
        given = {**named, **dict(zip(("prompt_name", "prompt"), arguments, strict=False))}
        if given.get("prompt") is None and given.get("prompt_name") is None:
            given["prompt_name"] = next((name for name in names if name in self.prompts), None)
        rest = arguments[2:]
        return self.encode(
            inputs, given.pop("prompt_name", None), given.pop("prompt", None), *rest, **given
        )

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Every row of one against every row of the other: a float32 tensor [n, m].

        Without torch installed, an array of the same values.
        """
        return self._compare(self.embedding_model.similarity, embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Each row of one against the same row of the other: a float32 tensor [n]."""
        return self._compare(self.embedding_model.similarity_pairwise, embeddings1, embeddings2)

    @staticmethod
    def _compare(function: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        # A tensor's device is where its similarities are expected.
        return as_tensor(
            function(a, b), device=getattr(a, "device", None) if _is_tensor(a) else None
        )

    def tokenize(self, texts: Any, **kwargs: Any) -> dict[str, Any]:
        """The padded batch of texts: int64 tensors [texts, tokens] by name."""
        return self.preprocess(texts, **kwargs)

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """As `tokenize`, with a prompt in front of every text."""
        check_extra(kwargs)
        texts = [(prompt or "") + text for text in inputs]
        batch = self.embedding_model.tokenize(texts)
        return {name: as_tensor(value) for name, value in batch.items()}

    # Processes

    def start_multi_process_pool(self, target_devices: Sequence[Any] | None = None) -> ProcessPool:
        """Processes that each load the model: one a device; on a CPU as many as it has cores.

        Give the result to `encode(pool=...)`; it is also a context manager.
        """
        if target_devices is not None:
            devices = [str(plain(device)) for device in target_devices]
            return ProcessPool(self.embedding_model, devices=devices)
        return ProcessPool(self.embedding_model, min(available_cpus(), _MOST_PROCESSES))

    @staticmethod
    def stop_multi_process_pool(pool: ProcessPool) -> None:
        """End the processes."""
        pool.close()

    def encode_multi_process(
        self,
        sentences: Any,
        pool: ProcessPool,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: str = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> np.ndarray[Any, Any]:
        """`encode(sentences, pool=pool, ...)`, its older spelling."""
        result: np.ndarray[Any, Any] = self.encode(
            sentences,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
        )
        return result

    # Files

    def save(
        self,
        path: str | os.PathLike[str] | None,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model to a directory that core and sentence-transformers load.

        Everything the source directory has is kept: the weights of other backends, too.

        Args:
            path: The directory; None does nothing.
            model_name, train_datasets: For a model card written by training; not used.
            create_model_card: Accepted; a directory without a README.md gets one.
            safe_serialization: Only True: nothing is pickled.
        """
        if not safe_serialization:
            raise OptionError("safe_serialization=False pickles weights; core writes safetensors.")
        if path is not None:
            self.embedding_model.save(path)

    save_pretrained = save

    def push_to_hub(
        self,
        repo_id: str,
        token: str | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str | None = None,
        local_model_path: str | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        train_datasets: list[str] | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the model; returns the URL of the commit or pull request.

        Args:
            repo_id: `owner/name`; created if need be.
            token: None for the stored login or `$HF_TOKEN`.
            private: Of a repository that is created.
            safe_serialization: Only True.
            commit_message: None for one that names the backend.
            local_model_path: Upload this directory, not the model; it must be one `core` loads.
            exist_ok: Commit to a repository that exists.
            replace_model_card: Replace a README.md the repository has.
            train_datasets: Not used.
            revision: The branch.
            create_pr: Open a pull request.
        """
        if not safe_serialization:
            raise OptionError("safe_serialization=False pickles weights; core writes safetensors.")
        options = {
            "token": token,
            "private": private,
            "commit_message": commit_message,
            "exist_ok": exist_ok,
            "replace_model_card": replace_model_card,
            "revision": revision,
            "create_pr": create_pr,
        }
        if local_model_path is None:
            return self.embedding_model.push_to_hub(repo_id, **options)
        with load(local_model_path, backend=self.backend, export=False) as other:
            assert isinstance(other.source.files, LocalFiles)
            return other.push_to_hub(repo_id, **options)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach")
