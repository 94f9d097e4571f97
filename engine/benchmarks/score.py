"""Counting a confusion matrix, sliding windows and scoring a split, compared with other ways.

`histc` is the form of MMSegmentation's `intersect_and_union`: void pixels are taken out of both maps, then
three histograms. `smp` is segmentation_models_pytorch's `get_stats`. Both get int64, as they do where they
are used; `trident` gets the 8 bits that the evaluation keeps, and int64 once more.

`one by one` is the form of MMSegmentation's `slide_inference`, with probabilities in place of logits: one
window at a time, each padded to the whole canvas and added. Both ways end in the class of each pixel.

`plain loop` scores a split as a script does: one image after another through the same model, logits
upsampled to the size of the labels, argmax, bincount.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.benchmarks.measuring import installed, ratio
from engine.data.batches import Batch
from engine.scoring.confusion import confusion_matrices
from engine.scoring.counting import most_likely
from engine.scoring.evaluation import evaluate
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.timing import interleaved
from engine.scoring.upsampling import strips
from models.segformer import SegFormer

VOID = 255
PEERS = {"smp": "segmentation_models_pytorch"}  # name -> package
REPEATS = 20  # of one count, which takes less than a millisecond
SPLIT_PX, SPLIT_IMAGES, NUM_CLASSES = (375, 500), 8, 21  # of most photos of VOC
SLIDE_PX, SLIDE_CLASSES, WINDOW_PX, STRIDE_PX = (1024, 2048), 19, 512, 384
Rows = list[dict[str, object]]


def measure(size_px: int, rounds: int, show: Callable[[str], Callable[[int, int], None]]) -> Rows:
    """Rows of {what, contender, seconds, median_s, times_faster}, the last of ours within each round."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.no_grad():
        counting = interleaved(_counting(size_px, device), rounds, show("counting"))
        counting = {name: [s / REPEATS for s in seconds] for name, seconds in counting.items()}
        sliding = interleaved(_sliding(device), rounds, show("sliding"))
        scoring = interleaved(_scoring(device), rounds, show("scoring a split"))
    return [
        *_rows(f"confusion, {size_px} x {size_px} px, {NUM_CLASSES} classes", counting),
        *_rows(f"slide, B0, {_by(SLIDE_PX)}, windows of {WINDOW_PX} px every {STRIDE_PX} px", sliding),
        *_rows(f"split, B0, {SPLIT_IMAGES} images of {_by(SPLIT_PX)}, {NUM_CLASSES} classes", scoring),
    ]


def _by(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]} x {size_px[1]} px"


def _rows(what: str, seconds: Mapping[str, list[float]]) -> Rows:
    return [
        {"what": what, "contender": name, "seconds": own, "median_s": median(own)}
        | {"times_faster": ratio(own, seconds["trident"])}
        for name, own in seconds.items()
    ]


def _counting(size_px: int, device: torch.device) -> dict[str, Callable[[], object]]:
    prediction, labels = draw(size_px, device)
    wide = prediction.long(), labels.long()
    calls: dict[str, Callable[[], object]] = {
        "trident": lambda: confusion_matrices(prediction, labels, NUM_CLASSES, VOID),
        "trident, int64": lambda: confusion_matrices(*wide, NUM_CLASSES, VOID),
        "histc": lambda: histc(*wide, NUM_CLASSES, VOID),
    }
    if installed(PEERS["smp"]):
        from segmentation_models_pytorch.metrics import get_stats

        calls["smp"] = lambda: get_stats(*wide, "multiclass", ignore_index=VOID, num_classes=NUM_CLASSES)
    return {name: partial(_repeat, call) for name, call in calls.items()}


def _repeat(call: Callable[[], object]) -> None:
    for _ in range(REPEATS):
        call()


