"""What tests of checkpoints and states share."""

from collections.abc import Callable

import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.run_folder import DataIdentity, Manifest, RunFolder, sha256_of
from engine.training.checkpoint import (
    TopKeeper,
)
from engine.training.step import SupervisedStep


def new_keeper(run: RunFolder, top: int = 3, metric: str = "mIoU", spacing: int = 0) -> TopKeeper:
    data = DataIdentity(format="voc", train="train", val="val", train_fingerprint="", val_fingerprint="")
    manifest = Manifest(
        name="demo", code_version="0", class_names=["x"], palette=[(0, 0, 0)], data=data, metric=metric,
        num_parameters=1,
    )  # fmt: skip
    run.write_manifest(manifest)
    return TopKeeper(run, manifest, top, spacing)


def resumed(keeper: TopKeeper) -> TopKeeper:
    return TopKeeper(keeper.run, keeper.run.read_manifest(), keeper.top, keeper.spacing)


def offer(keeper: TopKeeper, step: int, score: float) -> bool:
    """Whether it was kept."""
    state = {"step": torch.tensor(step)}
    return keeper.offer(step, {keeper.manifest.metric: score}, lambda: state) is not None


def kept(keeper: TopKeeper) -> list[int]:
    """Steps of the members, best first, after checking that manifest and files agree."""
    manifest = keeper.run.read_manifest()
    assert manifest == keeper.manifest
    files = {member.file: member for member in manifest.members}
    assert {f"top/{path.name}" for path in keeper.run.top.iterdir()} == set(files)
    for file, member in files.items():
        assert sha256_of(keeper.run.path / file) == member.sha256
        assert load_file(keeper.run.path / file)["step"] == member.step
    return [member.step for member in manifest.members]


def everything(step: SupervisedStep) -> dict[str, Tensor]:
    tensors = {
        f"{name}/{key}": value
        for name, module in step.modules.items()
        for key, value in module.state_dict().items()
    }
    for name, optimizer in step.optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{slot}": value for slot, value in slots.items()}
    return {key: value.clone() for key, value in tensors.items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [key for key, value in expected.items() if not torch.equal(found[key], value)] == []


class Counting(torch.optim.SGD):
    """Its state holds, besides tensors, numbers, None, lists, tuples, dicts, and another dtype."""

    def __init__(self, params, lr: float, weight_decay: float):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.param_groups[0]["calls"] = 0

    def step(self, closure: Callable | None = None) -> None:
        self.param_groups[0]["calls"] += 1
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                state["count"] = state.get("count", 0) + 1
                state["norm"] = state.get("norm", 0.1) / 3 + p.grad.norm().item()
                state["half"] = p.grad.double().mul(1 / 3)
                state["nested"] = {"pair": (p.grad.sum(), None), 7: [2, True, p.grad.clone()]}
                p.data.add_(state["half"].float(), alpha=-group["lr"] * (1 + state["norm"]) / state["count"])


OPTIMIZERS = [
    "adamw", "sgd", "lion", "muon", "adopt", "lamb", "adan", "nadamlegacy", "adafactor", "adafactorbv",
    "adagrad", f"{__name__}:Counting",
]  # fmt: skip
