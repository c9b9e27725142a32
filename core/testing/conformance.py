"""`BackendConformance`: everything users may expect of a backend, whoever wrote it."""

from __future__ import annotations

from core.testing.encoding import EncodingContract
from core.testing.loading import LoadingContract
from core.testing.wrapping import WrappingContract


class BackendConformance(LoadingContract, EncodingContract, WrappingContract):
    """Subclass it in a test file, name the backend, and run pytest.

    Attributes:
        backend: The backend's name.
        model: What to load: small, and the same every time. A fixture may set it.
        load_arguments: Further arguments of `core.load`.
        reference: Texts and their embeddings as computed elsewhere.
        reference_backend: Or a backend whose embeddings of `model` are the reference.
        min_cosine: The least agreement with the reference.
        tolerance: The most by which a component of an embedding may differ between a text alone
            and in any batch.
        runtime_modules: Modules that naming the backend must not import, besides the well known.
        lacks: What the backend cannot do, of `"save"`, `"token_embeddings"`, `"reference"` (none
            is given) and `"entry_point"` (it is registered in code). Nothing else is skipped, and
            a lack that is declared must be refused properly.
    """
