"""The processes that test_distributed.py compares: each, alone or one of several, writes its results.

python one_process.py FOLDER, with torchrun's variables in the environment.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from engine.data.augment import Augment
from engine.data.batches import Batch
from engine.data.options import Augment as AugmentSection
from engine.data.options import Unlabelled as UnlabelledSection
from engine.data.order import SampleOrder
from engine.data.sample import Sample
from engine.data.synthetic import SyntheticScenes
from engine.data.unlabelled import SemiSupervisedBatches, UnlabelledBatches
from engine.reporting.reporter import Reporter
from engine.run_folder import RunFolder
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.training.adversarial import AdversarialSettings, AdversarialStep, Watchdog
from engine.training.checkpoint import load_state, save_state
from engine.training.distributed import (
    Process,
    any_process,
    batch_sum,
    distribute,
    start_process,
    stop_process,
    wait_for_all,
)
from engine.training.imbalance import count_labels
from engine.training.interrupt import StopSignal
from engine.training.optim import build_optimizer, freeze
from engine.training.options import Optimizer
from engine.training.step import Precision, StepSettings
from engine.training.unlabelled import MeanTeacher
from engine.training.validation import Validation
from losses import build_loss
from models.discriminator import PatchDiscriminator
from models.segformer import SegFormer

VOID = 255
AUGMENT = AugmentSection(
    crop=64, scale=[0.5, 2.0], rotate_deg=10.0, flip=0.5, brightness=0.1, contrast=0.2, saturation=0.2,
    hue=0.05, blur=0.0, elastic=0.0,
)  # fmt: skip
UNLABELLED = UnlabelledSection(root="drawn", threshold=0.0, ramp=0, views=1, cutmix=1.0, feature_dropout=0.5)
FROZEN = ["encoder.stages.[012]", "head.norm"]
Found = dict[str, Tensor]


class MixedSizes:
    """Scenes cut to several sizes; records which were read."""

    skipped = None
    bands = None

    def __init__(self) -> None:
        self.scenes = SyntheticScenes("val", 7, size_px=48)
        self.ids, self.class_names = self.scenes.ids, self.scenes.class_names
        self.palette, self.ignore_index = self.scenes.palette, self.scenes.ignore_index
        self.read: list[str] = []

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        sample, (h, w) = self.scenes[index], self.sizes()[index]
        self.read.append(sample.id)
        return Sample(sample.id, sample.image[:, :h, :w], sample.labels[:h, :w])

    def sizes(self) -> list[tuple[int, int]]:
        return [(48 - 4 * (index % 3), 48) for index in range(len(self))]


def share(process: Process, whole: Tensor) -> Tensor:
    return whole[process.rank :: process.world_size]


def gradients(prefix: str, module: nn.Module) -> Found:
    return {f"{prefix}/{name}": p.grad for name, p in module.named_parameters() if p.grad is not None}


def batch_norms(process: Process) -> Found:
    """Both kinds of BatchNorm on channels whose mean is far from 0, in training and then at rest."""
    torch.manual_seed(1)
    whole = torch.randn(4, 3, 5, 6) + torch.tensor([0.0, 30.0, 1000.0]).view(3, 1, 1)
    targets = torch.randn(4, 3, 5, 6)
    found: Found = {}
    for kind in (nn.BatchNorm2d, BatchNormAct2d):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            net = distribute(nn.Sequential(kind(3)).to(dtype if dtype.itemsize > 2 else None), process)
            x = share(process, whole).to(dtype).requires_grad_()
            y = net(x)
            loss = batch_sum(process)((y.double() * share(process, targets)).square().sum())
            loss.backward()
            name = f"{kind.__name__}.{dtype}".replace("torch.", "")
            assert y.dtype == dtype
            bare = net if process.is_alone else net.module
            found |= {
                f"{name}/output": y.detach(),
                f"{name}/input_grad": x.grad / process.world_size,
            } | gradients(name, net)
            found |= {f"{name}/{key}": value.clone() for key, value in bare[0].named_buffers()}
            found[f"{name}/at_rest"] = net.eval()(x).detach()
    return {key.replace("module.", ""): value for key, value in found.items()}


def make_step(
    process: Process,
    adversarial: bool,
    accumulate: int = 1,
    frozen: list[str] | None = None,
    dropout: float = 0.0,
    objective: str = "hinge",
    unlabelled: UnlabelledSection | None = None,
) -> AdversarialStep:
    """A float64 B0, its loss, and a discriminator from update 0 on, if `adversarial`."""
    torch.manual_seed(0)
    model = SegFormer("b0", 6, decoder_width=16, drop_path=dropout, dropout=dropout).double()
    freeze(model, frozen)
    ema = mean_teacher = None
    if unlabelled:
        ema = ModelEmaV3(model, decay=0.9)
        mean_teacher = MeanTeacher(ema.module, unlabelled, encoder=model.encoder)
    discriminator = PatchDiscriminator(6, channels=4, layers=3).double()
    loss = build_loss([{"name": "cross_entropy"}, {"name": "dice"}], 6, VOID)
    loss.sum_over_processes = batch_sum(process)
    return AdversarialStep(
        model=model,
        forward=distribute(model, process),
        loss=loss,
        optimizer=build_optimizer(model, Optimizer(lr=1e-4)),
        lr_factor=lambda step: 1.0,
        ema=ema,
        mean_teacher=mean_teacher,
        settings=StepSettings(
            0, process.rank, VOID, Precision("fp32", "cpu"), process.world_size, accumulate
        ),
        adversarial=AdversarialSettings(
            discriminator=discriminator,
            forward=distribute(discriminator, process),
            optimizer=torch.optim.Adam(discriminator.parameters(), 1e-4, fused=True),
            watchdog=Watchdog(),
            objective=objective,
            weight=0.1,
            start=0 if adversarial else 1000,
            ramp=0,
            batch_sum=batch_sum(process),
        ),
    )


def batches_from(process: Process, update: int) -> Iterator[Batch]:
    """Of four samples, and four unlabelled images."""
    scenes = SyntheticScenes("train", 7, size_px=48)
    share = process.device, process.rank, process.world_size, 0
    order, augment = SampleOrder(len(scenes), 4, seed=0), Augment(AUGMENT, 0, VOID)
    unlabelled = UnlabelledBatches(SyntheticScenes("val", 9, size_px=48), UNLABELLED, AUGMENT, 0, 4, *share)
    batches = SemiSupervisedBatches(scenes, order, augment, *share, unlabelled=unlabelled)
    return batches.starting_at(update)


def moved(process: Process, folder: Path) -> Found:
    """The weights after four updates with dropout, of this group and from the other's state after two.

    "saved/": trained here from first to last; "moved/": the last two updates only.
    """
    mine, other = (RunFolder(folder / f"run_of_{n}") for n in (process.world_size, 3 - process.world_size))
    found: Found = {}
    for name, first in (("saved", 0), ("moved", 2)):
        step = make_step(process, adversarial=False, accumulate=2, dropout=0.3)
        if first:
            while not other.last_state.exists():
                time.sleep(0.05)
            load_state(other, step)
        for number, batch in enumerate(islice(batches_from(process, first), 4 - first), start=first):
            if number == 2 and not first and process.is_main:
                mine.last_state.parent.mkdir(parents=True)
                save_state(mine, step)
            step(batch)
        found |= {f"{name}/{key}": value for key, value in step.model.state_dict().items()}
    return found


def first_gradients(process: Process) -> tuple[Found, list[list[str]]]:
    """Of one update on real batches, supervised, adversarial and accumulated; and the ids of two updates."""
    stream = batches_from(process, 1)
    first, second = next(stream), next(stream)  # the second epoch starts between them
    found = (
        one_update("supervised", make_step(process, adversarial=False), first)
        | one_update("adversarial", make_step(process, adversarial=True), first)
        | one_update("accumulated", make_step(process, adversarial=True, accumulate=2), first)
        | one_update("frozen", make_step(process, adversarial=True, frozen=FROZEN), first)
        | one_update("dropout", make_step(process, adversarial=False, dropout=0.3), first)
        | one_update("penalty", make_step(process, adversarial=True, objective="wgan_gp"), first)
        | one_update("unlabelled", make_step(process, False, 2, dropout=0.3, unlabelled=UNLABELLED), first)
    )
    return found, [first.ids, second.ids]


def one_update(name: str, step: AdversarialStep, batch: Batch) -> Found:
    """Its losses, the gradients that its optimisers got, and the BatchNorm statistics after it."""
    found: Found = {}
    networks = {"optimizer": step.model, "discriminator": step.adversarial.discriminator}

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        [network] = [networks[key] for key, value in step.optimizers.items() if value is optimizer]
        kind = "model" if network is step.model else "discriminator"
        found.update({key: g.clone() for key, g in gradients(f"{name}/{kind}", network).items()})

    for optimizer in step.optimizers.values():
        optimizer.register_step_pre_hook(look)
    metrics = step(batch)
    kinds = "loss", "loss_ce", "loss_dice", *(key for key in metrics if key.startswith("unlabelled"))
    found |= {f"{name}/{key}": metrics[key] for key in kinds}
    return found | {f"{name}/buffer/{key}": value for key, value in step.model.named_buffers()}


def left_out(process: Process) -> dict[str, list[bool]]:
    """An update with a NaN pixel, or an infinite loss, in the last process only: is it seen, and left out?"""
    last, found = process.rank == process.world_size - 1, {}
    for what in ("pixel", "loss"):
        step = make_step(process, adversarial=False)
        generator = torch.Generator().manual_seed(process.rank)
        images = 255 * torch.rand(2, 3, 64, 64, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 6, (2, 64, 64), generator=generator)
        before = {key: value.clone() for key, value in step.model.state_dict().items()}
        supervised = step.supervised

        def with_infinite_loss(images: Tensor, labels: Tensor, supervised=supervised) -> tuple[Tensor, dict]:
            logits, terms = supervised(images, labels)
            return logits, terms | {"loss": terms["loss"] + torch.inf}

        if last and what == "pixel":
            images[0, 0, 0, 0] = torch.nan
        elif last:
            step.supervised = with_infinite_loss  # type: ignore[method-assign]
        skipped = bool(step(Batch(images, labels, ["a", "b"]))["nan"])
        after = step.model.state_dict()
        same = all(torch.equal(before[key], after[key]) for key in before if "num_batches" not in key)
        found[what] = [skipped, same]
    return found


def validation(process: Process) -> dict:
    """Scores of the whole split, and which images this process read for them."""
    torch.manual_seed(0)
    model, data = SegFormer("b0", 6, decoder_width=16), MixedSizes()
    validate = Validation(data, Predictor(EvaluationProtocol(), nullcontext), process, 0, num_pictures=0)
    scores = validate(model, 10, Reporter([], dict, process.device))
    return {"scores": asdict(scores), "read": data.read}


def agreement(process: Process) -> dict:
    """A signal to one process, and the reaction of all."""
    last = process.rank == process.world_size - 1
    with StopSignal(process, every=2) as stop:
        before = stop.requested(2)
        if last:
            signal.raise_signal(signal.SIGTERM)
        after = [stop.requested(step) for step in (3, 4)]
    return {"stops": [before, *after], "any": any_process(process, last), "none": any_process(process, False)}


def label_counts(process: Process, folder: Path) -> list:
    """Counted twice, where each process has its own disk: in the end only the main one has the file."""
    disk = folder / f"disk_{process.rank}_of_{process.world_size}"
    disk.mkdir()
    scenes, found = SyntheticScenes("train", 7, size_px=48), []
    for _ in range(2):
        counts, _ = count_labels(scenes, str(disk), process, lambda done, total: None, keep=True)
        found.append([counts.pixels.tolist(), counts.void.tolist()])
    return [*found, len(list(disk.rglob("*.npz")))]


def main(folder: Path) -> None:
    process = start_process()
    (folder / f"main_{process.is_main}").touch()
    tensors = batch_norms(process)
    more, ids = first_gradients(process)
    more |= moved(process, folder)
    report = {"ids": ids, "validation": validation(process), "agreement": agreement(process)}
    report["left out"] = left_out(process)
    report["label counts"] = label_counts(process, folder)
    out = folder / f"{process.rank}_of_{process.world_size}"
    save_file({key: t.contiguous() for key, t in (tensors | more).items()}, f"{out}.safetensors")
    Path(f"{out}.json").write_text(json.dumps(report))
    wait_for_all(process)
    stop_process(process)


if __name__ == "__main__":
    assert os.environ["OMP_NUM_THREADS"] == "1"
    main(Path(sys.argv[1]))
