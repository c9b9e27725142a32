"""A process that tokenizes for another: `python -m core.tokenizer.worker PARENT`.

Reads a tokenizer, then lists of texts, and answers with their token ids.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.machine.parent import serve
from core.tokenizer.tokenizer import Text, TokenizedTexts, Tokenizer


def tokenized(tokenizer: Tokenizer, texts: Sequence[Text]) -> TokenizedTexts:
    """The token ids of the texts."""
    return tokenizer.encode(texts)


def main() -> None:
    """Serve the process whose number is the first argument."""
    serve(tokenized)


if __name__ == "__main__":
    main()
