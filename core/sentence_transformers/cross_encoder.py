"""`CrossEncoder`, on `core.load_reranker`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.api import load_reranker
from core.arguments import check_keywords
from core.distributed.pool import ProcessPool
from core.engine.scores import chosen_activation
from core.errors import OptionError
from core.models.reranker import Reranker
from core.options import check_positive
from core.sentence_transformers.absent import Absent, NotProvided, Unprovided
from core.sentence_transformers.arguments import (
    older_positions,
    renamed,
    with_organization,
)
from core.sentence_transformers.construction import closed_on_error, load_as_asked
from core.sentence_transformers.inputs import check_extra, one_prompt_name
from core.sentence_transformers.processes import Processes
from core.sentence_transformers.settings import Underlying
from core.sentence_transformers.tensors import as_tensor
from core.texts.pairs import is_one_pair

#: The Hub cache, as older releases name it.
_CACHE_VARIABLE = "SENTENCE_TRANSFORMERS_HOME"
#: The organization of a name without one.
_ORGANIZATION = "cross-encoder"


class CrossEncoder(Underlying, Processes, Unprovided):
    """A reranker with sentence-transformers' interface.

    Args:
        model_name_or_path: A directory, `owner/name`, or `name` for `cross-encoder/name`;
            `model_name` is its older name.
        modules: Not here; a model is loaded from files.
        device, cache_folder, trust_remote_code, revision, local_files_only, token, model_kwargs,
            processor_kwargs, config_kwargs, backend, prompts, default_prompt_name: As for
            `SentenceTransformer`.
        num_labels: How many scores the model gives; it must be what its files say.
        max_length: Tokens of a pair, special ones included.
        activation_fn: Applied to the scores: a torch module, a function, or a name.
        automodel_args, tokenizer_args, config_args, cache_dir, default_activation_function: Older
            names of model_kwargs, processor_kwargs, config_kwargs, cache_folder, activation_fn.

    Without their names, num_labels, max_length, activation_fn and device may follow the model in
    this order, as in older releases.

    Raises:
        CoreError: As `core.load_reranker`; what is wrong with an argument is a ValueError too.

    Attributes:
        embedding_model: The `core.Reranker` underneath, also as `reranker`.
    """

    @older_positions("num_labels", "max_length", "activation_fn", "device")
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
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Any = None,
        model_name: str | os.PathLike[str] | None = None,
        automodel_args: Mapping[str, Any] | None = None,
        tokenizer_args: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_args: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        default_activation_function: Any = None,
    ) -> None:
        name = renamed("model_name", "model_name_or_path", model_name, model_name_or_path)
        tokenizer_kwargs = renamed(
            "tokenizer_args", "tokenizer_kwargs", tokenizer_args, tokenizer_kwargs
        )
        processor_kwargs = renamed(
            "tokenizer_kwargs", "processor_kwargs", tokenizer_kwargs, processor_kwargs
        )
        model_kwargs = renamed("automodel_args", "model_kwargs", automodel_args, model_kwargs)
        config_kwargs = renamed("config_args", "config_kwargs", config_args, config_kwargs)
        self.embedding_model: Reranker = load_as_asked(
            load_reranker,
            None if name is None else with_organization(name, _ORGANIZATION),
            modules=modules,
            device=device,
            prompts=prompts,
            cache_folder=renamed("cache_dir", "cache_folder", cache_dir, cache_folder),
            trust_remote_code=trust_remote_code,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            model_kwargs=model_kwargs,
            processor_kwargs=processor_kwargs,
            config_kwargs=config_kwargs,
            backend=backend,
            default_prompt_name=default_prompt_name,
            activation_fn=renamed(
                "default_activation_function",
                "activation_fn",
                default_activation_function,
                activation_fn,
            ),
        )
        self.model_card_data = model_card_data
        with closed_on_error(self.embedding_model):
            self._check_labels(check_positive("num_labels", num_labels))
            most = check_positive("max_length", max_length)
            if most is not None:
                # More than the model has positions for is accepted, as in the reference.
                self.embedding_model.restore({"max_seq_length": most})

    def _check_labels(self, asked: int | None) -> None:
        found = len(self.reranker.labels)
        if asked is not None and asked != found:
            raise OptionError(
                f"num_labels={asked}: the model gives {found} scores for a pair. Another number "
                "needs a new classification head, which is made by training: do so with "
                "sentence_transformers."
            )

    # What it is

    @property
    def reranker(self) -> Reranker:
        """The `core.Reranker` underneath."""
        return self.embedding_model

    @property
    def num_labels(self) -> int:
        """How many scores it gives for a pair."""
        return len(self.reranker.labels)

    @property
    def activation_fn(self) -> Any:
        """What is applied to the scores unless `predict` is told otherwise; it can be set."""
        return self.reranker.activation_fn

    @activation_fn.setter
    def activation_fn(self, value: Any) -> None:
        self.reranker.activation_fn = value

    default_activation_function = activation_fn

    max_length = Underlying.max_seq_length

    #: The older name of `transformers_model`.
    model = Underlying.transformers_model

    get_default_activation_fn = Absent(
        "get_default_activation_fn", "model.activation_fn is it until another is set."
    )
    set_keep_in_fp32_modules = Absent(
        "set_keep_in_fp32_modules", "All layers compute in one dtype: load the model in float32."
    )

    def __getitem__(self, index: Any) -> Any:
        raise NotProvided(
            f"model[{index!r}] is a torch module in the reference, and no backend but torch has "
            "any. Its settings are here: model.reranker.source.architecture."
        )

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether `predict` takes an input as one pair rather than as several."""
        return is_one_pair(inputs)

    def tokenize(self, texts: Any, **kwargs: Any) -> dict[str, Any]:
        """The padded batch of pairs: int64 tensors [pairs, tokens] by name; {} without pairs."""
        return self.preprocess(texts, **kwargs)

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """As `tokenize`.

        Raises:
            OptionError: A prompt: where it goes depends on the model, and `predict` puts it there.
        """
        check_extra(kwargs)
        if prompt:
            raise OptionError(
                f"preprocess of a reranker takes no prompt, not {prompt!r}: predict(pairs, "
                "prompt=...) puts it where the model wants it."
            )
        pairs = [inputs] if is_one_pair(inputs) else list(inputs)
        batch = self.reranker.tokenize(pairs) if pairs else {}
        return {name: as_tensor(value) for name, value in batch.items()}

    # Scores

    @check_keywords
    def predict(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Any = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        *,
        sentences: Any = None,
        activation_fct: Any = None,
        num_workers: int | None = None,
    ) -> Any:
        """Scores of a pair of texts, or of pairs.

        Args:
            inputs: A list or tuple of two texts, or a sequence of those; `sentences` is its older
                name.
            activation_fn: Instead of the model's own; `activation_fct` is its older name.
            apply_softmax: With several labels, scores of each pair that add up to 1.
            convert_to_numpy: Whether to return an array, else a list of tensors.
            convert_to_tensor: Return one tensor.
            device: Moves the model there; a list starts a process for each.
            pool: Of `start_multi_process_pool`.
            chunk_size, num_workers: Have no effect.

        Returns:
            [n] with one label, else [n, labels]; for a single pair one row of that.
        """
        inputs = renamed("sentences", "inputs", sentences, inputs)
        if inputs is None:
            raise OptionError("predict takes pairs of texts: predict([(query, document), ...]).")
        options = _scoring(
            prompt_name, prompt, batch_size, show_progress_bar, activation_fct, activation_fn
        )
        options["apply_softmax"] = bool(apply_softmax)
        single = is_one_pair(inputs)
        rows = [inputs] if single else inputs
        with self._spread(device, pool) as runner:
            scores = runner.predict(rows, **options)
        if convert_to_tensor or not convert_to_numpy:
            scores = self._tensor(scores)
        result = scores if convert_to_tensor or convert_to_numpy else list(scores)
        return result[0] if single else result

    @check_keywords
    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Any = None,
        device: Any = None,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        *,
        activation_fct: Any = None,
        apply_softmax: Any = None,
        num_workers: Any = None,
        convert_to_numpy: Any = None,
        convert_to_tensor: Any = None,
    ) -> list[dict[str, Any]]:
        """Documents by their scores with a query, best first.

        Args:
            top_k: How many to return; None for all.
            return_documents: Whether to return the texts, too.
            device, pool: As for `predict`.
            apply_softmax, num_workers, convert_to_numpy, convert_to_tensor: Of older releases;
                they have no effect.

        Returns:
            `{"corpus_id": position, "score": number}` for each, and its `"text"` on request.
        """
        options = _scoring(
            prompt_name, prompt, batch_size, show_progress_bar, activation_fct, activation_fn
        )
        with self._spread(device, pool) as runner:
            return self.reranker.rank_by(
                runner.predict, query, documents, top_k, return_documents, options
            )

    def _tensor(self, scores: Any) -> Any:
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(scores))
        place = self.reranker.tensor_device
        return tensor if place is None else tensor.to(place)

    # Files

    def save(
        self, path: str | os.PathLike[str], *, safe_serialization: bool = True, **ignored: Any
    ) -> None:
        """Write the model to a directory that core and sentence-transformers load."""
        _check_safe(safe_serialization)
        self.reranker.save(path)

    save_pretrained = save

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str | None = None,
        exist_ok: bool = False,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the model; returns the URL of the commit or pull request."""
        _check_safe(safe_serialization)
        return self.reranker.push_to_hub(
            repo_id,
            token=token,
            private=private,
            commit_message=commit_message,
            exist_ok=exist_ok,
            revision=revision,
            create_pr=create_pr,
        )


def _check_safe(safe_serialization: bool) -> None:
    if not safe_serialization:
        raise OptionError("safe_serialization=False pickles weights; core writes safetensors.")


def _scoring(
    prompt_name: str | None,
    prompt: str | None,
    batch_size: int,
    show_progress_bar: bool | None,
    activation_fct: Any,
    activation_fn: Any,
) -> dict[str, Any]:
    """Options of the reranker's `predict`."""
    given = renamed("activation_fct", "activation_fn", activation_fct, activation_fn)
    return {
        "prompt_name": one_prompt_name(prompt_name, prompt),
        "prompt": prompt,
        "batch_size": check_positive("batch_size", batch_size),
        "show_progress_bar": show_progress_bar,
        "activation_fn": None if given is None else chosen_activation(given),
    }
