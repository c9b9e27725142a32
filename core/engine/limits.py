"""Token ids and positions that a model has no embedding for, refused before a runtime sees them.

PyTorch and ONNX Runtime fail on them with their own messages; OpenVINO, and ONNX Runtime on a GPU,
read whatever lies behind the table.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from core.architecture.limits import position_limit, vocabulary_size
from core.engine.runtime import Runtime
from core.errors import ModelFormatError, OptionError
from core.tokenizer.tokenizer import TokenizedTexts, Tokenizer

logger = logging.getLogger("core")

_RESTORE_TOKENIZER = (
    "The tokenizer belongs to another model, or got tokens that the model was never resized for: "
    "restore the tokenizer files that belong to the weights, or resize the model's token "
    "embeddings and save it again."
)


def known_vocabulary(runtime: Runtime) -> int | None:
    """How many token ids the model has embeddings for; None if nothing states it."""
    if runtime.vocabulary is not None:
        return runtime.vocabulary
    return vocabulary_size(runtime.architecture.config)


def padding_id(runtime: Runtime, tokenizer: Tokenizer) -> int:
    """The tokenizer's padding token, or any other where the model has no embedding for it.

    The mask keeps padding out of the embeddings, so its token means nothing.
    """
    vocabulary = known_vocabulary(runtime)
    return tokenizer.pad_id if vocabulary is None or tokenizer.pad_id < vocabulary else 0


def check_tokenizer(name: str, runtime: Runtime, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer none of whose texts the model can embed; warn of one with such tokens.

    Raises:
        ModelFormatError: The tokens it puts around every text have no embedding.
    """
    vocabulary = known_vocabulary(runtime)
    if vocabulary is None:
        return
    number = max(tokenizer.around, default=0)
    if number >= vocabulary:
        raise ModelFormatError(
            f"{name}: its tokenizer puts {tokenizer.backend.id_to_token(number)!r}, id {number}, "
            f"around every text, and the model has embeddings for {vocabulary} ids. "
            f"{_RESTORE_TOKENIZER}"
        )
    known = tokenizer.backend.get_vocab_size(with_added_tokens=True)
    # Padding is never looked at, so a padding token may be one too many.
    if known - int(tokenizer.pad_id >= vocabulary) > vocabulary:
        logger.warning(
            "%s: its tokenizer knows %d tokens, and the model has embeddings for %d: a text with "
            "one of the others is refused. %s",
            name,
            known,
            vocabulary,
            _RESTORE_TOKENIZER,
        )


def check_tokens(
    runtime: Runtime,
    tokenizer: Tokenizer,
    tokenized: TokenizedTexts,
    positions: NDArray[np.int64] | None = None,
) -> None:
    """Refuse texts with token ids or positions outside the model's tables.

    Args:
        positions: int64 [texts]: where each text stands in the caller's list; None for as here.

    Raises:
        ModelFormatError: A token id; the message names the text and the token.
        OptionError: A text is longer than the model has positions for.
    """
    if not len(tokenized.ids):
        return
    vocabulary = known_vocabulary(runtime)
    if vocabulary is not None and int(tokenized.ids.max()) >= vocabulary:
        place = int(np.argmax(tokenized.ids >= vocabulary))
        number = int(tokenized.ids[place])
        row = int(np.searchsorted(np.cumsum(tokenized.lengths), place, side="right"))
        text = row if positions is None else int(positions[row])
        raise ModelFormatError(
            f"The text at position {text} has the token {tokenizer.backend.id_to_token(number)!r} "
            f"with id {number}, and the model has embeddings for {vocabulary} ids, 0 to "
            f"{vocabulary - 1}. {_RESTORE_TOKENIZER}"
        )
    limit = position_limit(runtime.architecture.config)
    if limit is not None and int(tokenized.lengths.max()) > limit:
        row = int(np.argmax(tokenized.lengths))
        text = row if positions is None else int(positions[row])
        raise OptionError(
            f"The text at position {text} has {int(tokenized.lengths[row])} tokens, and the model "
            f"has positions for {limit}. Set model.max_seq_length to {limit} or less."
        )
