"""`core` on Ray: a class for Ray Data's `map_batches`, and jobs over files on a cluster.

import ray, core_ray

rows = ray.data.read_parquet("texts/").map_batches(
    core_ray.Embed,
    fn_constructor_kwargs={"model": "sentence-transformers/all-MiniLM-L6-v2"},
    compute=ray.data.ActorPoolStrategy(size=4), num_cpus=2, batch_size=4096,
)

core_ray.embed_dataset("texts/", "embeddings/", "sentence-transformers/all-MiniLM-L6-v2")
"""

from __future__ import annotations

from core_ray.dataset import embed_dataset
from core_ray.embed import Embed
from core_ray.runner import Runner

__all__ = ["Embed", "Runner", "embed_dataset"]
