"""Cross-entropy + Dice on logits at a quarter of the resolution: forward and backward, compared with others.

`trident` never holds logits at full size. `upsampled` is the plain form: the same losses on upsampled
logits. `smp` is segmentation_models_pytorch's two losses on upsampled logits.
"""

import sys
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.benchmarks.measuring import installed, peak_mb_in_own_process, peak_mb_of, ratio
from engine.scoring.timing import interleaved
from losses import build_loss
from losses.cross_entropy import cross_entropy
from losses.overlap import Dice

VOID = 255
Loss = Callable[[Tensor, Tensor], Tensor]


def trident(num_classes: int) -> Loss:
    """Our own."""
    loss = build_loss([{"name": "cross_entropy"}, {"name": "dice"}], num_classes, VOID)
    return lambda logits, labels: loss(logits, labels)["loss"]


def upsampled(num_classes: int) -> Loss:
    """Our formulas on logits at full size."""
    dice: Loss = Dice(VOID)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        whole = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
        return cross_entropy(whole, labels, VOID) + dice(whole, labels)

    return loss


def smp(num_classes: int) -> Loss:
    """segmentation_models_pytorch's."""
    from segmentation_models_pytorch.losses import DiceLoss, SoftCrossEntropyLoss

    ce = SoftCrossEntropyLoss(ignore_index=VOID, smooth_factor=0.0)
    overlap = DiceLoss("multiclass", ignore_index=VOID)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        whole = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
        total: Tensor = ce(whole, labels) + overlap(whole, labels)
        return total

    return loss


BUILDERS = {"trident": trident, "upsampled": upsampled, "smp": smp}
PEERS = {"smp": "segmentation_models_pytorch"}  # name -> package


def measure(
    num_classes: int, batch: int, size_px: int, rounds: int, progress: Callable[[int, int], None]
) -> list[dict[str, object]]:
    """Rows of {classes, batch, threads, contender, seconds, times_faster, peak_mb per image}.

    On a CPU with 1 and with 2 threads; `times_faster` is ours against the contender's, within each round.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = [name for name in BUILDERS if name not in PEERS or installed(PEERS[name])]
    inputs = draw(num_classes, batch, size_px, device)
    calls = {name: partial(forward_backward, BUILDERS[name](num_classes), *inputs) for name in names}
    peaks = {name: _peak_mb(name, num_classes, batch, size_px, device) / batch for name in names}
    before = torch.get_num_threads()
    rows: list[dict[str, object]] = []
    for threads in (before,) if device.type == "cuda" else (1, 2):
        torch.set_num_threads(threads)
        seconds = interleaved(calls, rounds, progress)
        rows += [
            {"classes": num_classes, "batch": batch, "size_px": size_px, "threads": threads}
            | {"contender": name, "seconds": seconds[name], "median_s": median(seconds[name])}
            | {"times_faster": ratio(seconds[name], seconds["trident"]), "peak_mb": peaks[name]}
            for name in names
        ]
    torch.set_num_threads(before)
    return rows


def draw(num_classes: int, batch: int, size_px: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits at a quarter of the size, and labels in blocks of 16 px with void between them."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, num_classes, size_px // 4, size_px // 4, generator=generator)
    blocks = torch.randint(0, num_classes, (batch, -(-size_px // 16), -(-size_px // 16)), generator=generator)
    labels = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :size_px, :size_px].contiguous()
    labels[:, ::16] = VOID
    return logits.to(device), labels.to(device)


def forward_backward(loss: Loss, logits: Tensor, labels: Tensor) -> None:
    """One loss and its gradient at the logits."""
    leaf = logits.detach().requires_grad_()
    loss(leaf, labels).backward()  # type: ignore[no-untyped-call]


def _peak_mb(name: str, num_classes: int, batch: int, size_px: int, device: torch.device) -> float:
    if device.type == "cpu":
        numbers = (str(number) for number in (num_classes, batch, size_px))
        return peak_mb_in_own_process("engine.benchmarks.loss", name, *numbers)
    inputs = draw(num_classes, batch, size_px, device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    forward_backward(BUILDERS[name](num_classes), *inputs)
    return (torch.cuda.max_memory_allocated() - before) / (1 << 20)


if __name__ == "__main__":
    _name, _classes, _batch, _size = sys.argv[1], *map(int, sys.argv[2:])
    _loss, _inputs = BUILDERS[_name](_classes), draw(_classes, _batch, _size, torch.device("cpu"))
    forward_backward(_loss, *draw(_classes, 1, 64, torch.device("cpu")))  # loads the kernels
    print(peak_mb_of(partial(forward_backward, _loss, *_inputs)))
