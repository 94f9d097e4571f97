"""A trained model as an ONNX file with an engine of TensorRT inside, by onnxruntime's provider.

Such a file runs on the kind of GPU on which it was made. Not yet measured on a GPU.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from engine.exporting import ExportError
from engine.exporting.graph import TEST_IMAGES, Graph, largest_difference, metadata
from engine.exporting.onnx_graph import HALF_TOLERANCE, TOLERANCE, onnx_runner, write_onnx
from engine.scoring.segmenter import Segmenter

PROVIDER = "TensorrtExecutionProvider"
MAX_BATCH, USUAL_PX = 4, 512  # of the images that the engine takes; it is fastest near the usual size


def require_tensorrt() -> None:
    """Raises ExportError where onnxruntime was built without TensorRT."""
    import onnxruntime

    if PROVIDER not in onnxruntime.get_available_providers():
        raise ExportError(
            "This onnxruntime has no TensorRT, which needs an NVIDIA GPU. There, type pip uninstall -y "
            "onnxruntime, then pip install 'trident-seg[tensorrt]', or in a checkout "
            "pip install -e '.[tensorrt]'."
        )


def export_tensorrt(segmenter: Segmenter, out: Path, half: bool = False, largest_px: int = 1024) -> float:
    """Write `out`; returns the largest difference of probabilities between TensorRT and torch.

    Args:
        half: let TensorRT compute in float16.
        largest_px: the longest side of an image that the engine takes.

    Raises:
        ExportError: it cannot be traced or translated, TensorRT does not take it, or its outputs differ.
    """
    import onnx

    graph = Graph(segmenter)
    least = graph.min_size_px
    needed = least + max(max(more) for _, *more in TEST_IMAGES)
    if largest_px < needed:
        raise ExportError(f"--largest {largest_px}: expected at least {needed} px, on which it is compared.")
    about = metadata(segmenter)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}") as folder:
        plain, engine = Path(folder) / "plain.onnx", Path(folder) / "engine.onnx"
        write_onnx(graph, about, plain)
        onnx_runner(plain, PROVIDER, _options(graph, engine, half, largest_px))  # its start writes the engine
        model = onnx.load(engine)
        onnx.helper.set_model_props(model, about)
        onnx.save(model, engine)
        tolerance = HALF_TOLERANCE if half else TOLERANCE
        difference = largest_difference(onnx_runner(engine, PROVIDER), segmenter, least, tolerance)
        engine.replace(out)
    return difference


def _options(graph: Graph, engine: Path, half: bool, largest_px: int) -> dict[str, object]:
    usual = min(max(USUAL_PX, graph.min_size_px), largest_px)
    shapes = {"min": (1, graph.min_size_px), "opt": (1, usual), "max": (MAX_BATCH, largest_px)}
    return {
        "trt_fp16_enable": half,
        "trt_dump_ep_context_model": True,
        "trt_ep_context_embed_mode": 1,  # the engine is inside the file
        "trt_ep_context_file_path": str(engine),
    } | {
        f"trt_profile_{which}_shapes": f"images:{batch}x{graph.num_bands}x{side}x{side}"
        for which, (batch, side) in shapes.items()
    }
