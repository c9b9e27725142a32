"""Weights inside an ONNX file, mapped into memory from where they lie.

ONNX Runtime copies what a file holds itself and maps external data. A graph whose initializers name
the file itself as their external data, with the place of their bytes, makes it map those as well.
"""

from __future__ import annotations

import mmap
from pathlib import Path

#: Smaller tensors are constants of the graph, which its optimizers fold.
_LEAST_BYTES = 4_096


def graph_over(path: Path) -> bytes:
    """The model of a file, its weights external data that lies in this file.

    `session.model_external_initializers_file_folder_path` must name the file's folder.
    """
    import onnx

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        model = onnx.load_from_string(data[:])
        end = 0
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < _LEAST_BYTES:
                continue
            # Initializers stand in the file one after the other.
            start = data.find(tensor.raw_data, end)
            if start < 0:
                continue
            end = start + len(tensor.raw_data)
            place = {"location": path.name, "offset": start, "length": end - start}
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
    graph: bytes = model.SerializeToString()
    return graph
