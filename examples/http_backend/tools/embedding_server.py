"""Serve a model of any core backend with the OpenAI embeddings API, on loopback.

python tools/embedding_server.py MODEL --backend torch [--port 0] [--api-key KEY]

Prints its address once it listens. For tests and demonstrations: no TLS, no queue.
"""

from __future__ import annotations

import argparse
import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

import core


class Handler(BaseHTTPRequestHandler):
    """`POST /v1/embeddings`."""

    protocol_version = "HTTP/1.1"
    model: core.EmbeddingModel
    name: str
    api_key: str

    def do_POST(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.path != "/v1/embeddings":
                self._fail(404, f"there is no {self.path}")
            elif self.api_key and self.headers.get("Authorization") != f"Bearer {self.api_key}":
                self._fail(401, "wrong key")
            else:
                self._embed(json.loads(body))
        except (ValueError, KeyError, core.CoreError) as error:
            self._fail(400, str(error))

    def _embed(self, request: dict[str, Any]) -> None:
        if request["model"] != self.name:
            self._fail(404, f"there is no model {request['model']!r}")
            return
        texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
        if not texts or "" in texts:
            raise ValueError("input must hold texts that are not empty")
        rows = self.model.encode(texts, truncate_dim=request.get("dimensions"))
        as_text = request.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode()
                if as_text
                else np.asarray(row).tolist(),
            }
            for index, row in enumerate(rows)
        ]
        self._answer(200, {"object": "list", "data": data, "model": self.name})

    def _fail(self, status: int, message: str) -> None:
        self._answer(status, {"error": {"message": message}})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


def main() -> None:
    """Load and serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--backend")
    parser.add_argument("--name", default="served")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", default="")
    parsed = parser.parse_args()
    Handler.model = core.load(parsed.model, backend=parsed.backend)
    Handler.name, Handler.api_key = parsed.name, parsed.api_key
    with ThreadingHTTPServer(("127.0.0.1", parsed.port), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
