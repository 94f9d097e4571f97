"""A training script as one would write it with segmentation_models_pytorch: the peer of `benchmark job`.

    python -m engine.benchmarks.plain_script ROOT WEIGHTS OUT --updates 800 --seed 0

It uses nothing of Trident. All photos are decoded into memory. Random scale, crop, flip, brightness and
contrast; cross-entropy + Dice; AdamW with warm-up and polynomial decay; ten evaluations on the split
`select`; the best three checkpoints and the mean of their probabilities predict `val`. OUT.npz gets the
predicted labels, OUT.json the times.
"""

import argparse
import copy
import json
import random
import time
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

NUM_CLASSES, VOID = 21, 255
WARMUP, EVALUATIONS, KEPT = 60, 10, 3
Photos = list[tuple[Tensor, Tensor]]


def load(root: Path, split: str) -> Photos:
    """Images (3, h, w) uint8 and labels (h, w) int64."""
    photos = []
    for id in (root / f"ImageSets/Segmentation/{split}.txt").read_text().split():
        image = np.array(Image.open(root / f"JPEGImages/{id}.jpg").convert("RGB"))
        labels = np.array(Image.open(root / f"SegmentationClass/{id}.png"))
        photos.append((torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels).long()))
    return photos


def normalise(x: Tensor) -> Tensor:
    """As EfficientNet-Lite was trained."""
    return x / 127.5 - 1


def training_batch(photos: Photos, size: int, crop: int, base_scale: float) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S) and labels (B, S, S)."""
    images, labels = [], []
    for x, y in random.choices(photos, k=size):
        scale = base_scale * random.uniform(0.5, 2.0)
        h, w = (max(1, round(side * scale)) for side in y.shape)
        x = F.interpolate(x[None].float(), (h, w), mode="bilinear", antialias=scale < 1)
        y = F.interpolate(y[None, None].float(), (h, w), mode="nearest")
        right, below = max(0, crop - w), max(0, crop - h)
        x, y = F.pad(x, (0, right, 0, below), value=127.5), F.pad(y, (0, right, 0, below), value=VOID)
        top, left = random.randint(0, x.shape[-2] - crop), random.randint(0, x.shape[-1] - crop)
        x, y = (t[..., top : top + crop, left : left + crop] for t in (x, y))
        if random.random() < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        images.append((x * random.uniform(0.7, 1.3) + random.uniform(-25, 25)).clamp(0, 255))
        labels.append(y)
    return normalise(torch.cat(images)), torch.cat(labels)[:, 0].long()


@torch.inference_mode()
def predict(models: list[nn.Module], photos: Photos, scale: float) -> list[Tensor]:
    """Labels (h, w) of each photo, by the mean of the models' probabilities."""
    found = []
    for image, labels in photos:
        h, w = (round(side * scale) for side in labels.shape)
        x = F.interpolate(image[None].float(), (h, w), mode="bilinear", antialias=True)
        x = F.pad(normalise(x), (0, -w % 32, 0, -h % 32))
        total = torch.zeros(NUM_CLASSES, *labels.shape)
        for model in models:
            logits = model.eval()(x)[..., :h, :w]
            total += F.interpolate(logits, tuple(labels.shape), mode="bilinear").softmax(1)[0]
        found.append(total.argmax(0).byte())
    return found


def mean_iou(predictions: list[Tensor], photos: Photos) -> float:
    """Over the classes that are labelled or predicted."""
    counts = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.long)
    for found, (_, labels) in zip(predictions, photos, strict=True):
        valid = labels != VOID
        pairs = labels[valid] * NUM_CLASSES + found[valid].long()
        counts += torch.bincount(pairs, minlength=NUM_CLASSES**2).view(NUM_CLASSES, NUM_CLASSES)
    union = counts.sum(0) + counts.sum(1) - counts.diag()
    return float((counts.diag() / union)[union > 0].mean())


def main() -> None:
    """Train, keep the best three, predict val with each and with their mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", type=Path, help="folder in the layout of VOC, with lists fit, select, val")
    parser.add_argument("weights", type=Path, help=".safetensors with the encoder under SMP's names")
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    parser.add_argument("--updates", type=int, default=800)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--scale", type=float, default=0.5, help="at which photos are trained and predicted")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)

    train, select, val = (load(args.root, split) for split in ("fit", "select", "val"))
    model = smp.Segformer(args.encoder, encoder_weights=None, classes=NUM_CLASSES)
    missing = model.load_state_dict(load_file(args.weights), strict=False).missing_keys
    assert not any(key.startswith("encoder.") for key in missing), missing[:3]
    head = [*model.decoder.parameters(), *model.segmentation_head.parameters()]
    groups = [{"params": model.encoder.parameters()}, {"params": head, "lr": 5 * args.lr}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP) * (1 - step / args.updates)
    )
    dice = smp.losses.DiceLoss("multiclass", ignore_index=VOID)

    best: list[tuple[float, int, nn.Module]] = []
    evaluation_s, start = 0.0, time.time()
    for step in range(1, args.updates + 1):
        x, y = training_batch(train, args.batch, args.crop, args.scale)
        logits = model.train()(x)
        loss = F.cross_entropy(logits, y, ignore_index=VOID) + dice(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % max(1, args.updates // EVALUATIONS) == 0:
            began = time.time()
            score = mean_iou(predict([model], select, args.scale), select)
            best = sorted([*best, (score, step, copy.deepcopy(model))], key=lambda kept: -kept[0])[:KEPT]
            evaluation_s += time.time() - began
            rate = args.batch * step / (time.time() - start - evaluation_s)
            print(f"step {step} loss {loss:.3f} mIoU {score:.4f} {rate:.1f} images/s", flush=True)
    training_s = time.time() - start - evaluation_s

    found = {f"step {step}": predict([model], val, args.scale) for _, step, model in best}
    found["mean"] = predict([model for *_, model in best], val, args.scale)
    labels = {f"{name}/{n}": np.asarray(p) for name, of in found.items() for n, p in enumerate(of)}
    np.savez(args.out.with_suffix(".npz"), **labels)  # type: ignore[arg-type]
    facts = {"images_per_s": args.batch * args.updates / training_s, "members": [*found][:-1]}
    args.out.with_suffix(".json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
