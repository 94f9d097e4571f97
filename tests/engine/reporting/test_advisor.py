"""Each rule on made-up numbers: one note where it applies, none for a healthy run."""

import math
from pathlib import Path

import pytest

from engine.data.workers import auto_workers
from engine.diagnosis.remedies import PACK_DATA
from engine.recipe import Recipe, load_recipe
from engine.reporting.advisor import Advisor, Note
from engine.scoring.baselines import Baselines
from engine.scoring.confusion import Scores

BASELINES = Baselines("ground", "ground", first=0.1, majority=0.1, uniform=0.05)

ROOT = Path(__file__).parents[3]
BLOCKS = ("encoder.stages.0", "encoder.stages.1", "encoder.stages.2", "head")
HEALTHY = {"loss": 1.0, "decode.loss_ce": 1.0, "lr": 1e-3, "time": 1.0, "data_time": 0.05, "memory": 100.0}


def recipe_with(*overrides: str) -> Recipe:
    recipe = load_recipe(ROOT / "recipes/demo.yaml", ["schedule.warmup=0", *overrides])
    return recipe.in_steps(300)


def advisor(*overrides: str, **facts) -> Advisor:
    """With a run from 0, a new head, data on disk and memory to spare."""
    plain = {"num_classes": 6, "first_step": 0, "head_is_random": True, "data_is_resident": False}
    plain |= {"memory_shares": lambda: {"RAM": 0.5}}
    return Advisor(recipe_with(*overrides), **(plain | facts))


def notes_after(adviser: Advisor, rows: list[dict], first: dict | None = None) -> list[Note]:
    """The notes after these log steps, which are healthy except for the values in the row."""
    first = {"decode.loss_ce": math.log(6)} if first is None else first
    return [note for row in rows for note in adviser.update(HEALTHY | row, first)]


def scored(adviser: Advisor, *curve: float | dict, lr: tuple[float, ...] = ()) -> list[Note]:
    """The notes after evaluations with these mIoU, or IoU by class."""
    notes = []
    for number, value in enumerate(curve):
        rate = lr[number] if lr else 1e-3
        adviser.update(HEALTHY | {"lr": rate}, {})
        IoU = value if isinstance(value, dict) else {"ground": value, "fish": value}
        present = [share for share in IoU.values() if not math.isnan(share)]
        scores = Scores(
            {"mIoU": sum(present) / len(present), "mAcc": 0.5, "aAcc": 0.5},
            BASELINES,
            IoU,
            {},
            {},
            {},
            [],
            1000,
            0,
        )
        notes += adviser.evaluation(100 * number + 200, scores)
    return notes


def topics(notes: list[Note]) -> list[str]:
    return [note.topic for note in notes]


def test_a_healthy_run_gets_no_notes() -> None:
    norms = {f"gradients/norm/{block}": 10.0**-place for place, block in enumerate(BLOCKS)}
    rows = [norms | {"gradients/total_norm": 1.0, "adv/d_accuracy": 0.7, "adv/weight_factor": 1.0}] * 20
    adviser = advisor("adversarial.start=0")
    assert notes_after(adviser, rows) == []
    assert scored(adviser, *(0.1 + 0.05 * number for number in range(12))) == []


def test_waiting_for_data_is_noted_once_with_remedies_that_the_recipe_lacks() -> None:
    slow = [{"data_time": 0.3}] * 10
    [note] = notes_after(advisor(), slow)
    assert note.topic == "data" and "30%" in note.text
    assert note.remedies == (PACK_DATA,)  # auto would have kept them in memory, if they fitted
    [note] = notes_after(advisor("data.resident=disk", "data.workers=0"), slow)
    assert note.remedies[0] == "data.resident=auto"
    assert ("data.workers=auto" in note.remedies) == (auto_workers(1) > 0)
    [note] = notes_after(advisor("augment.elastic=2", data_is_resident=True), slow)
    assert "augment.elastic=0" in note.remedies and not any("resident" in line for line in note.remedies)


def test_a_slow_start_or_a_single_slow_line_gives_no_note() -> None:
    assert notes_after(advisor(), [{"data_time": 0.9}, {}, {}, {"data_time": 0.4}, {}, {}]) == []
    assert topics(
        notes_after(advisor(), [{}, {"data_time": 0.2}, {"data_time": 0.2}, {"data_time": 0.21}])
    ) == ["data"]


