"""A backend that stops is noticed and started again; requests wait for it, and none is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import core
from tests.conftest import Exports
from tests.server.conftest import GatedServer, running, send, wait_for


def test_one_bad_request_takes_no_other_with_it(
    gated: GatedServer, model: core.EmbeddingModel
) -> None:
    with gated() as (server, gate):
        gate.fails_on = "poison"
        first = send(server, "/embed", {"inputs": "the first"})
        wait_for(lambda: len(gate.batches) == 1)
        texts = [f"text {i}" for i in range(5)]
        good = [send(server, "/embed", {"inputs": text, "normalize": False}) for text in texts]
        bad = send(server, "/v1/embeddings", {"input": ["fine", "poison"]})
        wait_for(lambda: server.metric("core_queue_inputs", model="tiny") == 7)
        gate.opened.set()
        found = np.concatenate([one.answer().json() for one in good])
        np.testing.assert_allclose(found, model.encode(texts), atol=1e-5)
        assert first.answer().status_code == 200
        assert bad.answer().status_code == 424
        assert "Traceback" not in bad.answer().text
        assert server.client.get("/health").status_code == 200
        assert server.metric("core_backend_restarts_total", model="tiny") == 0


def test_a_model_that_stopped_is_loaded_again(
    embedding_folder: Path, model: core.EmbeddingModel
) -> None:
    with running(embedding_folder) as server:
        engine = server.service.models.served[0].dispatcher.engine
        engine.close()
        health = server.client.get("/health")
        assert health.status_code == 503
        assert health.json()["models"]["tiny"]["status"] == "restarting"
        assert server.client.get("/health/live").status_code == 200
        assert server.metric("core_backend_up", model="tiny") == 0
        texts = [f"text {i}" for i in range(6)]
        sent = [send(server, "/embed", {"inputs": text, "normalize": False}) for text in texts]
        found = np.concatenate([one.answer().json() for one in sent])
        np.testing.assert_allclose(found, model.encode(texts), atol=1e-5)
        assert server.client.get("/health").status_code == 200
        assert server.metric("core_backend_restarts_total", model="tiny") == 1
        assert server.metric("core_backend_up", model="tiny") == 1


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_loses_no_request(exports: Exports) -> None:
    folder = exports("bert-mean", "onnx")
    texts = [f"text {i} of many" for i in range(200)]
    with core.load(folder, backend="onnx") as model:
        expected = model.encode(texts)
    specification = f"tiny={folder}"
    with running(specification, backend="onnx", workers=1, max_batch_tokens=64) as server:
        engine = server.service.models.served[0].dispatcher.engine
        (first,) = engine.pids  # type: ignore[attr-defined]
        health = server.client.get("/health").json()
        assert health["models"]["tiny"] == {"status": "ok", "processes": 1, "running": 1}
        sent = [
            send(server, "/embed", {"inputs": texts[i : i + 20], "normalize": False})
            for i in range(0, 200, 20)
        ]
        wait_for(lambda: server.metric("core_batch_inputs_count", model="tiny") >= 1)
        os.kill(first, signal.SIGKILL)
        found = np.concatenate([one.answer().json() for one in sent])
        np.testing.assert_allclose(found, expected, atol=1e-5)
        # One that has nothing to do is started again, too; meanwhile health says so.
        wait_for(lambda: server.client.get("/health").status_code == 200)
        (second,) = engine.pids  # type: ignore[attr-defined]
        assert second != first
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: server.client.get("/health").status_code == 503)
        wait_for(lambda: server.client.get("/health").status_code == 200)
        found = server.post("/embed", {"inputs": texts[:3], "normalize": False}).json()
        np.testing.assert_allclose(found, expected[:3], atol=1e-5)
