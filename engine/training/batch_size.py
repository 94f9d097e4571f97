"""`train.batch: auto` and `train.accumulate: auto`: how many images fit into the memory at once.

The search runs updates of a separate network with random weights, which is discarded. So the training that
follows is the same, bit for bit, as with the number typed in the recipe.
"""

import gc
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from engine.data.augment import Augment
from engine.data.bands import model_inputs
from engine.data.batches import TrainBatches
from engine.data.class_counts import ClassCounts
from engine.data.mixing import Mixing
from engine.data.order import Draw, SampleOrder
from engine.data.resident import choose_residence, free_ram_bytes, label_maps
from engine.data.sample import DataError, Dataset
from engine.data.unlabelled import num_unlabelled
from engine.recipe import Recipe, RecipeError
from engine.scoring.trained import Trained
from engine.training.build_step import build_step
from engine.training.distributed import Process, smallest, wait_for_all
from engine.training.freed_memory import give_freed_memory_back
from engine.training.imbalance import without_schemes
from engine.training.memory import OutOfMemory, least_images, naming_out_of_memory, of_an_update
from engine.training.optim import freeze
from models import build_model

MOST = 64  # images at once on one device
KEPT_FREE = 0.1  # of a GPU, for evaluations and for memory that is free in pieces
KEPT_FREE_RAM = 0.2  # of what is available: updates differ in size, and other programs may need more
NUM_SEEN = 200  # of these first updates of a training, the one with the most pixels is tried
UPDATES = 2  # the optimiser's moments exist from the second on
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


