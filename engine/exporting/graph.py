"""A trained model as one graph that torch.export can trace for every image size, compared with torch.

The graph holds all members, their views, their combination and the normalisation. It has its own code for
prediction, since the predictor computes sizes in Python; `largest_difference` compares the two.

Shapes: B images of h x w pixels, C classes.
"""

import json
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine import __version__
from engine.data.bands import RGB
from engine.exporting import ExportError
from engine.run_folder import written_in_place
from engine.scoring.label_kinds import MultiLabel
from engine.scoring.segmenter import Segmenter
from models.origin import licence_of_run

MIN_VIEW_PX = 64  # a traced side is at least two tokens of the coarsest grid
PROGRAM_TOLERANCE = 1e-4  # of probabilities; sums run in another order than in the predictor
TEST_IMAGES = ((1, 0, 0), (1, 269, 193), (1, 64, 128), (2, 311, 436))  # number; px more than the least side
Outputs = tuple[Tensor, Tensor]


class Graph(nn.Module):
    """(B, n, h, w) uint8 -> labels (B, h, w) uint8 and probabilities (B, C, h, w) float32.

    With data.labels: multi, labels are (B, C, h, w): 1 where the probability reaches its threshold.

    Raises:
        ExportError: the protocol is not `native` (others crop or pad depending on the size of an image), or
            logits are averaged.
    """

    def __init__(self, segmenter: Segmenter):
        super().__init__()
        protocol = segmenter.protocol
        for key, value, held in (
            ("protocol", protocol.name, "native"),
            ("average", protocol.average, "probability"),
        ):
            if value != held:
                raise ExportError(
                    f"A graph can only have eval.{key}={held}, with any scales and flip, but this run has "
                    f"eval.{key}={value}. Add eval.{key}={held} to the command."
                )
        self.num_bands = len(segmenter.bands or RGB)
        self.members = nn.ModuleList(segmenter.trained.members.values())
        self.combination = segmenter.trained.combination
        self.kind = segmenter.kind
        self.scales = [Fraction(repr(scale)) for scale in protocol.scales]
        self.multiple = protocol.multiple
        self.mirrored = (False, True)[: 1 + protocol.flip]
        self.eval().requires_grad_(False)

    @property
    def min_size_px(self) -> int:
        """The smallest side of an image that it takes."""
        return max(MIN_VIEW_PX, *(math.ceil(MIN_VIEW_PX / scale) for scale in self.scales))

    def forward(self, images: Tensor) -> Outputs:
        probabilities = self.combination([self._member(model, images) for model in self.members])
        if self.kind.is_multi:
            return self.kind.decide(probabilities)[0], probabilities
        return probabilities.argmax(dim=1).to(torch.uint8), probabilities

    def _member(self, model: nn.Module, images: Tensor) -> Tensor:
        views = [self._view(model, images, s, mirrored) for s in self.scales for mirrored in self.mirrored]
        return torch.stack(views).mean(dim=0)  # (B, C, h, w)

    def _view(self, model: nn.Module, images: Tensor, scale: Fraction, mirrored: bool) -> Tensor:
        h, w = images.shape[-2:]
        x = images.flip(-1) if mirrored else images
        if scale != 1 or self.multiple != 1:
            m = self.multiple
            size = [(_rounded(scale, side) + m - 1) // m * m for side in (h, w)]
            x = F.interpolate(x.float(), size, mode="bilinear", align_corners=False, antialias=True)
        logits = model(x.float())  # (B, C, h', w')
        logits = logits.flip(-1) if mirrored else logits
        whole = F.interpolate(logits.float(), [h, w], mode="bilinear", align_corners=False)
        return self.kind.probabilities(whole)


def _rounded(scale: Fraction, side: int) -> int:
    """round(scale * side), halves to the even neighbour, by whole numbers alone: ONNX lacks Python's round.

    With x = scale * side that is floor(x + 1/2), less one where x is a half above an even number.
    """
    n, d = scale.numerator, scale.denominator
    halves, whole = 2 * n * side - d, 4 * d  # (2x - 1) / 4 is a whole number in just that case
    return (2 * n * side + d) // (2 * d) + (halves + whole - 1) // whole - halves // whole - 1


def trace(graph: Graph) -> torch.export.ExportedProgram:
    """The graph for any number of images of any size, at least `min_size_px`.

    Raises:
        ExportError: the network depends on the image size in a way that cannot be traced.
    """
    least = graph.min_size_px
    dynamic = torch.export.Dim.DYNAMIC
    # Different sides that no stride divides: the trace would take equal numbers for the same dimension.
    example = torch.zeros(2, graph.num_bands, least + 139, least + 101, dtype=torch.uint8)
    shapes = ({0: dynamic, 2: dynamic(min=least), 3: dynamic(min=least)},)
    try:
        with torch.no_grad():
            program = torch.export.export(graph, (example,), dynamic_shapes=shapes, strict=False)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ExportError(
            f"This network cannot be traced for every image size: {str(error).splitlines()[0]}"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines and paths of this machine
    return program


def export_program(segmenter: Segmenter, out: Path) -> float:
    """Write the graph as a torch.export program (.pt2), which torch runs without Trident.

    The extra file metadata.json holds the metadata. Returns the largest difference of probabilities from the
    segmenter, of the program as it is read again.

    Raises:
        ExportError: it cannot be traced, or its outputs differ.
    """
    graph = Graph(segmenter)
    program = trace(graph)
    about = json.dumps(metadata(segmenter))
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_in_place(out) as temporary:
        with temporary.open("wb") as file:
            torch.export.save(program, file, extra_files={"metadata.json": about})
        with temporary.open("rb") as file:
            run = torch.export.load(file).module()
        with torch.no_grad():
            return largest_difference(run, segmenter, graph.min_size_px, PROGRAM_TOLERANCE)


def metadata(segmenter: Segmenter) -> dict[str, str]:
    """What users of the graph need to know; values other than text are JSON."""
    trained, protocol = segmenter.trained, segmenter.protocol
    bands = segmenter.bands or RGB
    licences = list(dict.fromkeys(licence_of_run(weights) for weights in trained.weights))
    shape, thresholds = "(batch, height, width)", {}
    if isinstance(segmenter.kind, MultiLabel):
        shape = "(batch, classes, height, width), 1 where the probability reaches the threshold of the class"
        thresholds = {"thresholds": json.dumps(segmenter.kind.thresholds)}
    return {
        "name": trained.name,
        "class_names": json.dumps(trained.class_names),
        "palette": json.dumps(trained.palette),
        "input": f"images (batch, {len(bands)}, height, width), uint8, "
        f"{'RGB' if bands == RGB else ', '.join(bands)}; they are normalised inside",
        "range": json.dumps(trained.recipe.data.range),
        "output": f"labels {shape}, uint8; probabilities (batch, classes, height, width)",
        **thresholds,
        "members": json.dumps(list(trained.members)),
        "scales": json.dumps(protocol.scales),
        "flip": json.dumps(protocol.flip),
        "multiple": json.dumps(protocol.multiple),
        "licence": "; ".join(licences),
        "trident": __version__,
    }


def largest_difference(
    run: Callable[[Tensor], Outputs], segmenter: Segmenter, least_px: int, tolerance: float
) -> float:
    """Of the probabilities of an export from those of `segmenter`, over images of several sizes.

    Raises:
        ExportError: it exceeds `tolerance`, shapes differ, or labels differ by more than rounding explains.
    """
    largest = 0.0
    for images in _test_images(least_px, len(segmenter.bands or RGB)):
        expected = segmenter.probabilities(images)
        size = "x".join(map(str, images.shape))
        try:
            labels, probabilities = run(images)
        except Exception as error:  # a runtime may raise anything
            raise ExportError(
                f"The export fails on images {size}, so nothing was written: {error}"
            ) from error
        decided = segmenter.kind.decide(expected)[0]
        if probabilities.shape != expected.shape or labels.shape != decided.shape:
            raise ExportError(
                f"The export gives {tuple(probabilities.shape)} for images {size}. Nothing was written."
            )
        difference = float((probabilities - expected).abs().max())
        if isinstance(segmenter.kind, MultiLabel):
            margins = segmenter.kind.margins(expected)  # (B, C, h, w)
            lost = 2 * float(margins.abs().where(labels != decided, 0.0).max())
        else:
            chosen = expected.gather(1, labels.long().unsqueeze(1)).squeeze(1)  # (B, h, w)
            lost = float((expected.amax(dim=1) - chosen).max())
        if not max(difference, lost / 2) <= tolerance:
            raise ExportError(
                f"The export differs by {difference:.2g} from torch on images {size}; at most {tolerance:g} "
                "is allowed. Nothing was written. Try another of trident export onnx, openvino and torch."
            )
        largest = max(largest, difference)
    return largest


def _test_images(least_px: int, num_bands: int) -> Iterator[Tensor]:
    """Smooth random images: the smallest size, an odd one, one that 32 divides, and a batch of two."""
    generator = torch.Generator().manual_seed(0)
    for num_images, more_h, more_w in TEST_IMAGES:
        size = [least_px + more_h, least_px + more_w]
        coarse = 255 * torch.rand(num_images, num_bands, 12, 16, generator=generator)
        smooth = F.interpolate(coarse, size, mode="bicubic", align_corners=False)
        yield smooth.clamp(0, 255).to(torch.uint8)
