"""A converted transformer: opening it and running padded batches."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from core import Architecture, Checkpoint, LoadOptions, Model, Runtime, TokenBatch
from core.errors import ModelFormatError, OptionError
from core.toolkit import available_cpus

#: What CTranslate2 wants beside model.bin.
COMPANIONS = ("config.json", "vocabulary.json")


class EncoderRuntime(Runtime):
    """Several batches at once, one thread each: replicas share the weights."""

    any_padding_side = False

    def __init__(
        self, architecture: Architecture, encoder: ctranslate2.Encoder, workers: int
    ) -> None:
        super().__init__(architecture)
        self._encoder: ctranslate2.Encoder | None = encoder
        self.max_workers = workers
        self.device = encoder.device
        self.dtype = encoder.compute_type
        self._takes_types = architecture.config.get("type_vocab_size", 0) > 1

    @classmethod
    def open(
        cls, source: Checkpoint, architecture: Architecture, options: LoadOptions
    ) -> EncoderRuntime:
        """Open the folder of `options.file_name`."""
        kwargs = options.model_kwargs
        device, _, index = (options.device or "cpu").partition(":")
        workers = kwargs.get("inter_threads") or available_cpus()
        folder = PurePosixPath(options.file_name or "").parent
        names = [options.file_name or "", *(str(folder / name) for name in COMPANIONS)]
        try:
            encoder = ctranslate2.Encoder(
                str(source.folder(names) / folder),
                device=device,
                device_index=int(index or 0),
                compute_type=kwargs.get("compute_type") or "default",
                inter_threads=workers,
                intra_threads=kwargs.get("intra_threads") or 1,
            )
        except ValueError as error:  # a device or a compute type that is not there
            raise OptionError(f"CTranslate2 cannot use device={options.device!r}: {error}") from (
                error
            )
        except (RuntimeError, TypeError) as error:
            raise ModelFormatError(
                f"{source}: CTranslate2 cannot open {options.file_name}: {error}. Export it again."
            ) from error
        return cls(architecture, encoder, workers)

    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        assert self._encoder is not None
        lengths = batch.attention_mask.sum(axis=1, dtype=np.int32)
        # CTranslate2 pads on the right, whatever the tokenizer's side.
        mask = np.arange(batch.width) < lengths[:, None]
        # Views share the arrays' memory and do not keep them alive: these names do.
        ids = _aligned(batch.input_ids, batch, mask)
        result = np.zeros((batch.rows, batch.width, self.architecture.hidden_size), np.float32)
        output = self._encoder.forward_batch(
            ctranslate2.StorageView.from_array(ids),
            ctranslate2.StorageView.from_array(lengths),
            _aligned(batch.token_type_ids, batch, mask).tolist() if self._takes_types else None,
        )
        hidden = output.last_hidden_state
        if hidden.device != "cpu":
            hidden = hidden.to_device(ctranslate2.Device.cpu)
        if hidden.dtype != ctranslate2.DataType.float32:
            hidden = hidden.to(ctranslate2.DataType.float32)
        result[batch.attention_mask.astype(bool)] = np.array(hidden)[mask]
        return result

    def close(self) -> None:
        self._encoder = None


def _aligned(
    values: NDArray[np.int64], batch: TokenBatch, mask: NDArray[np.bool_]
) -> NDArray[np.int32]:
    result = np.zeros(values.shape, dtype=np.int32)
    result[mask] = values[batch.attention_mask.astype(bool)]
    return result


def save_files(model: Model, target: Path) -> Path:
    """Put the loaded file and its companions where they were; static models do not have any."""
    if model.file_name is not None:
        folder = PurePosixPath(model.file_name).parent
        for name in (model.file_name, *(str(folder / name) for name in COMPANIONS)):
            place = target / name
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model.source.path(name), place)
    return target
