"""Attention masks of transformers in a form the tracer can follow.

transformers builds some masks (sliding windows, bidirectional overlays) by `torch.vmap` of a
function of four indices. The tracer cannot see through vmap; index arrays that broadcast against
one another give the same mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from core.toolkit import process_wide

#: Names the expansion by vmap has had in `transformers.masking_utils`: 5.x, 4.5x.
_EXPANSIONS = ("_vmap_expansion_sdpa", "_vmap_for_bhqkv")


#: A mode for indexing under vmap, which the tracer does not know.
_INDEXING = "TransformGetItemToIndex"


@process_wide
@contextmanager
def traceable_masks() -> Iterator[None]:
    """Build masks by broadcasting while the context lasts."""
    from transformers import masking_utils

    names = [n for n in (*_EXPANSIONS, _INDEXING) if hasattr(masking_utils, n)]
    originals = {name: getattr(masking_utils, name) for name in names}
    try:
        for name, original in originals.items():
            replacement = nullcontext if name == _INDEXING else _broadcasting(original)
            setattr(masking_utils, name, replacement)
        yield
    finally:
        for name, original in originals.items():
            setattr(masking_utils, name, original)


def _broadcasting(original: Callable[..., Any]) -> Callable[..., Any]:
    def expand(mask_function: Callable[..., Any], bh_indices: bool = True) -> Callable[..., Any]:
        if not bh_indices:
            expanded: Callable[..., Any] = original(mask_function, bh_indices=False)
            return expanded

        def over_indices(batch: Any, head: Any, query: Any, key: Any) -> Any:
            mask = mask_function(
                batch[:, None, None, None],
                head[None, :, None, None],
                query[None, None, :, None],
                key[None, None, None, :],
            )
            return mask.expand(batch.shape[0], head.shape[0], query.shape[0], key.shape[0])

        return over_indices

    return expand
