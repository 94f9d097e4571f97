"""SegFormer beside transformers' and segmentation_models_pytorch's, at the same widths and sizes.

A training step is forward, logits upsampled to full size, cross-entropy, backward. Peak memory on a CPU is
that of a process of its own, since a process never gives its peak back.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.benchmarks.timing import installed, interleaved, ratio
from models.segformer import VARIANTS, SegFormer

NUM_CLASSES = 21


def trident(variant: str) -> nn.Module:
    """Our own."""
    return SegFormer(variant, NUM_CLASSES)


def transformers(variant: str) -> nn.Module:
    """Hugging Face's, with its attention kernel of choice."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    channels, depths, width = VARIANTS[variant]
    config = SegformerConfig(
        depths=list(depths), hidden_sizes=list(channels), decoder_hidden_size=width, num_labels=NUM_CLASSES
    )
    return SegformerForSemanticSegmentation(config)


def smp(variant: str) -> nn.Module:
    """segmentation_models_pytorch's, its decoder as wide as ours."""
    import segmentation_models_pytorch

    return segmentation_models_pytorch.Segformer(
        f"mit_{variant}",
        encoder_weights=None,
        classes=NUM_CLASSES,
        decoder_segmentation_channels=VARIANTS[variant].decoder_width,
    )


BUILDERS = {"trident": trident, "transformers": transformers, "smp": smp}
PEERS = {"transformers": "transformers", "smp": "segmentation_models_pytorch"}  # name -> package


def contenders() -> dict[str, Callable[[str], nn.Module]]:
    """Ours and the peers that are installed."""
    return {name: build for name, build in BUILDERS.items() if name not in PEERS or installed(PEERS[name])}


def measure(
    variant: str, batch: int, size_px: int, rounds: int, progress: Callable[[int, int], None]
) -> list[dict[str, object]]:
    """Rows of {variant, batch, what, contender, seconds, images_per_s, times_faster, peak_mb}.

    `times_faster` is ours against the contender's, within each round.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = {name: build(variant).to(device) for name, build in contenders().items()}
    images = torch.rand(batch, 3, size_px, size_px, device=device) * 255
    labels = torch.randint(0, NUM_CLASSES, (batch, size_px, size_px), device=device)
    calls = {
        "training step": {
            name: partial(training_step, model, images, labels) for name, model in models.items()
        },
        "inference": {name: partial(inference, model, images) for name, model in models.items()},
    }
    rows: list[dict[str, object]] = []
    for what, callables in calls.items():
        seconds = interleaved(callables, rounds, progress)
        for name, times in seconds.items():
            middle = sorted(times)[len(times) // 2]
            rows.append(
                {"variant": variant, "batch": batch, "size_px": size_px, "what": what, "contender": name}
                | {"seconds": times, "images_per_s": batch / middle}
                | {"times_faster": ratio(times, seconds["trident"])}
            )
            if what == "training step" and device.type == "cpu":
                rows[-1]["peak_mb"] = peak_mb(name, variant, batch, size_px)
    return rows


def training_step(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Forward, cross-entropy at full size, backward."""
    model.train()
    _full_size_loss(_logits(model(images)), labels).backward()
    model.zero_grad(set_to_none=True)


def _full_size_loss(logits: Tensor, labels: Tensor) -> Tensor:
    logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, labels)


@torch.inference_mode()
def inference(model: nn.Module, images: Tensor) -> Tensor:
    """Forward only, as the model gives its logits."""
    return _logits(model.eval()(images))


def peak_mb(contender: str, variant: str, batch: int, size_px: int) -> float:
    """Resident memory that one training step adds to a fresh process, at its peak."""
    command = [sys.executable, "-m", "engine.benchmarks.model", contender, variant, str(batch), str(size_px)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(json.loads(told.splitlines()[-1]))


def _peak_of_this_process(contender: str, variant: str, batch: int, size_px: int) -> float:
    model = BUILDERS[contender](variant)
    images = torch.rand(batch, 3, size_px, size_px) * 255
    labels = torch.randint(0, NUM_CLASSES, (batch, size_px, size_px))
    training_step(model, images[:1, :, :64, :64], labels[:1, :64, :64])  # loads the kernels
    before = _reset_peak_kb()
    training_step(model, images, labels)
    return (_status_kb("VmHWM") - before) / 1024


def _reset_peak_kb() -> float:
    """Lets the kernel count the peak from here (Linux), and says where here is."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_kb("VmRSS")


def _status_kb(name: str) -> float:
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")
    ]
    return float(line.split()[1])


def _logits(output: object) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits  # type: ignore[attr-defined]


if __name__ == "__main__":
    _contender, _variant, _batch, _size = sys.argv[1:]
    print(json.dumps(_peak_of_this_process(_contender, _variant, int(_batch), int(_size))))
