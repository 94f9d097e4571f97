"""SegFormer compared with those of transformers and segmentation_models_pytorch, at equal widths and sizes.

A training step is forward, cross-entropy at full size, backward. Ours takes our own cross-entropy, which
needs no logits at full size; the logits of the others are upsampled, as their users do. Ours keeps freed
memory meanwhile, as each training of Trident does; it is part of why an update is fast.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.benchmarks.measuring import installed, peak_mb_in_own_process, peak_mb_of, ratio
from engine.scoring.timing import interleaved
from engine.training.freed_memory import freed_memory_kept
from losses.pixel_sums import pixel_sums
from models.architectures import VARIANTS, VariantName
from models.segformer import SegFormer

NUM_CLASSES, VOID = 21, 255
NUM_STEPS = 5  # of a timed call: the first one after a change of how memory is kept is slower
Loss = Callable[[Tensor, Tensor], Tensor]


def trident(variant: VariantName) -> nn.Module:
    """Our own."""
    return SegFormer(variant, NUM_CLASSES)


def transformers(variant: VariantName) -> nn.Module:
    """Hugging Face's, with its attention kernel of choice."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    channels, depths, width = VARIANTS[variant]
    config = SegformerConfig(
        depths=list(depths), hidden_sizes=list(channels), decoder_hidden_size=width, num_labels=NUM_CLASSES
    )
    model: nn.Module = SegformerForSemanticSegmentation(config)
    return model


def smp(variant: VariantName) -> nn.Module:
    """segmentation_models_pytorch's, its decoder as wide as ours."""
    import segmentation_models_pytorch

    model: nn.Module = segmentation_models_pytorch.Segformer(
        f"mit_{variant}",
        encoder_weights=None,
        classes=NUM_CLASSES,
        decoder_segmentation_channels=VARIANTS[variant].decoder_width,
    )
    return model


BUILDERS = {"trident": trident, "transformers": transformers, "smp": smp}
PEERS = {"transformers": "transformers", "smp": "segmentation_models_pytorch"}  # name -> package


def contenders() -> dict[str, Callable[[VariantName], nn.Module]]:
    """Ours and the peers that are installed."""
    return {name: build for name, build in BUILDERS.items() if name not in PEERS or installed(PEERS[name])}


def measure(
    variant: VariantName, batch: int, size_px: int, rounds: int, progress: Callable[[int, int], None]
) -> list[dict[str, object]]:
    """Rows of {variant, batch, what, contender, seconds, images_per_s, times_faster, peak_mb}.

    `times_faster` is ours against the contender's, within each round.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = {name: build(variant).to(device) for name, build in contenders().items()}
    images = torch.rand(batch, 3, size_px, size_px, device=device) * 255
    labels = torch.randint(0, NUM_CLASSES, (batch, size_px, size_px), device=device)
    calls: dict[str, dict[str, Callable[[], object]]] = {
        "training step": {
            name: partial(training_steps, name, model, images, labels) for name, model in models.items()
        },
        "inference": {name: partial(inference, model, images) for name, model in models.items()},
    }
    rows: list[dict[str, object]] = []
    for what, callables in calls.items():
        seconds = interleaved(callables, rounds, progress)
        for name, of_calls in seconds.items():
            times = [time / (NUM_STEPS if what == "training step" else 1) for time in of_calls]
            middle = sorted(times)[len(times) // 2]
            rows.append(
                {"variant": variant, "batch": batch, "size_px": size_px, "what": what, "contender": name}
                | {"seconds": times, "images_per_s": batch / middle}
                | {"times_faster": ratio(of_calls, seconds["trident"])}
            )
            if what == "training step" and device.type == "cpu":
                numbers = str(batch), str(size_px)
                rows[-1]["peak_mb"] = peak_mb_in_own_process(
                    "engine.benchmarks.model", name, variant, *numbers
                )
    return rows


def training_steps(name: str, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """`NUM_STEPS` training steps of a contender."""
    with freed_memory_kept() if name == "trident" else nullcontext():
        for _ in range(NUM_STEPS):
            training_step(model, LOSSES.get(name, upsampled_loss), images, labels)


def training_step(model: nn.Module, loss: Loss, images: Tensor, labels: Tensor) -> None:
    """Forward, cross-entropy at full size, backward."""
    model.train()
    loss(_logits(model(images)), labels).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def own_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy without logits at full size."""
    sums = pixel_sums(logits, labels, VOID)
    return sums.cost / sums.weight


def upsampled_loss(logits: Tensor, labels: Tensor) -> Tensor:
    logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, labels, ignore_index=VOID)


LOSSES = {"trident": own_loss}


@torch.inference_mode()
def inference(model: nn.Module, images: Tensor) -> Tensor:
    """Forward only, as the model gives its logits."""
    return _logits(model.eval()(images))


def _logits(output: object) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits  # type: ignore[attr-defined]


if __name__ == "__main__":
    _contender, (_batch, _size) = sys.argv[1], map(int, sys.argv[3:])
    _model = BUILDERS[_contender](cast(VariantName, sys.argv[2]))
    _images = torch.rand(_batch, 3, _size, _size) * 255
    _labels = torch.randint(0, NUM_CLASSES, (_batch, _size, _size))
    _loss = LOSSES.get(_contender, upsampled_loss)
    training_step(_model, _loss, _images[:1, :, :64, :64], _labels[:1, :64, :64])  # loads the kernels
    print(peak_mb_of(partial(training_steps, _contender, _model, _images, _labels)))
