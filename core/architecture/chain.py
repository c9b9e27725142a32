"""Modules put one after the other as they are read: do they fit, and how wide is what they give?"""

from __future__ import annotations

from core.architecture.module_files import pooling_width
from core.architecture.modules import Dense, LayerNorm, Module, Normalize, Pooling
from core.architecture.sparse_modules import SparseAutoEncoder
from core.errors import ModelFormatError
from core.files.source import Source


class Chain:
    """The modules read so far.

    Attributes:
        modules: In their order.
        hidden: Width of a token embedding after them; 0 if no file states it.
        dimension: Width of a sentence embedding after them; 0 if no file states it.

    Args:
        hidden: Width of the transformer's token embeddings; 0 if no file states it.
        static: Whether static embeddings come first, which are pooled.
        own_code: Whether the model's own code computes, so that config.json may mean anything.
    """

    def __init__(self, source: Source, hidden: int, static: bool, own_code: bool) -> None:
        self.modules: list[Module] = []
        self.hidden = self.dimension = hidden
        self._source, self._static, self._own_code = source, static, own_code
        self._pooled = static
        self._projected = False
        self._too_early: tuple[str, str] | None = None

    def add(self, module: Module, path: str) -> None:
        """Put a module at the end.

        Raises:
            ModelFormatError: It does not fit what comes before it.
        """
        kind = type(module).__name__
        if isinstance(module, Pooling):
            self._add_pooling(module, path)
        elif isinstance(module, Dense) and module.input_name == "token_embeddings":
            if self._static:
                raise self._misfit(path, f"a {kind} of token embeddings follows static embeddings")
            self._check(path, kind, "token embeddings", self.hidden, int(module.weight.shape[1]))
            if module.output_name != "token_embeddings":
                raise self._misfit(path, f"a {kind} makes a sentence embedding of tokens unpooled")
            self.hidden = module.out_features
            self._projected = True
        elif isinstance(module, Normalize) and module.input_name == "token_embeddings":
            if self._pooled:
                raise self._misfit(path, f"a {kind} of token embeddings follows their pooling")
        elif isinstance(module, Dense | LayerNorm | Normalize | SparseAutoEncoder):
            if not self._pooled:
                self._too_early = (path, kind)
            if isinstance(module, Dense):
                if module.output_name != "sentence_embedding":
                    raise self._misfit(path, f"a {kind} makes token embeddings of the sentence's")
                self._check(path, kind, "embeddings", self.dimension, int(module.weight.shape[1]))
                self.dimension = module.out_features
            elif isinstance(module, LayerNorm):
                width = int(module.weight.shape[0])
                self._check(path, kind, "embeddings", self.dimension, width)
                self.dimension = self.dimension or width
            elif isinstance(module, SparseAutoEncoder):
                width = int(module.weight.shape[1])
                self._check(path, kind, "embeddings", self.dimension, width)
                self.dimension = module.out_features
        self.modules.append(module)

    def _add_pooling(self, module: Pooling, path: str) -> None:
        if self._static:
            raise self._misfit(path, "a Pooling follows static embeddings, which are pooled")
        if self._too_early is not None:
            place, kind = self._too_early
            raise self._misfit(place, f"a {kind} comes before anything is pooled")
        stated = pooling_width(self._source, path)
        certain = not self._own_code and not self._projected
        if certain and self.hidden and stated and stated != self.hidden:
            raise ModelFormatError(
                f"{self._source}: {path}/config.json pools token embeddings of {stated} "
                f"dimensions, and config.json says {self.hidden}. They belong to different models: "
                "restore the files of one."
            )
        # The model's own code may do anything; what its author pools is what comes out.
        self.hidden = (stated if self._own_code else 0) or self.hidden or stated
        self.dimension = self.hidden * len(module.modes)
        self._pooled = True

    def _check(self, path: str, kind: str, what: str, given: int, taken: int) -> None:
        if given and taken and given != taken:
            raise self._misfit(
                path, f"a {kind} takes {what} of {taken} dimensions and is given {given}"
            )

    def _misfit(self, path: str, why: str) -> ModelFormatError:
        return ModelFormatError(
            f"{self._source}: the modules do not fit together: in {path!r}, {why}. Restore "
            "modules.json and the folders it names."
        )