@pytest.mark.parametrize("loss", [0.0, 0.3, 5.0, 90.0])
def test_an_unusual_first_loss_gives_a_note_about_the_labels(loss: float) -> None:
    [note] = notes_after(advisor(), [{}], {"decode.loss_ce": loss})
    assert note.topic == "start" and "ln(6) = 1.79" in note.text and "trident doctor" in note.remedies[0]


@pytest.mark.parametrize(
    ("loss", "overrides", "facts"),
    [
        (1.4, [], {}),
        (3.5, [], {}),
        (90.0, [], {"first_step": 100}),  # a resumed run does not start
        (0.1, [], {"head_is_random": False}),  # a trained head does not start at ln(C)
        (5.0, ["loss=[{name: cross_entropy, ohem: {thresh: 0.7}}]"], {}),  # the hardest pixels only
        (90.0, ["loss=[{name: dice}]"], {}),
        (math.nan, [], {}),  # which stops the run anyway
    ],
)
def test_a_normal_first_loss_or_one_without_an_expected_value_gives_no_note(loss, overrides, facts) -> None:
    first = {"decode.loss_ce": loss} if "dice" not in str(overrides) else {"decode.loss_dice": loss}
    assert notes_after(advisor(*overrides, **facts), [{}], first) == []


def looks(*norms: dict[str, float]) -> list[dict]:
    usual = dict.fromkeys(BLOCKS, 0.1)
    return [
        {f"gradients/norm/{block}": value for block, value in (usual | row).items()}
        | {"gradients/total_norm": 1.0}
        for row in norms
    ]


def test_blocks_without_a_gradient_are_named() -> None:
    dead = {"encoder.stages.1": 0.0, "head": 0.0}
    [note] = notes_after(advisor(), looks(dead, dead, dead))
    assert note.topic == "no gradient"
    assert "reaches encoder.stages.1, head, so nothing is learned there" in note.text
    assert (
        notes_after(advisor(), looks(dead, {}, dead)) == []
    )  # drop path sometimes leaves a block without a gradient


@pytest.mark.parametrize("norm", [math.inf, math.nan, 2000.0])
def test_exploding_blocks_are_named(norm: float) -> None:
    wild = {"encoder.stages.2": norm}
    [note] = notes_after(advisor("optimizer.clip_norm=null"), looks(wild, wild))
    assert note.topic == "exploding gradient" and "encoder.stages.2" in note.text
    assert "optimizer.clip_norm=1" in note.remedies
    assert notes_after(advisor(), looks(wild, {}, wild)) == []


def play(accuracy: float, factors: list[float]) -> list[dict]:
    return [{"adv/d_accuracy": accuracy, "adv/weight_factor": factor} for factor in factors]


def test_a_discriminator_that_has_won_is_noted_with_the_state_of_the_watchdog() -> None:
    on, off = ["adversarial.start=0"], ["adversarial.start=0", "adversarial.watchdog=false"]
    [note] = notes_after(advisor(*off), play(0.97, [1.0] * 8))
    assert "97%" in note.text and "watchdog is off" in note.text
    assert note.remedies[0] == "adversarial.watchdog=true" and "adversarial=null" in note.remedies
    [note] = notes_after(advisor(*on), play(0.97, [0.5, 0.25, *[0.125] * 8]))
    assert "0.125" in note.text and "not enough" in note.text
    assert notes_after(advisor(*on), play(0.97, [1.0, 0.5, 0.25])) == []  # the watchdog is reacting
    assert notes_after(advisor(*off), play(0.85, [1.0] * 8)) == []


def test_a_discriminator_whose_updates_are_all_left_out_is_noted() -> None:
    adversarial = ["adversarial.start=0"]
    idle = [{}] * 3 + [{"adv/d_skipped": 1.0}] * 5
    [note] = notes_after(advisor(*adversarial, memory_shares=lambda: {"GPU": 0.5}), idle)
    assert note.topic == "idle discriminator" and "learns nothing" in note.text
    assert "train.precision=fp32" in note.remedies
    [note] = notes_after(advisor(*adversarial), idle)
    assert "train.precision=fp32" not in note.remedies  # the default on a CPU
    rarely = [{"adv/d_skipped": float(number % 4 > 0)} for number in range(20)]
    assert notes_after(advisor(*adversarial), rarely) == []


