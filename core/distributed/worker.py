"""The process at the other end of `core.ProcessPool`: `python -m core.distributed.worker PARENT`.

Reads a model, then (texts, options) again and again, and answers with what the backend made of
them.
"""

from __future__ import annotations

from typing import Any

from core.machine.parent import serve


def encoded(model: Any, message: Any) -> Any:
    """What the model's backend makes of (texts, options)."""
    texts, options = message
    rows = model.with_prompt(texts, options.prompt or "")
    return model.hooks.raw_encode(model, rows, options)


def main() -> None:
    """Serve the process whose number is the first argument."""
    serve(encoded)


if __name__ == "__main__":
    main()
