"""Repeats one update of a run to find what was first NaN or infinite in it; writes nothing.

Shapes: B samples, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.data.batches import Batch
from engine.recipe import load_recipe
from engine.run_folder import Manifest, RunFolder, RunFolderError, require_intact
from engine.training.checkpoint import load_state
from engine.training.distributed import Process
from engine.training.session import build_session, torch_settings
from engine.training.step import SupervisedStep
from engine.wording import quantity

Counter = Callable[[int, int], None]
UNLABELLED = ["the unlabelled images"]  # in place of their ids, which a batch does not have


@dataclass
class Replay:
    """What was NaN or infinite in an update, in the order of its computation; empty if nothing was.

    Attributes:
        weights: which weights the update was made with.
        ids: of the samples of the batch.
        images: ids of the samples whose pixels were not finite.
        layer: the first module whose output was not finite, with the ids of those samples.
        terms: of the loss, with the ids of the samples for which the loss alone is not finite.
        gradient: the first parameter in the backward pass whose gradient was not finite.
    """

    update: int
    weights: str
    ids: list[str]
    images: list[str] = field(default_factory=list)
    layer: tuple[str, list[str]] | None = None
    terms: list[str] = field(default_factory=list)
    term_samples: list[str] = field(default_factory=list)
    gradient: str | None = None

    @property
    def found(self) -> bool:
        return bool(self.images or self.layer or self.terms or self.gradient)

    def lines(self) -> list[str]:
        """The findings for a reader."""
        text = [f"Update {self.update} again, of {', '.join(self.ids)}.", f"Weights: {self.weights}."]
        if self.images:
            text.append(f"The pixels are NaN or infinite in {', '.join(self.images)}.")
        if self.layer:
            name, ids = self.layer
            text.append(f"The first layer whose output is NaN or infinite: {name}, in {', '.join(ids)}.")
        if self.terms:
            where = f", in {', '.join(self.term_samples)} alone" if self.term_samples else ""
            text.append(f"Loss terms that are NaN or infinite: {', '.join(self.terms)}{where}.")
        if self.gradient:
            text.append(
                f"The loss is finite. The first gradient in the backward pass that is not: {self.gradient}."
            )
        return text if self.found else [*text, "Nothing is NaN or infinite with these weights."]


def replay(
    run: RunFolder, update: int, overrides: Sequence[str], process: Process, counter: Callable[[str], Counter]
) -> Replay:
    """Repeat update number `update`, counted from 1.

    If there is a state from before it, the updates in between are repeated too, so the weights are those of
    the run. Otherwise they are of the nearest kept checkpoint before it, or of the state after it.

    Args:
        overrides: of where the data is, such as data.root=...
        process: a single one; it computes the whole batch.
        counter: makes a progress callback.

    Raises:
        RunFolderError: the run has no such update, or neither a state nor a checkpoint.
        RecipeError, DataError: the recipe or the data cannot be read.
    """
    manifest = run.read_manifest()
    recipe = load_recipe(run.recipe, [*overrides, "train.compile=false"])
    if not 1 <= update <= int(recipe.train.steps):
        raise RunFolderError(f"--replay {update}: this run has the updates 1 to {recipe.train.steps}.")
    with torch_settings(recipe.train.deterministic, process.device):
        session = build_session(recipe, process, counter, resume=True, keep_counts=False)
        weights = _weights_before(run, manifest, session.step, update)
        step = session.step
        stream = session.batches.starting_at(step.count)
        for batch in islice(stream, update - 1 - step.count):
            step(batch)
        batch = next(stream)
        result = Replay(update, weights, batch.ids)
        step.begin()
        _examine_unlabelled(step, batch, result)
        place = 0
        for images, labels, _ in step.chunks(batch) if not result.found else ():
            _examine(step, images, labels, batch.ids[place : place + len(images)], result)
            place += len(images)
            if result.found:
                break
    return result


def _weights_before(run: RunFolder, manifest: Manifest, step: SupervisedStep, update: int) -> str:
    """Load the nearest weights before an update, and say which they are."""
    try:
        load_state(run, step, manifest.run_id, before=update)
        num_after = update - 1 - step.count
        again = f", and {quantity(num_after, 'update')} after it" if num_after > 0 else ""
        return f"those of the run: its state of update {step.count}{again}"
    except RunFolderError:
        earlier = [member for member in manifest.members if member.step < update]
    if earlier:
        member = max(earlier, key=lambda member: member.step)
        require_intact(run.path / member.file, member.sha256)
        for module in (step.model, *([step.ema.module] if step.ema else [])):
            module.load_state_dict(load_file(run.path / member.file))
        step.count = update - 1
        return f"those of the checkpoint of update {member.step}, not those before update {update}"
    load_state(run, step, manifest.run_id)
    later, step.count = step.count, update - 1
    return f"those of the state of update {later}, which is later"


def _examine_unlabelled(step: SupervisedStep, batch: Batch, result: Replay) -> None:
    """Forward, loss and backward of the unlabelled images, with which an update begins."""
    if not (step.mean_teacher and batch.unlabelled):
        return
    at_once = -(-len(batch.images) // step.settings.accumulate)
    with _watched(step.model, UNLABELLED, result), _watched_gradients(step.model, result):
        metrics = step.mean_teacher.backward(step, batch.unlabelled, at_once)
    result.images = _broken_samples(batch.unlabelled.weak, UNLABELLED)
    result.terms = [name for name, value in metrics.items() if not value.isfinite()]


def _examine(step: SupervisedStep, images: Tensor, labels: Tensor, ids: list[str], result: Replay) -> None:
    """Forward, loss and backward of one chunk; sets what is first not finite in it."""
    result.images = _broken_samples(images, ids)
    with _watched(step.model, ids, result), _watched_gradients(step.model, result):
        logits, terms = step.supervised(images, labels)
        result.terms = [name for name, value in terms.items() if name != "loss" and not value.isfinite()]
        if not terms["loss"].isfinite():
            result.terms = result.terms or ["loss"]
            if not result.layer:  # else BatchNorm has spread it to the logits of all samples
                for i, id in enumerate(ids):
                    if not step.loss(logits[[i]], labels[[i]])["loss"].isfinite():
                        result.term_samples.append(id)
        elif not result.layer:
            torch.autograd.backward(step.scaled(terms["loss"]))


@contextmanager
def _watched(model: nn.Module, ids: list[str], result: Replay) -> Iterator[None]:
    """Sets `result.layer` to the first module without submodules whose output is not finite."""

    def look(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if result.layer is None and isinstance(output, Tensor) and not output.isfinite().all():
            result.layer = name, _broken_samples(output, ids)

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if not any(module.children()):
                hooks.callback(module.register_forward_hook(partial(look, name)).remove)
        yield


@contextmanager
def _watched_gradients(model: nn.Module, result: Replay) -> Iterator[None]:
    """Sets `result.gradient` to the first parameter that gets a gradient which is not finite."""

    def look(name: str, parameter: Tensor) -> None:
        if result.gradient is None and parameter.grad is not None and not parameter.grad.isfinite().all():
            result.gradient = name

    with ExitStack() as hooks:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                hook = partial(look, name)
                handle = parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
                hooks.callback(handle.remove)
        yield


def _broken_samples(tensor: Tensor, ids: list[str]) -> list[str]:
    """Ids of the samples with a value that is not finite; all of them where dimension 0 is not the sample."""
    if tensor.isfinite().all():
        return []
    if not tensor.ndim or len(tensor) != len(ids):
        return list(ids)
    finite = tensor.isfinite().flatten(1).all(dim=1) if tensor.ndim > 1 else tensor.isfinite()
    return [id for id, fine in zip(ids, finite.tolist(), strict=True) if not fine]
