"""A trained model as an ONNX file: onnxruntime and others run it without torch."""

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.exporting import ExportError
from engine.exporting.graph import Graph, Outputs, largest_difference, metadata, trace
from engine.run_folder import written_in_place
from engine.scoring.segmenter import Segmenter

TOLERANCE = 1e-3  # of probabilities; sums in another order change a resized view by less
HALF_TOLERANCE = 0.05  # float16 has 11 bits
OLDEST_OPSET = 18  # the exporter of torch writes no older one
CPU = "CPUExecutionProvider"
MAX_BYTES = 2**31  # the limit of a protobuf message, which an ONNX file is


def export_onnx(segmenter: Segmenter, out: Path, opset: int | None = None, half: bool = False) -> float:
    """Write `out`; returns the largest difference of probabilities between onnxruntime and torch.

    Args:
        opset: version of ONNX's operators; None takes that of the installed exporter.
        half: compute in float16; images, labels and probabilities keep their types.

    Raises:
        ExportError: it cannot be traced or translated, is too large, or its outputs differ.
    """
    graph = Graph(segmenter)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_in_place(out) as temporary:
        write_onnx(graph, metadata(segmenter), temporary, opset, half)
        tolerance = HALF_TOLERANCE if half else TOLERANCE
        return largest_difference(onnx_runner(temporary), segmenter, graph.min_size_px, tolerance)


def require_opset(opset: int | None) -> None:
    """Raises ExportError for a version of the operators that the installed libraries do not know."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not OLDEST_OPSET <= opset <= newest:
        raise ExportError(f"--opset {opset}: expected a version from {OLDEST_OPSET} to {newest}.")


def write_onnx(
    graph: Graph, about: dict[str, str], path: Path, opset: int | None = None, half: bool = False
) -> None:
    """Trace and translate the graph; what is written has not been compared with torch.

    Raises:
        ExportError: as `export_onnx` does.
    """
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    if num_bytes >= MAX_BYTES:
        raise ExportError(
            f"The weights take {num_bytes / 1e9:.1f} GB, and an ONNX file holds 2 GB. Export fewer "
            "members, or use export torch."
        )
    _write(trace(graph), about, path, opset)
    if half:
        _halve(path)


def _write(
    program: torch.export.ExportedProgram, about: dict[str, str], path: Path, opset: int | None
) -> None:
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it reports every constant that it does not fold
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.onnx.export(
                program,
                (),
                dynamo=True,
                verbose=False,
                opset_version=opset,
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


def _halve(path: Path) -> None:
    """Make a file compute in float16, but for the operations that onnxruntime lacks in it."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


def onnx_runner(
    path: Path, provider: str = CPU, options: Mapping[str, Any] = MappingProxyType({})
) -> Callable[[Tensor], Outputs]:
    """The file as a function of tensors, computed by a provider of onnxruntime.

    Raises:
        ExportError: the provider does not start here.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors: it warns of each constant that it cannot fold in float16
    session = onnxruntime.InferenceSession(path, settings, providers=[(provider, dict(options))])
    if session.get_providers()[0] != provider:  # onnxruntime goes on with the CPU
        raise ExportError(f"onnxruntime cannot start {provider} on this machine; its own message says why.")

    def run(images: Tensor) -> Outputs:
        found: list[NDArray[Any]] = session.run(["labels", "probabilities"], {"images": images.numpy()})
        labels, probabilities = map(torch.from_numpy, found)
        return labels, probabilities

    return run
