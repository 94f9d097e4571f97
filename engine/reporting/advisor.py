"""Advice while a run trains: each likely problem once, with the recipe lines that may solve it.

It reads the numbers of each log step and evaluation. A rule returns None where it cannot judge.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from engine.data.workers import auto_workers
from engine.diagnosis.remedies import (
    CHECK_DATA,
    DATA_WAIT_SHARE,
    FIND_LR,
    PACK_DATA,
    average_weights,
    can_be_packed,
    cheaper_augmentation,
    help_rare_classes,
    keep_images_in_memory,
    lower_lr,
    not_followed,
)
from engine.recipe import Recipe
from engine.reporting.gradients import EXPLODING_FACTOR, dead_blocks, exploding_blocks, named
from engine.scoring.confusion import Scores

Values = dict[str, float]

DATA_WINDOW = 3  # log steps over which waiting for data is measured; the first of a run is left out
START_FACTOR, START_SLACK = 2.0, 2.0  # the first cross-entropy is in ln(C) / 2 ... ln(C) x 2, or ln(C) + 2
D_WINS, D_WINDOW = 0.9, 5  # smoothed accuracy over patches; over so many log steps
MEMORY_SHARE = 0.9
PLATEAU_EVALUATIONS, PLATEAU_GAIN = 5, 0.002
PLATEAU_RATE = 0.2  # ... while lr is above this share of its peak
LEAST_KEPT, KEPT_WINDOW = 1.0, 5  # percent of the pixels of unlabelled images; over so many log steps
EARLY_SHARE = 0.1  # of the updates, in which predicting only one class is normal


@dataclass(frozen=True)
class Note:
    """One piece of advice; `remedies` are as in `engine.diagnosis.remedies`."""

    topic: str
    text: str
    remedies: tuple[str, ...]


class Advisor:
    """Gives each note once, when its rule first applies.

    Args:
        recipe: its durations in steps.
        num_classes: C.
        first_step: updates done before; only a run that starts at 0 has a start that can be judged.
        head_is_random: whether the classifier starts from random weights.
        data_is_resident: whether decoded images stay in memory, so that waiting is for augmentation.
        memory_shares: called at log steps; memory ("GPU", "RAM") -> share of it that is used, 0..1.
    """

    def __init__(
        self,
        recipe: Recipe,
        num_classes: int,
        first_step: int,
        head_is_random: bool,
        data_is_resident: bool,
        memory_shares: Callable[[], dict[str, float]],
    ):
        self.recipe = recipe
        self.num_classes = num_classes
        self.judges_start = first_step == 0 and head_is_random
        self.data_is_resident = data_is_resident
        self.memory_shares = memory_shares
        self._said: set[str] = set()
        self._log: list[Values] = []
        self._looks: list[Values] = []  # log steps at which gradients were measured
        self._mIoU: list[float] = []

    def update(self, values: Values, first: Values) -> list[Note]:
        """After a log step; `first` are the metrics of the first update."""
        self._log.append(values)
        if "gradients/total_norm" in values:
            self._looks.append(values)
        rules = (
            self._data_bound(),
            self._odd_start(first),
            self._no_gradient(),
            self._exploding(),
            self._discriminator_won(),
            self._discriminator_idle(),
            self._nothing_kept(),
            self._memory_full(),
        )
        return self._new(rules)

    def evaluation(self, step: int, scores: Scores) -> list[Note]:
        """After an evaluation."""
        self._mIoU.append(scores.mIoU)
        return self._new((self._one_class(step, scores), self._plateau()))

    def _new(self, notes: Iterable[Note | None]) -> list[Note]:
        new = [note for note in notes if note and note.topic not in self._said]
        self._said |= {note.topic for note in new}
        return [replace(note, remedies=not_followed(self.recipe, note.remedies)) for note in new]

    def _data_bound(self) -> Note | None:
        window = self._log[1:][-DATA_WINDOW:]
        share = sum(row["data_time"] for row in window) / max(1e-9, sum(row["time"] for row in window))
        if len(window) < DATA_WINDOW or share <= DATA_WAIT_SHARE:
            return None
        spent = f"{share:.0%} of the time is spent waiting for data. "
        if self.data_is_resident:
            text = spent + "The images are in memory, so augmentation is what takes the time."
            return Note("data", text, (*cheaper_augmentation(self.recipe), "trident benchmark augment"))
        workers = self.recipe.data.workers
        few = isinstance(workers, int) and workers < auto_workers(1)
        remedies = (
            *keep_images_in_memory(self.recipe),
            *(("data.workers=auto",) if few else ()),
            *((PACK_DATA,) if can_be_packed(self.recipe) else ()),
        )
        text = "The images are read from disk, and decoded, in each epoch."
        return Note("data", spent + text, remedies or cheaper_augmentation(self.recipe))

    def _odd_start(self, first: Values) -> Note | None:
        places = [place for place, term in enumerate(self.recipe.loss) if term.name == "cross_entropy"]
        if not (self.judges_start and places and "decode.loss_ce" in first):
            return None
        term, loss = self.recipe.loss[places[0]], first["decode.loss_ce"]
        # Of classes that may overlap each is a choice of two: the class, and the rest.
        choices = 2 if self.recipe.data.labels == "multi" else self.num_classes
        expected = math.log(choices)
        # With OHEM the loss is that of the hardest pixels, which is above ln(C).
        if term.ohem is not None or not math.isfinite(loss):
            return None
        most = max(expected * START_FACTOR, expected + START_SLACK)
        if expected / START_FACTOR <= loss <= most:
            return None
        weighted = [f"loss.{places[0]}.class_weights=none"] if term.class_weights != "none" else []
        return Note(
            "start",
            f"The first cross-entropy was {loss:.2f}; a new head that has learnt nothing has "
            f"ln({choices}) = {expected:.2f}. Check the labels (ids that are shifted, all void or "
            "all one class), the class weights, or pixel values on the wrong scale.",
            (CHECK_DATA, *weighted),
        )

    def _no_gradient(self) -> Note | None:
        dead = dead_blocks(self._looks)
        if not dead:
            return None
        return Note(
            "no gradient",
            f"No gradient reaches {named(dead)}, so nothing is learned there. The loss does not depend "
            "on it, or the units are dead.",
            (lower_lr(self.recipe, 10), "log.gradients=" + self._look_often()),
        )

    def _exploding(self) -> Note | None:
        wild = exploding_blocks(self._looks)
        if not wild:
            return None
        return Note(
            "exploding gradient",
            f"The gradient of {named(wild)} is NaN, infinite or more than {EXPLODING_FACTOR:g} times that "
            "of the median block.",
            (
                *(() if self._clips() else ("optimizer.clip_norm=1",)),
                lower_lr(self.recipe, 3),
                "log.gradients=" + self._look_often(),
            ),
        )

    def _clips(self) -> bool:
        norm = self.recipe.optimizer.clip_norm
        return norm is not None and norm <= 1

    def _look_often(self) -> str:
        return str(self.recipe.log.gradients or self.recipe.log.every)

    def _discriminator_won(self) -> Note | None:
        section = self.recipe.adversarial
        window = [row for row in self._log if "adv/d_accuracy" in row][-D_WINDOW:]
        if section is None or len(window) < D_WINDOW or min(r["adv/d_accuracy"] for r in window) <= D_WINS:
            return None
        first, last = window[0]["adv/weight_factor"], window[-1]["adv/weight_factor"]
        if section.watchdog and last < first:
            return None  # the watchdog is already lowering the weight
        answer = (
            f"The watchdog has lowered the weight to {last:g} of the recipe's, and that was not enough."
            if section.watchdog and last < 1
            else "The watchdog has not moved yet."
            if section.watchdog
            else "The watchdog is off."
        )
        return Note(
            "discriminator",
            f"The discriminator has won: it classifies {window[-1]['adv/d_accuracy']:.0%} of the patches "
            f"correctly, and the model learns little from it. {answer}",
            (
                *(() if section.watchdog else ("adversarial.watchdog=true",)),
                f"adversarial.lr={section.lr / 4:.1e}",
                f"adversarial.weight={section.weight / 4:g}",
                "adversarial=null",
            ),
        )

    def _discriminator_idle(self) -> Note | None:
        """Single updates that are left out are normal in fp16 only, and few there."""
        section = self.recipe.adversarial
        window = [row["adv/d_skipped"] for row in self._log if "adv/d_skipped" in row][-D_WINDOW:]
        if section is None or len(window) < D_WINDOW or min(window) < 1:
            return None
        return Note(
            "idle discriminator",
            f"At the last {D_WINDOW} log steps the gradient of the discriminator was NaN or infinite, so its "
            "update was left out: it learns nothing, and the model nothing from it.",
            (
                f"adversarial.lr={section.lr / 4:.1e}",
                *self._full_precision(),
                "adversarial=null",
            ),
        )

    def _nothing_kept(self) -> Note | None:
        """Not while the weight of the unlabelled images rises, when the teacher knows little."""
        section = self.recipe.data.unlabelled
        if section is None:
            return None
        rows = [row for row in self._log if row.get("unlabelled/weight", 0) >= section.weight]
        window = [row["unlabelled/kept"] for row in rows][-KEPT_WINDOW:]
        if len(window) < KEPT_WINDOW or max(window) >= LEAST_KEPT:
            return None
        by_teacher = section.threshold > 0
        filters = ["threshold"] * by_teacher + ["discriminator"] * (section.discriminator is not None)
        return Note(
            "unlabelled",
            f"At the last {KEPT_WINDOW} log steps less than {LEAST_KEPT:g} % of the pixels of the unlabelled "
            f"images passed the {' and the '.join(filters)}, so hardly anything is learnt from them.",
            tuple(f"data.unlabelled.{name}={getattr(section, name) * 0.8:.2g}" for name in filters),
        )

    def _full_precision(self) -> tuple[str, ...]:
        """On a CPU that is what auto means."""
        is_so = self.recipe.train.precision == "auto" and "GPU" not in self.memory_shares()
        return () if is_so else ("train.precision=fp32",)

    def _memory_full(self) -> Note | None:
        what, share = max(self.memory_shares().items(), key=lambda pair: pair[1])
        if share <= MEMORY_SHARE:
            return None
        batch, parts = int(self.recipe.train.batch), int(self.recipe.train.accumulate)
        more = next((number for number in range(2 * parts, batch + 1) if batch % number == 0), None)
        crop = self.recipe.augment.crop * 3 // 4
        is_recorded = self.recipe.train.compile == "max"  # an update in one part, without checkpointing
        smaller = [
            *([f"train.accumulate={more}"] if more and not is_recorded else []),
            *([f"augment.crop={crop}"] if self.recipe.augment.allows(crop) else []),
        ]
        model = self.recipe.model
        can_repeat = model.arch in ("linear", "dpt") or (model.arch == "segformer" and model.encoder is None)
        if can_repeat and not is_recorded:
            smaller.append("model.checkpointing=true")
        if is_recorded:
            smaller.append("train.compile=true")
        off = ["data.resident=disk"] if self.data_is_resident else []
        return Note(
            "memory",
            f"{what} is {share:.0%} full at its peak; a larger image or another program can end the run.",
            (*smaller, *off) if what == "GPU" else (*off, *self._fewer_workers()),
        )

    def _fewer_workers(self) -> tuple[str, ...]:
        """Images in memory are read without workers."""
        workers = self.recipe.data.workers
        num = auto_workers(1) if workers == "auto" else workers
        return () if self.data_is_resident or num <= 2 else ("data.workers=2",)

    def _one_class(self, step: int, scores: Scores) -> Note | None:
        found = [name for name, value in scores.IoU.items() if value > 0]
        labelled = [name for name, value in scores.IoU.items() if not math.isnan(value)]
        warmup, num_steps = int(self.recipe.schedule.warmup), int(self.recipe.train.steps)
        early = step <= max(warmup, EARLY_SHARE * num_steps)
        if early or len(found) > 1 or len(labelled) < 2:
            return None
        what = f"only {found[0]}" if found else "no class"
        return Note(
            "one class",
            f"The model finds {what} of {len(labelled)} classes. Early in a training this is normal; if it "
            "lasts, the labels may be wrong, the learning rate too high or too low, or the classes rare.",
            (
                CHECK_DATA,
                FIND_LR,
                *help_rare_classes(self.recipe),
            ),
        )

    def _plateau(self) -> Note | None:
        """The best of the last evaluations is no better than the best before, beyond their variation."""
        recent, before = self._mIoU[-PLATEAU_EVALUATIONS:], self._mIoU[:-PLATEAU_EVALUATIONS]
        rates = [row["lr"] for row in self._log]
        if len(before) < 2 or not rates or rates[-1] < PLATEAU_RATE * max(rates):
            return None
        jumps = median(abs(after - now) for now, after in pairwise(recent))
        gain = max(recent) - max(before)
        if not gain <= max(PLATEAU_GAIN, jumps):
            return None
        fall = ("schedule.name=poly",) if self.recipe.schedule.name in ("constant", "step") else ()
        return Note(
            "plateau",
            f"mIoU has not risen for {PLATEAU_EVALUATIONS} evaluations (best {max(self._mIoU):.4f}), while "
            "lr is still high: a lower one may help. Ctrl-C saves; the best checkpoints are kept.",
            (*fall, lower_lr(self.recipe, 3), *average_weights(self.recipe), FIND_LR),
        )
