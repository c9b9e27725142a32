"""Token ids to texts and back: `/tokenize`, `/decode`, and clients that send ids, not text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from core.errors import OptionError, UnsupportedOperation
from core_server.failures import RequestFailedError

#: The model's own vocabulary, as `--client-tokenizer` names it.
OWN = "model"


class Vocabulary:
    """A tokenizer without truncation or padding; nobody changes it, so threads share it."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._size = tokenizer.get_vocab_size(with_added_tokens=True)

    @classmethod
    def of_model(cls, model: Any) -> Vocabulary:
        """A copy of a model's tokenizer."""
        return cls(tokenizers.Tokenizer.from_str(model.tokenizer.backend.to_str()))

    @classmethod
    def of_clients(cls, named: str | None, model: Any) -> Vocabulary | None:
        """The one that `--client-tokenizer` names; None where it names none.

        Raises:
            OptionError: It is no tokenizer.json.
            UnsupportedOperation: The model has no tokenizer of its own.
        """
        if named is None:
            return None
        if named == OWN:
            if not model.has_tokenizer:
                raise UnsupportedOperation(f"{model!r} has no tokenizer that clients could use.")
            return cls.of_model(model)
        path = Path(named).expanduser()
        path = path / "tokenizer.json" if path.is_dir() else path
        if not path.is_file():
            raise OptionError(
                f"client_tokenizer={named!r}: there is no such file. Give the path of a "
                f'tokenizer.json, or "{OWN}" for the model\'s own.'
            )
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:
            raise OptionError(f"client_tokenizer: {path} is no tokenizer.json: {error}.") from error

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids.

        Raises:
            RequestFailedError: An id that it has no token for.
        """
        wrong = next((one for one in ids if not 0 <= one < self._size), None)
        if wrong is not None:
            raise RequestFailedError(
                422, f"There is no token {wrong}: the vocabulary has {self._size}."
            )
        # Of one alone, the process's other threads would wait until it is done.
        return self._tokenizer.decode_batch([list(ids)], skip_special_tokens=skip_special_tokens)[0]

    def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[dict[str, Any]]:
        """The tokens of a text, as Text Embeddings Inference lists them.

        Each is `{"id", "text", "special", "start", "stop"}`, the last two in characters, and None
        for special tokens.
        """
        encoding = self._encoding(text, add_special_tokens=add_special_tokens)
        found = []
        for number, token, (start, stop), special in zip(
            encoding.ids,
            encoding.tokens,
            encoding.offsets,
            encoding.special_tokens_mask,
            strict=True,
        ):
            found.append(
                {
                    "id": number,
                    "text": token if special else text[start:stop],
                    "special": bool(special),
                    "start": None if special else start,
                    "stop": None if special else stop,
                }
            )
        return found

    def last_tokens(self, text: str, count: int) -> str:
        """The end of a text, as much of it as `count` tokens hold."""
        encoding = self._encoding(text, add_special_tokens=False)
        extra = len(encoding) - count
        place = encoding.token_to_chars(extra) if extra > 0 else None
        return text if place is None else text[place[0] :]

    def _encoding(self, text: str, *, add_special_tokens: bool) -> tokenizers.Encoding:
        # Of one alone, the process's other threads would wait until it is done.
        return self._tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)[0]

    @property
    def special_tokens(self) -> int:
        """How many it puts around a text."""
        return int(self._tokenizer.num_special_tokens_to_add(False))
