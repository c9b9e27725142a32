"""What sentence-transformers 6.2 computes for every kind of model; runs in its environment alone.

    python kinds_reference.py TASKS.json

`scripts/kinds_parity.py` writes the tasks and reads the results. A task is a model's `name`, `kind`
(reranker, sparse, multi-vector or several), directory (`load`), where its results go (`results`,
an .npz file) and where it is saved, if at all (`save`). The texts stand beside the tasks. What
fails is listed in `failures`, a JSON file. For bge-m3's sparse and multi-vector heads, which
sentence-transformers does not know, the formulas of FlagEmbedding are written out here.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import (
    CrossEncoder,
    MultiVectorEncoder,
    SentenceTransformer,
    SparseEncoder,
)
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

BATCH_SIZE = 8

Results = dict[str, Any]


def rerank(path: str, job: dict[str, Any]) -> tuple[Any, Results]:
    """Scores as the model means them, logits, probabilities of labels, and a ranking."""
    model = CrossEncoder(path, device="cpu")
    pairs = [tuple(pair) for pair in job["pairs"]]
    identity = torch.nn.Identity()
    size = BATCH_SIZE
    if model.tokenizer.padding_side == "left" and model[0].transformer_task != "text-generation":
        size = 1  # these classifiers read the first position, which would be padding
    results = {
        "scores": model.predict(pairs, batch_size=size),
        "logits": model.predict(pairs, batch_size=size, activation_fn=identity),
    }
    if model.num_labels > 1:
        results["softmax"] = model.predict(pairs, batch_size=size, apply_softmax=True)
    else:
        found = model.rank(job["query"], job["texts"], batch_size=size)
        results["ranked"] = np.array([entry["corpus_id"] for entry in found])
        results["ranked_scores"] = np.array([entry["score"] for entry in found], np.float32)
    return model, results


def put_rows(results: Results, name: str, tensor: Any) -> None:
    """A sparse tensor as the three arrays of its rows."""
    csr = tensor.coalesce().to_sparse_csr()
    results[f"{name}.indptr"] = csr.crow_indices().numpy()
    results[f"{name}.indices"] = csr.col_indices().numpy().astype(np.int32)
    results[f"{name}.values"] = csr.values().numpy()
    results[f"{name}.shape"] = np.array(tensor.shape)


def encode_sparse(path: str, job: dict[str, Any]) -> tuple[Any, Results]:
    """Queries, documents, a few dimensions of documents, and similarities."""
    model = SparseEncoder(path, device="cpu")
    results: Results = {}
    queries = model.encode_query(job["texts"], batch_size=BATCH_SIZE)
    documents = model.encode_document(job["texts"], batch_size=BATCH_SIZE)
    put_rows(results, "query", queries)
    put_rows(results, "document", documents)
    few = model.encode_document(job["texts"], batch_size=BATCH_SIZE, max_active_dims=8)
    put_rows(results, "few", few)
    results["similarity"] = model.similarity(queries, documents).numpy()
    return model, results


def put_vectors(results: Results, name: str, vectors: list[Any]) -> None:
    """Arrays [tokens, dimension] one after another, and their lengths."""
    results[f"{name}.vectors"] = np.concatenate([one.numpy() for one in vectors])
    results[f"{name}.lengths"] = np.array([len(one) for one in vectors])


def encode_multi_vector(path: str, job: dict[str, Any]) -> tuple[Any, Results]:
    """Queries, documents, texts without a task, documents of fewer vectors, and similarities."""
    model = MultiVectorEncoder(path, device="cpu")
    results: Results = {}
    queries = model.encode_query(job["texts"], batch_size=BATCH_SIZE)
    documents = model.encode_document(job["texts"], batch_size=BATCH_SIZE)
    put_vectors(results, "query", queries)
    put_vectors(results, "document", documents)
    put_vectors(results, "plain", model.encode(job["texts"], batch_size=BATCH_SIZE))
    put_vectors(results, "pooled", HierarchicalTokenPooling(pool_factor=2.0).pool(documents))
    results["similarity"] = model.similarity(queries, documents).numpy()
    return model, results


def encode_several(path: str, job: dict[str, Any]) -> tuple[Any, Results]:
    """bge-m3: dense vectors, a weight for each word, and a vector for each token but the first.

    The weight of a word is the largest relu(linear(hidden state)) of its tokens; special tokens
    have none. Vectors are linear(hidden state), scaled to length 1.
    """
    model = SentenceTransformer(path, device="cpu")
    results: Results = {"dense": model.encode(job["texts"], batch_size=BATCH_SIZE)}
    heads = {
        name: torch.load(Path(path) / f"{name}.pt", weights_only=True)
        for name in ("sparse_linear", "colbert_linear")
    }
    special = set(model.tokenizer.all_special_ids)
    vocabulary = len(model.tokenizer)
    rows, vectors = [], []
    for text in job["texts"]:
        features = model.preprocess([text])
        with torch.inference_mode():
            hidden = model[0](features)["token_embeddings"][0]
        sparse, colbert = heads["sparse_linear"], heads["colbert_linear"]
        weights = torch.relu(hidden @ sparse["weight"].T + sparse["bias"])[:, 0]
        row = torch.zeros(vocabulary)
        for token, weight in zip(features["input_ids"][0].tolist(), weights, strict=True):
            if token not in special:
                row[token] = torch.maximum(row[token], weight)
        rows.append(row)
        projected = hidden[1:] @ colbert["weight"].T + colbert["bias"]
        vectors.append(torch.nn.functional.normalize(projected, dim=-1))
    put_rows(results, "sparse", torch.stack(rows).to_sparse())
    put_vectors(results, "multi_vector", vectors)
    return model, results


KINDS: dict[str, Callable[[str, dict[str, Any]], tuple[Any, Results]]] = {
    "reranker": rerank,
    "sparse": encode_sparse,
    "multi-vector": encode_multi_vector,
    "several": encode_several,
}


def main() -> int:
    """Do every task; what goes wrong with one is written down and the next begins."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    failures = {}
    for task in job["tasks"]:
        try:
            model, results = KINDS[task["kind"]](task["load"], job)
            np.savez_compressed(task["results"], **results)
            if task["save"] is not None:
                model.save(task["save"], create_model_card=False)
        except Exception as error:  # of any library; the next model may do better
            traceback.print_exc()
            failures[task["name"]] = f"{type(error).__name__}: {error}"
    Path(job["failures"]).write_text(json.dumps(failures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
