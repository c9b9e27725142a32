"""`BackendConformance`: everything users may expect of a backend, whoever wrote it."""

from __future__ import annotations

from core.testing.encoding import EncodingContract
from core.testing.life import LifeContract
from core.testing.loading import LoadingContract
from core.testing.saving import SavingContract
from core.testing.sharing import SharingContract
from core.testing.wrapping import WrappingContract


class BackendConformance(
    LifeContract,
    SharingContract,
    WrappingContract,
    SavingContract,
    EncodingContract,
    LoadingContract,
):
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
        variables: Names in the environment that it may set, for instance to silence its runtime.
        runtime_modules: Modules that naming the backend must not import, besides the well known.
        lacks: What the backend cannot do, of `"save"`, `"token_embeddings"`, `"long_texts"` (it
            cuts texts where `max_seq_length` does not say), `"reference"` (none is given) and
            `"entry_point"` (it is registered in code). A missing hook must be refused
            properly.

    Nothing else is skipped, unless the model does not load or embeds nothing: then the first test
    that needs it fails with the reason, and the others are skipped and name that test.
    """