def test_unlabelled_images_of_which_nothing_is_kept_are_noted_after_the_ramp() -> None:
    unlabelled = ["data.unlabelled={root: photos, ramp: 2, weight: 0.5}"]
    rising = [{"unlabelled/weight": 0.25, "unlabelled/kept": 0.0}] * 5
    nothing = [{"unlabelled/weight": 0.5, "unlabelled/kept": 0.2}] * 5
    [note] = notes_after(advisor(*unlabelled), [*rising, *nothing])
    assert note.topic == "unlabelled" and "less than 1 % of the pixels" in note.text
    assert note.remedies == ("data.unlabelled.threshold=0.76",)
    assert recipe_with(*unlabelled, *note.remedies).data.unlabelled.threshold == 0.76
    assert notes_after(advisor(*unlabelled), [*rising, *nothing[1:]]) == []
    some = {"unlabelled/weight": 0.5, "unlabelled/kept": 1.0}
    assert notes_after(advisor(*unlabelled), [*nothing[1:], some, *nothing[1:]]) == []
    by_discriminator = "data.unlabelled={root: photos, threshold: 0, discriminator: 0.2}"
    filtered = advisor("adversarial.objective=bce", by_discriminator)
    [note] = notes_after(filtered, [row | {"unlabelled/weight": 1.0} for row in nothing])
    assert "passed the discriminator," in note.text
    assert note.remedies == ("data.unlabelled.discriminator=0.16",)


def test_full_memory_is_noted_with_its_place() -> None:
    [note] = notes_after(advisor(memory_shares=lambda: {"RAM": 0.3, "GPU": 0.93}), [{}] * 3)
    assert "GPU is 93% full" in note.text
    assert {"train.accumulate=2", "augment.crop=72", "model.checkpointing=true"} <= set(note.remedies)
    [note] = notes_after(advisor("train.compile=max", memory_shares=lambda: {"GPU": 0.93}), [{}] * 3)
    assert note.remedies == ("augment.crop=72", "train.compile=true")
    [note] = notes_after(advisor(memory_shares=lambda: {"RAM": 0.95}, data_is_resident=True), [{}])
    assert note.remedies[0] == "data.resident=disk"
    assert notes_after(advisor(memory_shares=lambda: {"RAM": 0.9, "GPU": 0.9}), [{}]) == []


def test_predicting_one_class_is_noted_after_the_first_tenth() -> None:
    one, two = {"ground": 0.7, "fish": 0.0, "kelp": math.nan}, {"ground": 0.7, "fish": 0.01, "kelp": math.nan}
    [note] = scored(advisor("train.steps=1000"), one, one)
    assert note.topic == "one class" and "finds only ground of 2 classes" in note.text
    assert scored(advisor("train.steps=1000"), two) == []
    assert scored(advisor("train.steps=3000"), one) == []
    assert scored(advisor("train.steps=1000", "schedule.warmup=300"), one) == []


def test_a_plateau_is_noted_while_the_learning_rate_is_high() -> None:
    flat = [0.2, 0.4, 0.5, 0.5, 0.501, 0.5, 0.499, 0.5, 0.5]
    [note] = scored(advisor("schedule.name=constant"), *flat)
    assert note.topic == "plateau" and "best 0.5010" in note.text
    assert note.remedies[:2] == ("schedule.name=poly", "optimizer.lr=6.7e-04 schedule.min_lr=0")
    falling = tuple(1e-3 * (1 - number / len(flat)) ** 2 for number in range(len(flat)))
    assert scored(advisor(), *flat, lr=falling) == []  # normal at the end of a schedule


def test_a_slow_steady_rise_is_not_a_plateau_but_noise_without_a_rise_is() -> None:
    assert scored(advisor(), *(0.3 + 0.001 * number for number in range(15))) == []
    assert topics(scored(advisor(), 0.1, 0.3, 0.42, 0.38, 0.43, 0.37, 0.41, 0.38, 0.42)) == ["plateau"]
    assert scored(advisor(), 0.1, 0.3, 0.3, 0.3, 0.3, 0.3) == []  # too few to judge


