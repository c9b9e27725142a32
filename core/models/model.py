"""What every kind of model shares: prompts, options of a call, streams."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.arguments import check_prompts, check_text_or_none
from core.checkpoint.checkpoint import Checkpoint
from core.engine.batching import pad
from core.models.loaded import LoadedModel
from core.models.truncation import check_truncation
from core.options import EncodeOptions, check_names, check_options, field_names
from core.texts.inputs import check_stream, choose_prompt, take_window
from core.tokenizer.tokenizer import Tokenizer

_DEFAULT_OPTIONS = EncodeOptions()


class Model(LoadedModel):
    """A model that the `encode` hook runs, with prompts in front of what it is given.

    A kind of model states what it takes and gives in the methods at the end.

    Args:
        source: The checkpoint it was loaded from.
        runtime: Whatever the backend's `encode` needs; a `core.Runtime` for the shared engine.
        tokenizer: For the shared engine; None for backends that take text.
        max_seq_length: In tokens; None for the tokenizer's.
        device: None for the runtime's.
        dtype: None for the runtime's.
        prompts, default_prompt_name: None for none.
    """

    #: The name of the method that runs it, for messages.
    method: ClassVar[str] = "encode"
    #: Fields of `EncodeOptions` that mean nothing for this kind.
    other_options: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        source: Checkpoint,
        runtime: Any,
        *,
        tokenizer: Tokenizer | None = None,
        max_seq_length: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
    ) -> None:
        super().__init__(
            source,
            runtime,
            tokenizer=tokenizer,
            max_seq_length=max_seq_length,
            device=device,
            dtype=dtype,
        )
        self._prompts: dict[str, str] = dict(prompts or {})
        self._default_prompt_name = default_prompt_name

    @property
    def prompts(self) -> dict[str, str]:
        """Name to prompt."""
        return self._prompts

    @prompts.setter
    def prompts(self, value: Mapping[str, str]) -> None:
        self._prompts = check_prompts(value)

    @property
    def default_prompt_name(self) -> str | None:
        """Which of `prompts` to use unless told otherwise; None for none."""
        return self._default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, value: str | None) -> None:
        check_text_or_none("default_prompt_name", value)
        self._default_prompt_name = value

    @property
    def tensor_device(self) -> Any:
        """The `torch.device` of the tensors it returns; None for the CPU."""
        return getattr(self.runtime, "tensor_device", None)

    def _token_batch(self, rows: Sequence[Any]) -> dict[str, NDArray[np.int64]]:
        """The body of `tokenize`."""
        tokenizer = self.tokenizer
        names = ("input_ids", "attention_mask", "token_type_ids")
        if not rows:
            return dict.fromkeys(names, np.empty((0, 0), dtype=np.int64))
        tokens = tokenizer.encode(rows)
        batch = pad(
            tokens.ids,
            tokens.lengths,
            tokenizer.pad_id,
            tokenizer.padding_side,
            type_ids=tokens.type_ids,
        )
        return {name: getattr(batch, name) for name in names}

    def _run(self, rows: Any, options: EncodeOptions) -> Any:
        return self.hooks.encode(model=self, texts=rows, options=options)

    def _stream(
        self, inputs: Iterable[Any], window: int, given: Mapping[str, Any]
    ) -> Iterator[Any]:
        """One result for up to `window` inputs at a time, in bounded memory."""
        options = self.parse_options(given)
        check_stream(inputs, window, options, self.method)
        return self._windows(iter(inputs), window, options)

    def _windows(self, source: Iterator[Any], window: int, options: EncodeOptions) -> Iterator[Any]:
        start = 0
        checked = replace(options, truncation=None)
        while taken := take_window(source, window):
            rows = self.checked(taken, start)
            check_truncation(self, rows, options, start)
            yield self._run(rows, checked)
            start += len(rows)

    def _with_prompt_of(self, options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """Options that name the first of these prompts the model has, unless they name one."""
        given = dict(options)
        if given.get("prompt") is None and given.get("prompt_name") is None:
            given["prompt_name"] = next((name for name in names if name in self.prompts), None)
        return given

    def parse_options(self, given: Mapping[str, Any]) -> EncodeOptions:
        """Keyword arguments of a call as options.

        Raises:
            OptionError: One is unknown, or has a value that it cannot have.
        """
        if not given:
            return _DEFAULT_OPTIONS
        known = [n for n in field_names(EncodeOptions) if n not in self.other_options]
        check_names(given, known, self.method)
        return EncodeOptions(**given)

    def prepare(self, inputs: Any, options: EncodeOptions) -> tuple[Sequence[Any], EncodeOptions]:
        """What the `encode` hook is given: inputs checked, the prompt in front of them.

        Raises:
            OptionError: An input is not what this kind takes, or an option is not for it.
        """
        rows = self.checked(inputs)
        prompt = choose_prompt(options, self.prompts, self.default_prompt_name)
        self.check_options(options)
        check_truncation(self, rows, options)
        rows = self.with_prompt(rows, prompt)
        if prompt != (options.prompt or ""):
            options = replace(options, prompt=prompt, prompt_name=None)
        return rows, options

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
        }

    def cutting_tokenizer(self, options: EncodeOptions) -> Tokenizer:
        """The tokenizer that cuts the texts of a call.

        Raises:
            UnsupportedOperation: The backend takes text and has no tokenizer.
        """
        return self.tokenizer

    def limit_name(self, options: EncodeOptions) -> str:
        """The setting that says where the texts of a call are cut."""
        return "max_seq_length"

    # What a kind of model says of itself

    def check_options(self, options: EncodeOptions) -> None:
        """Raise `OptionError` for an option that is not for this kind or does not fit the model."""
        check_options(options, self.other_options, f"{type(self).__name__}.{self.method}")
        choose_prompt(options, self.prompts, self.default_prompt_name)

    @abstractmethod
    def checked(self, inputs: Any, start: int = 0) -> Sequence[Any]:
        """The inputs as a sequence of what this kind takes, texts or pairs of texts.

        Raises:
            OptionError: One is something else; the message names its position, from `start`.
        """

    def with_prompt(self, rows: Sequence[Any], prompt: str) -> Sequence[Any]:
        """Checked inputs with the prompt in front."""
        return [prompt + row for row in rows] if prompt else rows

    @abstractmethod
    def finish(self, raw: Any, options: EncodeOptions) -> Any:
        """What the caller gets of what the `encode` hook returned."""

    def as_inputs(self, texts: Sequence[Any]) -> Sequence[Any]:
        """Calibration texts as what this kind takes."""
        return texts

    def note_result(self, raw: Any, options: EncodeOptions) -> None:
        """Remember what a result of the `encode` hook tells of the model."""

    def first_of(self, result: Any) -> Any:
        """What the caller gets for a single input, of the result for a sequence of it alone."""
        return result[0]

    def join(self, blocks: Sequence[Any]) -> Any:
        """What the `encode` hook would return for all inputs, from what it returned for parts."""
        return np.concatenate(blocks)

    def spread(self, unique: Any, count: int, firsts: Any, duplicates: Any, originals: Any) -> Any:
        """What the hook would return for `count` inputs, from that for the distinct ones.

        Args:
            firsts, duplicates, originals: Of `core.engine.encode.find_duplicates`.
        """
        result = np.empty((count, *unique.shape[1:]), dtype=unique.dtype)
        result[firsts] = unique
        result[duplicates] = result[originals]
        return result