def draw(size_px: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 prediction and labels (1, size, size) in blocks of 16 px, a fifth wrong, with void borders."""
    generator = torch.Generator().manual_seed(0)
    num_blocks = -(-size_px // 16)
    blocks = torch.randint(0, NUM_CLASSES, (1, num_blocks, num_blocks), generator=generator).to(torch.uint8)
    labels = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :size_px, :size_px].contiguous()
    wrong = torch.rand(labels.shape, generator=generator) < 0.2
    prediction = torch.where(wrong, 0, labels)
    labels[:, ::16] = VOID
    return prediction.to(device), labels.to(device)


def histc(prediction: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, ...]:
    """(C,) pixels of intersection, prediction and label, on the CPU."""
    labelled = labels != ignore_index
    prediction, labels = prediction[labelled], labels[labelled]
    areas = (
        torch.histc(ids.float(), bins=num_classes, min=0, max=num_classes - 1).cpu()
        for ids in (prediction[prediction == labels], prediction, labels)
    )
    return tuple(areas)


def _sliding(device: torch.device) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    model = SegFormer("b0", num_classes=SLIDE_CLASSES).to(device).eval()
    images = torch.randint(0, 256, (1, 3, *SLIDE_PX), dtype=torch.uint8, device=device)
    protocol = EvaluationProtocol("slide", window_px=WINDOW_PX, stride_px=STRIDE_PX)
    return {
        "trident": lambda: in_strips(model, images, protocol),
        "one by one": lambda: one_by_one(model, images, protocol),
    }


def in_strips(model: nn.Module, images: Tensor, protocol: EvaluationProtocol) -> Tensor:
    """(B, h, w) class ids, as in the evaluation."""
    pieces = Predictor(protocol, nullcontext).pieces(model, images)
    found = torch.empty(images.shape[0], *images.shape[2:], dtype=torch.uint8, device=images.device)
    for some, rows in strips(pieces.shape, images.device):
        found[some, rows], _ = most_likely(pieces.probabilities(some, rows))
    return found


def one_by_one(model: nn.Module, images: Tensor, protocol: EvaluationProtocol) -> Tensor:
    """(B, h, w) class ids, one window at a time on the whole canvas."""
    h, w = images.shape[2:]
    total: Tensor | None = None
    times = torch.zeros(1, 1, h, w, device=images.device)
    for view in protocol.views(h, w):
        top, left, height, width = view.box
        logits = model(images[..., top : top + height, left : left + width])
        whole = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False).softmax(1)
        canvas = F.pad(whole, (left, w - left - width, top, h - top - height))
        total = canvas if total is None else total.add_(canvas)
        times[..., top : top + height, left : left + width] += 1
    assert total is not None
    return (total / times).argmax(1)


def _scoring(device: torch.device) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    model = SegFormer("b0", NUM_CLASSES).to(device).eval()
    batches = drawn_batches(SPLIT_PX, SPLIT_IMAGES, device)
    return {"trident": lambda: scored(model, batches), "plain loop": lambda: plain_loop(model, batches)}


def drawn_batches(size_px: tuple[int, int], num: int, device: torch.device) -> list[Batch]:
    """Images of noise, one in each batch, with labels in blocks."""
    batches = []
    for number in range(num):
        images = torch.randint(0, 256, (1, 3, *size_px), dtype=torch.uint8, device=device)
        _, labels = draw(max(size_px), device)
        batches.append(Batch(images, labels[:, : size_px[0], : size_px[1]], [str(number)]))
    return batches


def scored(model: nn.Module, batches: list[Batch]) -> Tensor:
    """(C, C) confusion, as in the evaluation."""
    predictor, device = Predictor(EvaluationProtocol(), nullcontext), batches[0].images.device
    [tally] = evaluate({"model": model}, batches, predictor, NUM_CLASSES, VOID, device).values()
    return tally.confusion


def plain_loop(model: nn.Module, batches: list[Batch]) -> Tensor:
    """(C, C) confusion"""
    total = torch.zeros(NUM_CLASSES**2, dtype=torch.int64, device=batches[0].images.device)
    for batch in batches:
        labels = batch.labels.long()
        logits = F.interpolate(model(batch.images.float()), labels.shape[1:], mode="bilinear")
        labelled = labels != VOID
        pairs = labels[labelled] * NUM_CLASSES + logits.argmax(1)[labelled]
        total += torch.bincount(pairs, minlength=NUM_CLASSES**2)
    return total.view(NUM_CLASSES, NUM_CLASSES)
