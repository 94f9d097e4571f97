"""A trained model as an ONNX file: onnxruntime and others run it without torch."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.exporting import ExportError
from engine.exporting.graph import Graph, Outputs, largest_difference, metadata, trace
from engine.run_folder import written_in_place
from engine.scoring.segmenter import Segmenter

TOLERANCE = 1e-3  # of probabilities; sums in another order change a resized view by less
MAX_BYTES = 2**31  # the limit of a protobuf message, which an ONNX file is


def require_libraries() -> None:
    """Raises ExportError where the extra `export` is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"{error.name} is not installed. Type pip install 'trident-seg[export]', or in a checkout "
            "pip install -e '.[export]'."
        ) from error


def export_onnx(segmenter: Segmenter, out: Path) -> float:
    """Write `out`; returns the largest difference of probabilities between onnxruntime and torch.

    Raises:
        ExportError: it cannot be traced or translated, is too large, or its outputs differ.
    """
    graph = Graph(segmenter)
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    if num_bytes >= MAX_BYTES:
        raise ExportError(
            f"The weights take {num_bytes / 1e9:.1f} GB, and an ONNX file holds 2 GB. Export fewer "
            "members, or use export torch."
        )
    program = trace(graph)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_in_place(out) as temporary:
        _write(program, metadata(segmenter), temporary)
        return largest_difference(_runner(temporary), segmenter, graph.min_size_px, TOLERANCE)


def _write(program: torch.export.ExportedProgram, about: dict[str, str], path: Path) -> None:
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it reports every constant that it does not fold
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.onnx.export(
                program,
                (),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["labels", "probabilities"],
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            f"This network has an operation that ONNX lacks: {str(error).splitlines()[-1]}. Try export torch."
        ) from error
    assert found is not None
    for node in found.model.graph.all_nodes():
        node.metadata_props.clear()  # lines and paths of this machine
    found.model.metadata_props.update(about)
    found.save(path, external_data=False)


def _runner(path: Path) -> Callable[[Tensor], Outputs]:
    """The file as a function of tensors, computed by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Outputs:
        found: list[NDArray[Any]] = session.run(["labels", "probabilities"], {"images": images.numpy()})
        labels, probabilities = map(torch.from_numpy, found)
        return labels, probabilities

    return run