EVERY_TOPIC = {
    "data", "start", "no gradient", "exploding gradient", "discriminator", "idle discriminator", "memory",
    "one class", "plateau",
}  # fmt: skip


def every_note(*overrides: str, **facts) -> list[Note]:
    """All notes at once, on a recipe with a discriminator."""
    rows = looks({"head": 0.0, "encoder.stages.0": math.inf}) * 8
    bad = {"data_time": 0.5, "adv/d_accuracy": 0.99, "adv/weight_factor": 1.0, "adv/d_skipped": 1.0}
    adviser = advisor(*overrides, **facts)
    notes = notes_after(adviser, [row | bad for row in rows], {"decode.loss_ce": 50.0})
    return notes + scored(adviser, *[{"ground": 0.5, "fish": 0.0}] * 9)


FULL_GPU = {"memory_shares": lambda: {"GPU": 0.99, "RAM": 0.1}}
FULL_RAM = {"memory_shares": lambda: {"RAM": 0.99}}
WITH_DISCRIMINATOR = ["adversarial.start=0", "adversarial.watchdog=false"]


@pytest.mark.parametrize("facts", [FULL_GPU, FULL_RAM], ids=["GPU", "RAM"])
@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.clip_norm=null"],
        ["optimizer.clip_norm=0.1", "train.ema=0.99", "data.workers=1", "data.sampler=rare"],
        [
            "data.resident=disk",
            "data.workers=8",
            "augment.elastic=2",
            "augment.hue=0.05",
            "schedule.name=constant",
        ],
        ["data.resident=ram", "train.precision=fp32", "loss.0.class_weights=inverse", "log.gradients=25"],
    ],
    ids=["plain", "careful", "slow", "in memory"],
)
def test_every_advised_line_is_valid_and_none_is_so_already(overrides, in_memory: bool, facts) -> None:
    """Typed after the recipe each loads and changes it, and is then no longer advised."""
    overrides = [*WITH_DISCRIMINATOR, *overrides]
    notes = every_note(*overrides, data_is_resident=in_memory, **facts)
    assert set(topics(notes)) == EVERY_TOPIC
    remedies = {line for note in notes for line in note.remedies if not line.startswith("trident ")}
    before = recipe_with(*overrides).to_dict()
    assert len(remedies) > 6
    for remedy in remedies:
        now = [*overrides, *remedy.split()]
        assert recipe_with(*now).to_dict() != before, remedy
        if remedy != "adversarial=null":  # nothing is left to advise on
            again = every_note(*now, data_is_resident=in_memory, **facts)
            assert remedy not in {line for note in again for line in note.remedies}, remedy


def test_a_tighter_limit_of_the_gradient_is_not_loosened() -> None:
    notes = {note.topic: note for note in every_note(*WITH_DISCRIMINATOR, "optimizer.clip_norm=0.1")}
    assert "optimizer.clip_norm=1" not in notes["exploding gradient"].remedies


@pytest.mark.parametrize(("batch", "parts", "line"), [(8, 1, "2"), (8, 2, "4"), (9, 1, "3"), (4, 4, None)])
def test_a_batch_is_split_into_equal_parts(batch: int, parts: int, line: str | None) -> None:
    overrides = [f"train.batch={batch}", f"train.accumulate={parts}"]
    [note] = notes_after(advisor(*overrides, **FULL_GPU), [{}])
    found = [remedy for remedy in note.remedies if "accumulate" in remedy]
    assert found == ([f"train.accumulate={line}"] if line else [])


def test_images_in_memory_are_read_without_workers() -> None:
    notes = {n.topic: n for n in every_note(*WITH_DISCRIMINATOR, data_is_resident=True, **FULL_RAM)}
    assert notes["memory"].remedies == ("data.resident=disk",)
    notes = {n.topic: n for n in every_note(*WITH_DISCRIMINATOR, "data.workers=1", **FULL_RAM)}
    assert notes["memory"].remedies == ()
