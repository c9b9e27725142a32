"""MTEB scores the real all-MiniLM-L6-v2 on the onnx backend, on a task of local data."""

from __future__ import annotations

import os
from typing import Any

import mteb
import numpy as np
from datasets import Dataset, DatasetDict
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb_encoder import CoreEncoder

import core

PAIRS = [
    ("A man is playing a guitar.", "Someone plays a guitar.", 4.8),
    ("A dog runs in the park.", "A dog is running outside.", 4.0),
    ("The child eats an apple.", "A kid is eating fruit.", 3.9),
    ("A woman slices an onion.", "A woman is cutting a vegetable.", 3.7),
    ("Two boys play football.", "Some boys are sitting in a bus.", 1.2),
    ("A plane takes off.", "The cat sleeps on a sofa.", 0.1),
    ("It is raining in Oslo.", "The stock market fell today.", 0.0),
    ("A man rides a horse.", "A man is riding a bicycle.", 1.9),
]


class LocalPairs(AbsTaskSTS):
    """Sentence pairs that come from no Hub."""

    min_score, max_score = 0, 5
    metadata = TaskMetadata(
        name="LocalPairs",
        dataset={"path": "local", "revision": "1"},
        description="A few English sentence pairs.",
        type="STS",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="cosine_spearman",
    )

    def load_data(self, *_: Any, **__: Any) -> None:
        first, second, score = zip(*PAIRS, strict=True)
        columns = {"sentence1": first, "sentence2": second, "score": score}
        self.dataset = DatasetDict(test=Dataset.from_dict(columns))
        self.data_loaded = True


def test_mteb_scores_our_model() -> None:
    with core.load(os.environ["CORE_EXAMPLE_MODEL"], backend="onnx") as model:
        result = mteb.evaluate(
            CoreEncoder(model), LocalPairs(), cache=None, show_progress_bar=False
        )
        score = result.task_results[0].get_score()
        first, second = (
            model.encode([pair[side] for pair in PAIRS], normalize_embeddings=True)
            for side in (0, 1)
        )
    ours = (first * second).sum(axis=1).argsort().argsort()
    theirs = np.argsort(np.argsort([pair[2] for pair in PAIRS]))
    spearman = np.corrcoef(ours, theirs)[0, 1]
    np.testing.assert_allclose(score, spearman, atol=1e-6)
    assert score > 0.9
