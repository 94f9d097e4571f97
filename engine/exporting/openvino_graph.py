"""A trained model as an OpenVINO model: a description (.xml) and its weights (.bin)."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from engine.exporting.graph import Graph, Outputs, largest_difference, metadata
from engine.exporting.onnx_graph import HALF_TOLERANCE, TOLERANCE, write_onnx
from engine.scoring.segmenter import Segmenter


def export_openvino(segmenter: Segmenter, out: Path, half: bool = False) -> float:
    """Write `out` and its weights; returns the largest difference of probabilities from torch.

    Args:
        out: a file .xml; the weights are next to it, as .bin.
        half: store the weights in float16, half of the size.

    Raises:
        ExportError: it cannot be traced or translated, or its outputs differ.
    """
    import openvino

    graph, about = Graph(segmenter), metadata(segmenter)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}") as folder:
        plain, description = Path(folder) / "plain.onnx", Path(folder) / out.name
        write_onnx(graph, about, plain)  # OpenVINO's own reader of torch lacks operations on sizes
        model = openvino.convert_model(plain)
        _antialias(model)
        for key, value in about.items():
            model.set_rt_info(value, ["trident", key])
        openvino.save_model(model, description, compress_to_fp16=half)
        tolerance = HALF_TOLERANCE if half else TOLERANCE
        difference = largest_difference(_runner(description), segmenter, graph.min_size_px, tolerance)
        weights_of(description).replace(weights_of(out))
        description.replace(out)
    return difference


def _antialias(model: Any) -> None:
    """Resize as torch does where it filters: OpenVINO's reader of ONNX takes modes without a filter."""
    import numpy as np
    from openvino import opset11, opset13
    from openvino.utils import replace_node

    for node in [node for node in model.get_ops() if node.get_type_name() == "Interpolate"]:
        settings = node.get_attributes()
        if settings["antialias"]:
            mode = "bicubic_pillow" if settings["mode"] == "cubic" else "bilinear_pillow"
            images, size = (node.input_value(place) for place in (0, 1))  # (B, n, h, w), and its new shape
            side = opset13.gather(size, np.array([2, 3]), np.array(0))
            same = {"axes": np.array([2, 3]), "cube_coeff": settings["cube_coeff"]}
            filtered = opset11.interpolate(images, side, mode, "sizes", [0] * 4, [0] * 4, **same)
            filtered.set_friendly_name(node.get_friendly_name())
            replace_node(node, filtered)


def weights_of(description: Path) -> Path:
    """The file of the weights that belongs to an .xml."""
    return description.with_suffix(".bin")


def _runner(path: Path) -> Callable[[Tensor], Outputs]:
    """The files as a function of tensors, on the CPU in float32; some CPUs take bfloat16 otherwise."""
    import openvino

    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Tensor) -> Outputs:
        found = model({"images": images.numpy()})
        return torch.from_numpy(found["labels"]), torch.from_numpy(found["probabilities"])

    return run