def with_batch(
    recipe: Recipe, splits: Sequence[Dataset], process: Process, teacher: Trained | None = None
) -> tuple[Recipe, dict[str, int]]:
    """The recipe with numbers in place of `auto`, and these by key: the smallest that any process found.

    Args:
        recipe: with the range and the normalisation of its images.
        splits: the training split, then the others that `data.resident` may keep in memory.
        process: this process; each searches by itself, on its device.
        teacher: of `distill`.

    Raises:
        OutOfMemory: not even the fewest images fit.
        RecipeError: this system does not tell the memory that a process uses.
    """
    section, num_processes = recipe.train, process.world_size
    if "auto" not in (section.batch, section.accumulate):
        return recipe, {}
    trial = Trial(recipe, splits, process, teacher)
    if section.batch == "auto":
        parts = int(section.accumulate)
        most = min(MOST, len(splits[0]) // (num_processes * parts))
    else:
        most = int(section.batch) // num_processes
    # before the search: `trial` is deleted after it
    least = trial.least
    full = trial.message()
    found = trial.search(max(most, least))
    del trial
    _free_memory(process.device)
    wait_for_all(process)  # one may have searched for longer
    found = smallest(process, found)
    if not found:
        raise OutOfMemory(full)
    if section.batch == "auto":
        possible = [number * num_processes * parts for number in range(found, least - 1, -1)]
        paired = [batch for batch in possible if _pairs_unlabelled(recipe, batch, num_processes)]
        chosen = {"train.batch": (paired or possible)[0]}  # if none is, it is refused later, with the remedy
    else:
        share = int(section.batch) // num_processes
        parts = next(parts for parts in range(1, share + 1) if share % parts == 0 and share // parts <= found)
        chosen = {"train.accumulate": parts}
    values = {key.removeprefix("train."): value for key, value in chosen.items()}
    return recipe.model_copy(update={"train": section.model_copy(update=values)}), chosen


def _pairs_unlabelled(recipe: Recipe, batch: int, num_processes: int) -> bool:
    """Whether the unlabelled images of an update can be paired, if there are any."""
    try:
        if recipe.data.unlabelled:
            num_unlabelled(recipe.data.unlabelled, batch, num_processes)
    except DataError:
        return False
    return True


class Trial:
    """Runs updates with any number of images on one device, without other processes.

    `least` is the smallest number of images that the network can be trained on at once.
    """

    def __init__(
        self, recipe: Recipe, splits: Sequence[Dataset], process: Process, teacher: Trained | None = None
    ):
        self.train, self.process, device = splits[0], process, process.device
        data, sharers = recipe.data, process.world_size
        places = [
            choose_residence(split, data.resident, device, sharers, label_maps(data, split))
            for split in splits
        ]
        own = "gpu" if device.type == "cuda" else "ram"
        self.resident_bytes = sum(num_bytes for where, num_bytes in places if where == own)
        if own == "gpu":  # reserves the memory of the images
            self.held = torch.empty(self.resident_bytes, dtype=torch.uint8, device=device)
        settings = {"batch": 1, "accumulate": 1, "compile": False, "shard": False}
        small = recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})
        self.recipe = without_schemes(small.in_steps(len(self.train)))
        torch.manual_seed(recipe.seed)
        self.model = build_model(recipe.model, self.train.class_names, **model_inputs(recipe.data))
        freeze(self.model, recipe.model.freeze)
        self.model.to(device)
        alone = Process(0, 1, device)
        self.step = build_step(self.recipe, self.model, len(self.train.class_names), alone, teacher)
        self.step.begin()
        self.least = least_images(self.model)
        augment = Augment(recipe.augment, recipe.seed, self.train.ignore_index, self.train.bands)
        # The labels are not counted yet: any image may be pasted by copy_paste, which needs as much memory.
        counts = ClassCounts(np.ones((len(self.train), 1), np.int64), np.zeros(len(self.train), np.int64))
        mixing = Mixing(recipe.augment, recipe.seed, len(self.train), self.train.ignore_index, counts)
        self.batches = TrainBatches(self.train, self._order(1), augment, device, workers=0, mixing=mixing)
        self.sizes = self.train.sizes()

    def search(self, most: int) -> int:
        """The largest number of images, at most `most`, that fit at once; 0 if not even `least` fit."""
        return self.by_trying(most) if self.process.device.type == "cuda" else self.by_memory(most)

    def by_trying(self, most: int) -> int:
        """Doubles the number until it does not fit, then halves the interval."""
        fits, fails, number = 0, most + 1, self.least
        while fits + 1 < fails and number < fails:
            if self._fits(number):
                fits = number
            else:
                fails = number
            number = min(2 * fits, most) if fails > most else (fits + fails) // 2
            number = max(number, self.least)
        return fits

    def by_memory(self, most: int) -> int:
        """Extrapolates from the peaks of two updates, as memory grows about linearly with the images."""
        few, before = self.least, _resident_set("VmRSS")
        local = int(os.environ.get("LOCAL_WORLD_SIZE", self.process.world_size))
        available = (1 - KEPT_FREE_RAM) * free_ram_bytes() / local
        limit = before + available - self.resident_bytes
        if (one := self._peak(few)) is None:
            return 0
        if most < 2 * few or 2 * one - before > limit or (two := self._peak(2 * few)) is None:
            return few
        of_an_image = max(1.0, (two - one) / few)
        return max(few, min(most, 2 * few + int((limit - two) / of_an_image)))

    def message(self) -> str:
        """The error message if not even `least` images fit."""
        batch = self.least * self.process.world_size
        train = self.recipe.train.model_copy(update={"batch": batch})
        recipe = self.recipe.model_copy(update={"train": train})
        return of_an_update(recipe, self.model, self.process)

    def update(self, num_images: int) -> None:
        """Runs the last update of the training, with every loss and the discriminator, several times."""
        draws = self._largest(num_images)
        for _ in range(UPDATES):
            self.step.count = int(self.recipe.train.steps) - 1
            float(self.step(self.batches.of(draws))["loss"])  # waits for the device

    def _largest(self, num_images: int) -> list[Draw]:
        """The samples of the update with the most pixels, pasted images included, among the first updates."""
        order = self._order(num_images)
        updates = map(order.update, range(min(NUM_SEEN, int(self.recipe.train.steps))))
        return max(updates, key=lambda draws: self.batches.num_pixels(draws, self.sizes))

    def _order(self, num_images: int) -> SampleOrder:
        return SampleOrder(len(self.train), num_images, self.recipe.seed)

    def _runs(self, num_images: int) -> bool:
        """Whether the memory suffices for an update; the memory is freed afterwards."""
        try:
            with naming_out_of_memory(str):
                self.update(num_images)
        except OutOfMemory:
            return False
        finally:
            for optimizer in self.step.optimizers.values():
                optimizer.zero_grad()
        return True

    def _fits(self, num_images: int) -> bool:
        """Whether an update runs and, on a GPU, leaves enough memory free."""
        device = self.process.device
        if device.type != "cuda":
            return self._runs(num_images)
        torch.cuda.reset_peak_memory_stats(device)
        runs = self._runs(num_images)
        free, total = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.max_memory_allocated(device)
        _free_memory(device)
        return runs and free >= KEPT_FREE * total

    def _peak(self, num_images: int) -> int | None:
        """The peak memory of this process during an update, in bytes; None if the memory does not suffice."""
        try:
            give_freed_memory_back()
            CLEAR_REFS.write_text("5")  # the peak begins anew
        except OSError:
            raise RecipeError(
                "auto: the memory of an update cannot be measured on the CPU of this system. Type numbers: "
                "train.batch=16 train.accumulate=1"
            ) from None
        return _resident_set("VmHWM") if self._runs(num_images) else None


def _resident_set(key: str) -> int:
    """VmRSS, the memory of this process in bytes, or VmHWM, its peak; 0 where the system has no such file."""
    lines = STATUS.read_text().splitlines() if STATUS.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def _free_memory(device: torch.device) -> None:
    """Free unused memory, so that it is not counted in the next peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
