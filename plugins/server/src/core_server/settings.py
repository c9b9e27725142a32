"""What `core serve` is told: where to listen, whom to let in, how much to accept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server runs, whatever models it serves.

    Attributes:
        host, port: Where to listen; port 0 takes a free one.
        api_key: What clients have to send; None lets everyone in.
        max_concurrent: Requests that may wait or be computed at once; more get 429.
        max_queued_inputs: Texts or pairs that may wait at once. One request may have more, if
            nothing else waits.
        max_batch_tokens: About how many tokens are computed together; None for what fits the
            model and the processor.
        max_inputs: Texts, or documents, in one request.
        max_body_bytes: Size of a request's body.
        max_text_characters: Length of a text. Within it, texts longer than the model reads are cut.
        timeout: Seconds until an accepted request must be answered. A client may ask for less
            with the header `X-Request-Timeout`.
        body_timeout: Seconds for a request's body to arrive.
        workers: Processes that hold the models; 0 computes in the server's own.
        client_tokenizer: The vocabulary of clients that send token ids: "model" for the model's
            own, or the path of a tokenizer.json. None refuses token ids.
        opentelemetry: Whether every request is a span.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = None
    max_concurrent: int = 512
    max_queued_inputs: int = 16_384
    max_batch_tokens: int | None = None
    max_inputs: int = 2_048
    max_body_bytes: int = 8_388_608
    max_text_characters: int = 1_000_000
    timeout: float = 60.0
    body_timeout: float = 30.0
    workers: int = 0
    client_tokenizer: str | None = None
    opentelemetry: bool = False

    def __post_init__(self) -> None:
        positive = ("max_concurrent", "max_queued_inputs", "max_inputs", "max_body_bytes")
        for name in (*positive, "max_text_characters", "timeout", "body_timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{name} must be a number over 0, not {getattr(self, name)!r}.")
        if self.max_batch_tokens is not None and self.max_batch_tokens < 1:
            raise OptionError(f"max_batch_tokens must be over 0, not {self.max_batch_tokens!r}.")
        if self.workers < 0:
            raise OptionError(f"workers must be 0 or more, not {self.workers!r}.")
        if not 0 <= self.port <= 65_535:
            raise OptionError(f"port must be between 0 and 65535, not {self.port!r}.")
        if self.api_key is not None and not self.api_key:
            raise OptionError(
                "api_key is empty (it may come from $CORE_SERVER_API_KEY): leave it out, and unset "
                "the variable, to let everyone in."
            )
        if self.api_key and (
            self.api_key != self.api_key.strip() or not self.api_key.isprintable()
        ):
            raise OptionError(
                "api_key begins or ends with white space, or has a character that no header can "
                "hold, such as a line break: no client could send it."
            )
