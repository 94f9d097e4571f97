"""A trained model with 8-bit weights and activations, by onnxruntime's static quantisation; what that costs.

The ranges of the activations are measured on images of the training split, the cost on those of val: both
files predict them, next to each other.

Shapes: an image of n bands, h x w pixels; C classes.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data import Dataset, open_split
from engine.data.sample import DataError, Sample, note_or_raise, read_or_error
from engine.exporting import ExportError
from engine.exporting.graph import Graph, Outputs, largest_difference, metadata
from engine.exporting.onnx_graph import TOLERANCE, onnx_runner, write_onnx
from engine.run_folder import write_json
from engine.scoring.confusion import Scores
from engine.scoring.label_kinds import LabelKind
from engine.scoring.segmenter import Segmenter
from engine.scoring.trained import require_classes
from engine.wording import quantity

Progress = Callable[[str], Callable[[int, int], None]]
CPU = torch.device("cpu")
QUANTISED = ("Conv", "MatMul", "Gemm")  # nearly all of the time; the rest stays in float32


@dataclass(frozen=True)
class Cost:
    """What 8 bits cost on a split.

    fp32, int8: scores of the two files, by onnxruntime. agreement: the share of pixels to which both give the
    same class. seconds: a mean over the images, by file. bytes: of each file. left_out: images that are too
    small for a graph.
    """

    split: str
    num_images: int
    left_out: int
    num_calibration: int
    fp32: Scores
    int8: Scores
    agreement: float
    seconds: dict[str, float]
    bytes: dict[str, int]

    def lines(self) -> list[str]:
        """For the console."""
        left_out = f", {self.left_out} too small for a graph left out" if self.left_out else ""
        change = self.int8.mIoU - self.fp32.mIoU
        return [
            f"calibrated on {quantity(self.num_calibration, 'image')} of the training split",
            f"{self.split}, {quantity(self.num_images, 'image')}{left_out}:",
            f"  mIoU {self.fp32.mIoU:.4f} in float32, {self.int8.mIoU:.4f} in 8 bits ({change:+.4f})",
            f"  the same class at {100 * self.agreement:.2f} % of the pixels",
            f"  {self.seconds['fp32']:.3f} s an image in float32, {self.seconds['int8']:.3f} s in 8 bits",
            f"  {self.bytes['fp32'] / 1e6:,.1f} MB in float32, {self.bytes['int8'] / 1e6:,.1f} MB in 8 bits",
        ]

    def to_dict(self) -> dict[str, object]:
        """In the form of the .json next to the file."""
        return {**vars(self), "fp32": self.fp32.to_dict(), "int8": self.int8.to_dict()}


def cost_file(out: Path) -> Path:
    """The .json next to an exported file."""
    return out.with_name(out.name + ".json")


def export_int8(segmenter: Segmenter, out: Path, num_images: int, progress: Progress) -> tuple[float, Cost]:
    """Write `out`, and its cost next to it; returns that, and how far the float32 graph is from torch.

    Args:
        num_images: of the training split, for the ranges of the activations.

    Raises:
        ExportError: it cannot be traced or translated, the float32 graph differs from torch, or no image of
            a split is large enough.
        DataError, RunFolderError: the splits are not where the recipe says, or have other classes.
    """
    import onnx

    graph, about = Graph(segmenter), metadata(segmenter)
    section = segmenter.trained.recipe.data
    train, val = (_split(segmenter, name) for name in (section.train, section.val))
    usable = _large_enough(train, section.train, graph.min_size_px)
    scored = _large_enough(val, section.val, graph.min_size_px)
    evenly = np.linspace(0, len(usable) - 1, min(num_images, len(usable))).round().astype(int)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}") as folder:
        fp32, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        write_onnx(graph, about, fp32)
        difference = largest_difference(onnx_runner(fp32), segmenter, graph.min_size_px, TOLERANCE)
        _quantise(fp32, int8, _samples(train, [usable[place] for place in evenly], progress("calibrating")))
        runs = {"fp32": onnx_runner(fp32), "int8": onnx_runner(int8)}
        counted = _count(runs, val, scored, segmenter.kind, progress("scoring"))
        cost = Cost(
            split=section.val,
            num_images=len(scored),
            left_out=len(val) - len(scored),
            num_calibration=len(evenly),
            bytes={"fp32": fp32.stat().st_size, "int8": int8.stat().st_size},
            **counted,
        )
        model = onnx.load(int8)
        onnx.helper.set_model_props(model, about)  # the quantiser adds its own
        onnx.save(model, int8)
        write_json(cost_file(out), {"model": segmenter.name, **cost.to_dict()})
        int8.replace(out)
    return difference, cost


def _split(segmenter: Segmenter, name: str) -> Dataset:
    dataset = open_split(segmenter.trained.recipe.data, name)
    require_classes(dataset, segmenter.class_names, Path(segmenter.name))
    return dataset


def _large_enough(dataset: Dataset, split: str, least_px: int) -> list[int]:
    found = [index for index, size in enumerate(dataset.sizes()) if min(size) >= least_px]
    if not found:
        raise ExportError(
            f"No image of {split} has sides of {least_px} px or more, which a graph of this model needs."
        )
    return found


def _samples(dataset: Dataset, indices: Sequence[int], show: Callable[[int, int], None]) -> Iterator[Sample]:
    for done, index in enumerate(indices, start=1):
        sample = read_or_error(dataset, index)
        if isinstance(sample, DataError):
            note_or_raise(dataset, index, sample)
        else:
            yield sample
        show(done, len(indices))


def _quantise(fp32: Path, int8: Path, samples: Iterator[Sample]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            sample = next(samples, None)
            return None if sample is None else {"images": sample.image[None].numpy()}

    prepared = fp32.with_name("prepared.onnx")
    quant_pre_process(fp32, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        int8,
        Images(),
        op_types_to_quantize=list(QUANTISED),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _count(
    runs: Mapping[str, Callable[[Tensor], Outputs]],
    dataset: Dataset,
    indices: Sequence[int],
    kind: LabelKind,
    show: Callable[[int, int], None],
) -> dict[str, Any]:
    """Scores of both files, how often they agree, and their mean time."""
    tallies = {name: kind.tally(name, len(dataset.class_names), CPU) for name in runs}
    seconds, num_images, same, num_pixels = dict.fromkeys(runs, 0.0), 0, 0, 0
    for sample in _samples(dataset, indices, show):
        found, labels, every = {}, sample.labels[None], slice(None)
        void = labels == dataset.ignore_index
        for name, run in runs.items():
            start = time.perf_counter()
            found[name], probabilities = run(sample.image[None])  # (1, h, w) or (1, C, h, w); (1, C, h, w)
            seconds[name] += time.perf_counter() - start
            maps = kind.maps(name, (1, len(dataset.class_names), *sample.size), CPU, detailed=False)
            maps.put(every, every, probabilities, labels, void)
            counts = maps.counts(labels, dataset.ignore_index, None)
            tallies[name].add(counts, maps.log_loss, void.sum())
        same += int((found["fp32"] == found["int8"]).sum())
        num_images, num_pixels = num_images + 1, num_pixels + labels.numel()
    return {
        **{name: tally.scores(dataset.class_names) for name, tally in tallies.items()},
        "agreement": same / num_pixels,
        "seconds": {name: total / num_images for name, total in seconds.items()},
    }
