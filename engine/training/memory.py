"""Out of memory, as a message with a setting that needs less, in a command that works."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.recipe import Recipe
from engine.run_folder import RunFolder
from engine.scoring.protocols import EvaluationProtocol
from engine.training.distributed import Process
from engine.training.fit import RunError
from engine.wording import quantity

if TYPE_CHECKING:  # a session searches for its batch, and needs this
    from engine.training.session import Session

# Parts of the errors of the CPU's allocator, of CUDA outside torch's allocator, and of cuDNN and cuBLAS.
SIGNS = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
LEAST_CROP, LEAST_WINDOW = 32, 64  # px
MORE_MEMORY = "It needs a device with more memory, or a smaller model."


class OutOfMemory(RunError):
    """The memory of the device, or of the machine, was full. The message names a setting that needs less."""


@contextmanager
def naming_out_of_memory(message: Callable[[], str]) -> Iterator[None]:
    """A context that turns out-of-memory errors of torch, CUDA and Python into OutOfMemory with this message.

    Raises:
        OutOfMemory: one from an inner context keeps its message.
    """
    try:
        yield
    except RunError:
        raise
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            sign in str(error) for sign in SIGNS
        ):
            raise
        raise OutOfMemory(message()) from error


def in_an_update(session: "Session", saved: RunFolder | None = None) -> str:
    """The message for the training.

    Args:
        saved: the run whose state is saved; None if nothing is saved, so that the same command works again.
    """
    return of_an_update(session.recipe, session.step.model, session.process, saved)


def of_an_update(recipe: Recipe, model: nn.Module, process: Process, saved: RunFolder | None = None) -> str:
    """The message for an update of a model; `saved` as for `in_an_update`."""
    batch, num_processes = int(recipe.train.batch), process.world_size
    num_images = batch // (num_processes * int(recipe.train.accumulate))
    what = (
        f"Out of memory on {process.device} in an update, with {num_images} of the {batch} images of "
        f"{recipe.augment.crop} px at once."
    )
    lines = smaller_update(recipe, model, num_processes)
    message = _with_remedy(what, lines, saved, num_processes)
    in_parts = any(line.startswith("train.accumulate=") for line in lines)
    if saved is None and in_parts and not recipe.train.shard and recipe.train.compile != "max":
        message += ", or with train.accumulate=auto, which looks for the fewest parts that fit"
    return message


def _largest_scored(session: "Session") -> tuple[int, int]:
    """(h, w) in pixels of the largest image that is scored."""
    sizes = (size for dataset in (session.val, *session.further.values()) for size in dataset.sizes())
    return max(sizes, key=lambda size: size[0] * size[1])


def in_an_evaluation(session: "Session", saved: RunFolder | None = None) -> str:
    """The message for an evaluation in the training; `saved` as for `in_an_update`."""
    h, w = _largest_scored(session)
    what = f"Out of memory on {session.process.device} in an evaluation; the largest image has {w} x {h} px."
    protocol = session.validation.predictor.protocol
    return _with_remedy(what, smaller_views(protocol, (h, w)), saved, session.process.world_size)


def in_the_final_scoring(session: "Session", run: RunFolder, num_members: int) -> str:
    """The message for the scoring of the kept checkpoints, after the training."""
    what = (
        f"Out of memory on {session.process.device} in the scoring of "
        f"{quantity(num_members, 'kept checkpoint')}. The training is done, and all of it is saved. "
    )
    if num_members > 1:
        return f"{what}Type the same command with --resume keep.top=1 to score the best one alone."
    h, w = _largest_scored(session)
    views = smaller_views(session.validation.predictor.protocol, (h, w))
    return f"{what}Score it without the training in memory:\n" + shlex.join(
        ["trident", "evaluate", str(run.path), *views]
    )


def least_images(model: nn.Module) -> int:
    """The smallest number of images at once for a model in training mode: a BatchNorm needs two."""
    has_statistics = any(isinstance(module, _BatchNorm) and module.training for module in model.modules())
    return 2 if has_statistics else 1


def smaller_update(recipe: Recipe, model: nn.Module, num_processes: int) -> list[str]:
    """Recipe lines with which an update needs less memory; none if it cannot be smaller.

    Dividing the batch into more parts does not change the training, so it comes first.
    """
    share, parts = int(recipe.train.batch) // num_processes, int(recipe.train.accumulate)
    least = least_images(model)
    for more in range(parts + 1, share // least + 1):
        if share % more == 0:
            is_recorded = recipe.train.compile == "max"  # which takes the batch in one part
            return [f"train.accumulate={more}", *["train.compile=true"] * is_recorded]
    num_images = share // parts
    if num_images > least:
        return [f"train.batch={num_processes * parts * max(least, num_images // 2)}"]
    crop = max(LEAST_CROP, recipe.augment.crop // 2 // 32 * 32)
    return [f"augment.crop={crop}"] if crop < recipe.augment.crop and recipe.augment.allows(crop) else []


def smaller_views(protocol: EvaluationProtocol, size: tuple[int, int]) -> list[str]:
    """Recipe lines with which the largest input of the model has at most half the pixels, if possible.

    Args:
        size: (h, w) of the largest image.
    """

    def largest(protocol: EvaluationProtocol) -> int:
        return max(view.size[0] * view.size[1] for view in protocol.views(*size))

    scales = tuple(scale for scale in protocol.scales if scale <= 1) or (1.0,)
    if 2 * largest(replace(protocol, scales=scales)) <= largest(protocol):
        return [f"eval.scales=[{','.join(f'{scale:g}' for scale in scales)}]"]
    windows = (protocol.window_px >> halvings for halvings in range(32))
    for window in takewhile(lambda window: window >= LEAST_WINDOW, windows):
        stride = min(protocol.stride_px, window * 3 // 4)
        slides = replace(protocol, name="slide", window_px=window, stride_px=stride)
        if 2 * largest(slides) <= largest(protocol):
            return ["eval.protocol=slide", f"eval.window={window}", f"eval.stride={stride}"]
    return []


def _with_remedy(what: str, lines: list[str], saved: RunFolder | None, num_processes: int) -> str:
    if saved is None:
        remedy = f"Type the same command with {shlex.join(lines)}" if lines else MORE_MEMORY
        return f"{what} {remedy}"
    kept = f"{what} What was saved before is intact."
    if not lines:
        return f"{kept} {MORE_MEMORY}"
    local = os.environ.get("LOCAL_WORLD_SIZE", str(num_processes))
    launcher = (
        ["trident", "run"]
        if num_processes == 1
        else ["torchrun", f"--nproc-per-node={local}", "-m", "engine.run"]
    )
    place = [f"output.dir={saved.path.parent}", f"name={saved.another_name()}"]
    words = [*launcher, str(saved.recipe), *place, *lines, "--continue-from", str(saved.path)]
    return f"{kept} Go on from it in a new run:\n{shlex.join(words)}"
