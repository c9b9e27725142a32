"""`core serve MODEL...`."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from typing import Any

from core_server import collector
from core_server.logs import logged_as_json
from core_server.metrics import Metrics
from core_server.models import load_models
from core_server.service import Service
from core_server.serving import bind, run
from core_server.settings import Settings

logger = logging.getLogger("core_server")

_DEFAULT = Settings()
_LEVELS = ("debug", "info", "warning", "error")


def serve(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    """Add the arguments of `core serve`."""
    parser.description = (
        "Serve models over HTTP, with the routes of OpenAI, Text Embeddings Inference and Cohere."
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="a directory or a name on the Hub, of any kind of model; NAME=MODEL to call it NAME",
    )
    parser.add_argument("-b", "--backend", help="torch, onnx, openvino, ...")
    parser.add_argument("--device", help="cpu, cuda, ...; the backend's choice if absent")
    parser.add_argument("--local-files-only", action="store_true", help="open no connection")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let code from the repository run"
    )
    parser.add_argument("--host", default=_DEFAULT.host, help="where to listen (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=_DEFAULT.port, help="0 takes a free one (%(default)s)"
    )
    parser.add_argument(
        "--api-key", help="what clients must send; $CORE_SERVER_API_KEY keeps it out of `ps`"
    )
    _number(parser, "max-concurrent", "requests accepted at once; more get 429")
    _number(parser, "max-queued-inputs", "texts that wait at once; more get 429")
    parser.add_argument(
        "--max-batch-tokens",
        type=int,
        help="about how many tokens are computed together; by default what suits the model",
    )
    _number(parser, "max-inputs", "texts in one request")
    _number(parser, "max-body-bytes", "size of a request")
    _number(parser, "max-text-characters", "length of a text")
    parser.add_argument(
        "--workers",
        type=int,
        default=_DEFAULT.workers,
        help="processes that hold the models, each started again if it dies; 0 computes in the "
        "server's own (%(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=_DEFAULT.timeout,
        help="seconds until a request must be answered (%(default)g)",
    )
    parser.add_argument(
        "--client-tokenizer",
        metavar="FILE",
        help="tokenizer.json of clients that send token ids; `model` for the model's own",
    )
    parser.add_argument("--log-level", choices=_LEVELS, default="info", help="(%(default)s)")
    parser.add_argument("--opentelemetry", action="store_true", help="a span for each request")
    return _run


def _number(parser: argparse.ArgumentParser, name: str, description: str) -> None:
    default = getattr(_DEFAULT, name.replace("-", "_"))
    parser.add_argument(f"--{name}", type=int, default=default, help=f"{description} (%(default)s)")


def _run(parsed: argparse.Namespace) -> None:
    settings = Settings(
        host=parsed.host,
        port=parsed.port,
        api_key=os.environ.get("CORE_SERVER_API_KEY") if parsed.api_key is None else parsed.api_key,
        max_concurrent=parsed.max_concurrent,
        max_queued_inputs=parsed.max_queued_inputs,
        max_batch_tokens=parsed.max_batch_tokens,
        max_inputs=parsed.max_inputs,
        max_body_bytes=parsed.max_body_bytes,
        max_text_characters=parsed.max_text_characters,
        timeout=parsed.timeout,
        workers=parsed.workers,
        client_tokenizer=parsed.client_tokenizer,
        opentelemetry=parsed.opentelemetry,
    )
    with logged_as_json(parsed.log_level), bind(settings.host, settings.port) as bound:
        metrics = Metrics()
        options: dict[str, Any] = {
            "backend": parsed.backend,
            "device": parsed.device,
            "local_files_only": parsed.local_files_only,
            "trust_remote_code": parsed.trust_remote_code,
        }
        models = load_models(parsed.models, settings, metrics, **options)
        for served in models:
            logger.info("loaded", extra={"fields": {"model": served.name, **served.facts}})
        service = Service(settings, models, metrics)
        collector.set_aside()
        run(service, bound, lambda address: logger.info("serving at %s", address))
