"""Every kind of mistake in a recipe, its message, and that all of them are reported at once."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recipe import Recipe, RecipeError, load_recipe
from engine.recipe.text import dump_yaml


@pytest.fixture
def mistakes(tmp_path: Path) -> Any:
    """The lines of the error for a recipe, without the folder."""

    def mistakes(text: str, *overrides: str) -> list[str]:
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(RecipeError) as error:
            load_recipe(tmp_path / "r.yaml", overrides)
        head, *lines = str(error.value).replace(f"{tmp_path}/", "").split("\n  ")
        assert head == f"r.yaml: {len(lines)} mistake{'s' * (len(lines) > 1)}:"
        return lines

    return mistakes


TERMS = "cross_entropy, dice, focal, lovasz, tversky, jaccard, mcc, boundary"
KEYS_OF_KEEP = "Keys here: top, metric, smooth, spacing, tail, tail_every"
STEPS = "steps (a whole number, at least {}), '12 epochs' or '10%' of train.steps"


@pytest.mark.parametrize(
    ("override", "text"),
    [
        # wrong type
        ("keep.top='16'", "expected a whole number, got '16' (text; write it without quotes)"),
        ("keep.top=abc", "expected a whole number, got 'abc'"),
        ("keep.top=16.0", "expected a whole number, got 16.0"),
        ("keep.top=true", "expected a whole number, got true"),
        ("keep.top=", "expected a whole number, got nothing (null); leave the key out for its default"),
        ("keep.top=[1]", "expected a whole number, got [1]"),
        ("keep.top={a: 1}", "expected a whole number, got a section"),
        ("optimizer.lr=yes", "expected a number, got 'yes'"),
        ("optimizer.lr=true", "expected a number, got true"),
        ("optimizer.lr=.nan", "expected a finite number, got nan"),
        ("optimizer.clip_norm=1e999", "expected a finite number, got inf"),
        ("eval.flip=no", "expected true or false, got 'no'"),
        ("eval.flip=0", "expected true or false, got 0"),
        ("train.compile=yes", "expected one of auto, max or true or false, got 'yes'"),
        ("train.compile=1", "expected one of auto, max or true or false, got 1"),
        ("name=2024", "expected text, got 2024 (put it in quotes)"),
        ("keep=3", "expected a section of `key: value` lines, got 3"),
        (
            "log=",
            "expected a section of `key: value` lines, got nothing (null); leave the key out for its default",
        ),
        ("loss=dice", "expected a list, got 'dice'"),
        ("loss.0=dice", "expected a section of `key: value` lines, got 'dice'"),
        ("eval.scales=1.0", "expected a list, got 1.0"),
        # out of range
        ("keep.top=0", "expected at least 1, got 0"),
        ("train.batch=abc", "expected auto or a whole number, got 'abc'"),
        ("train.batch=0", "expected auto or at least 1, got 0"),
        ("train.ema=1.0", "expected less than 1, got 1.0"),
        ("train.ema=0", "expected more than 0, got 0"),
        (
            "train.ema_widths=[0.1, 0.05, 0.1]",
            "a width is given twice; keep one, such as [0.05, 0.1], got [0.1, 0.05, 0.1]",
        ),
        (
            "train.ema_widths=[0.05, 0.1]",
            "the averages are kept with the latest states. Type keep.tail=8 or train.ema_widths=[]",
        ),
        ("optimizer.lr=0", "expected more than 0, got 0"),
        ("optimizer.weight_decay=-1", "expected at least 0, got -1"),
        ("optimizer.layer_decay=0", "expected more than 0, got 0"),
        ("optimizer.layer_decay=1.1", "expected at most 1, got 1.1"),
        ("augment.flip=1.5", "expected at most 1, got 1.5"),
        ("augment.hue=0.6", "expected at most 0.5, got 0.6"),
        ("augment.scale=[1]", "expected a list of at least 2, got [1]"),
        ("augment.scale=[1, 2, 3]", "expected a list of at most 2, got [1, 2, 3]"),
        ("augment.scale=[2.0, 0.5]", "expected the smaller scale first, as in [0.5, 2.0], got [2.0, 0.5]"),
        (
            "augment.progressive=[{crop: 512, until: 50%}]",
            "expected crops that grow and stay below augment.crop, 512, or [] for crops of one size, got "
            "[{'crop': 512, 'until': '50%'}]",
        ),
        (
            "augment.progressive=[{crop: 384, until: 30%}, {crop: 256, until: 60%}]",
            "expected crops that grow and stay below augment.crop, 512, or [] for crops of one size, got a "
            "list of 2",
        ),
        ("augment.blur=33", "expected at most a sixteenth of augment.crop, 32, got 33"),
        ("augment.elastic=33", "expected at most a sixteenth of augment.crop, 32, got 33"),
        ("data.ignore_index=256", "expected at most 255, got 256"),
        ("data.workers=-1", "expected auto or at least 0, got -1"),
        ("data.root=''", "expected text that is not empty, got ''"),
        ("loss.1.weight=-1", "expected at least 0 or a section of `key: value` lines, got -1"),
        ("loss=[]", "expected a list of at least 1, got []"),
        (
            "loss.0.class_weights=medain",
            "expected one of none, inverse, median, enet, effective or a list, got 'medain'; did you mean "
            "median?",
        ),
        ("keep.top=0", "expected at least 1, got 0"),
        ("train.batch=abc", "expected auto or a whole number, got 'abc'"),
        ("train.batch=0", "expected auto or at least 1, got 0"),
        ("eval.scales=[]", "expected a list of at least 1, got []"),
        ("seed=-1", "expected at least 0, got -1"),
        # choices
        (
            "data.format=vocc",
            "expected one of voc, folder, coco, labelme, yolo, cvat, label_studio, rle_csv, coco_stuff, "
            "ade20k, cityscapes, camvid, packed, synthetic, got 'vocc'; did you mean voc?",
        ),
        ("data.resident=disc", "expected one of auto, gpu, ram, disk, got 'disc'; did you mean disk?"),
        (
            "data.classes=voc",
            "expected one of voc21, ade150, cityscapes19, camvid11, coco_stuff171, scenes6 or a list, "
            "got 'voc'; did you mean voc21?",
        ),
        ("data.on_error=ignore", "expected one of raise, skip, got 'ignore'"),
        ("model.variant=b6", "expected one of b0, b1, b2, b3, b4, b5, got 'b6'"),
        ("model.variant=B2", "expected one of b0, b1, b2, b3, b4, b5, got 'B2'; did you mean b2?"),
        ("keep.metric=miou", "expected one of mIoU, mAcc, aAcc, got 'miou'; did you mean mIoU?"),
        ("loss.0.name=kl", f"expected one of {TERMS}, got 'kl'"),
        (
            "loss.0.name=crossentropy",
            f"expected one of {TERMS}, got 'crossentropy'; did you mean cross_entropy?",
        ),
        (
            "adversarial.objective=wgan",
            "expected one of hinge, bce, lsgan, wgan_gp, got 'wgan'; did you mean wgan_gp?",
        ),
        ("optimizer.betas=[0.9]", "expected a list of at least 2, got [0.9]"),
        ("optimizer.groups=3", "expected a section of `key: value` lines, got 3"),
        ("model.freeze=3", "expected text or a list, got 3 (put it in quotes)"),
        (
            "name=../x",
            "expected a folder name of letters, digits, '.', '_' and '-', a letter or digit first, got "
            "'../x'",
        ),
        # durations
        ("train.steps=10%", "expected steps (a whole number, at least 1) or '12 epochs', got '10%'"),
        ("train.steps=0", "expected steps (a whole number, at least 1) or '12 epochs', got 0"),
        (
            "train.steps=0 epochs",
            "expected steps (a whole number, at least 1) or '12 epochs', got '0 epochs'",
        ),
        ("train.epochs=0", "expected more than 0, got 0"),
        ("train.epochs=5 epochs", "expected a number, got '5 epochs'"),
        ("train.epochs=true", "expected a number, got true"),
        ("eval.every=0%", f"expected {STEPS.format(1)}, got '0%'"),
        ("eval.every=1.5", f"expected {STEPS.format(1)}, got 1.5"),
        ("schedule.warmup=101%", f"expected {STEPS.format(0)}, got '101%'"),
        ("schedule.warmup=-1", f"expected {STEPS.format(0)}, got -1"),
        ("schedule.warmup=true", f"expected {STEPS.format(0)}, got true"),
        ("adversarial.start=2 epoch 3", f"expected {STEPS.format(0)}, got '2 epoch 3'"),
        (
            "adversarial.ramp=",
            f"expected {STEPS.format(0)}, got nothing (null); leave the key out for its default",
        ),
        # named in the design, not there yet
        ("data.sampler=rear", "expected one of auto, uniform, rare, got 'rear'; did you mean rare?"),
        (
            "eval.protocol=sliding",
            "expected one of native, mmseg, paddle, centercrop, slide, got 'sliding'; did you mean slide?",
        ),
        ("eval.average=logits", "expected one of probability, logit, got 'logits'; did you mean logit?"),
        ("eval.stride=513", "expected at most eval.window, 512: windows must not leave gaps, got 513"),
        # keys that cannot be combined
        ("data.classes=scenes6", "this is for format: synthetic only, got 'scenes6'"),
        (
            f"data.classes={[f'class {id}' for id in range(256)]}",
            "256 classes are too many: label ids go from 0 to 254, as 255 is void, got a list of 256",
        ),
        ("data.classes=[cat]", "expected at least 2 names, each different, got ['cat']"),
        ("data.classes=[cat, cat]", "expected at least 2 names, each different, got ['cat', 'cat']"),
        (
            "loss=[{name: dice}, {name: dice, weight: 2}]",
            "expected each loss once: add up the weights of the same loss, got a list of 2",
        ),
        ("schedule.milestones=[50%]", "only name: step uses this; here it must be absent or [], got ['50%']"),
        # unknown keys
        (
            "train.bacth=3",
            "unknown key; did you mean batch? Keys here: steps, epochs, batch, accumulate, precision, "
            "compile, shard, save_every, timeout, patience, ema, ema_widths, batch_norm, on_nan, "
            "max_skipped, deterministic",
        ),
        (
            "train.lr=1",
            "unknown key; did you mean optimizer.lr=1? Keys here: steps, epochs, batch, "
            "accumulate, precision, compile, shard, save_every, timeout, patience, ema, ema_widths, "
            "batch_norm, on_nan, max_skipped, deterministic",
        ),
        ("train.timeout=10", "expected a time, such as '10 min', got 10"),
        ("train.timeout=0 min", "expected a time, such as '10 min', got '0 min'"),
        (
            "keep.adversarial={}",
            f"unknown key; did you mean adversarial? {KEYS_OF_KEEP}",
        ),
        ("loss.1.label_smoothing=0", "unknown key. Keys here: name, weight, per_image, class_weights"),
        ("output.path=x", "unknown key; did you mean output.dir=x? Keys here: dir"),
        ("output.zzz=x", "unknown key. Keys here: dir"),
    ],
)
def test_each_mistake_has_its_message(mistakes: Any, override: str, text: str) -> None:
    key = override.partition("=")[0]
    assert mistakes("", override) == [f"{key} (override {override}): {text}"]


def test_null_among_names_is_to_be_quoted(mistakes: Any) -> None:
    for override in ("data.classes=[background, null]", "data.classes=[{name: null, colour: [0, 0, 0]}]"):
        [message] = mistakes("", override)
        assert "data.classes." in message and 'write "null" in quotes where it is a name' in message


@pytest.mark.parametrize(
    ("override", "key", "text"),
    [
        ("loss=[dice]", "loss.0", "expected a section of `key: value` lines, got 'dice'"),
        ("augment.scale=[0, 1]", "augment.scale.0", "expected more than 0, got 0"),
        ("loss.0.class_weights=[1, x]", "loss.0.class_weights.1", "expected a number, got 'x'"),
        ("loss.1.weight={end: -1}", "loss.1.weight.end", "expected at least 0, got -1"),
        ("loss.1.weight={ramp: -1}", "loss.1.weight.ramp", f"expected {STEPS.format(0)}, got -1"),
        ("loss.0.ohem={thresh: 1}", "loss.0.ohem.thresh", "expected less than 1, got 1"),
        ("loss.0.ohem={min_kept: 0}", "loss.0.ohem.min_kept", "expected at least 1, got 0"),
        ("loss=[{name: focal, gamma: -1}]", "loss.0.gamma", "expected at least 0, got -1"),
        ("loss=[{name: lovasz, per_image: 1}]", "loss.0.per_image", "expected true or false, got 1"),
        ("loss=[{name: tversky, alpha: -1}]", "loss.0.alpha", "expected at least 0, got -1"),
        ("loss=[{name: tversky, beta: 0}]", "loss.0.beta", "expected more than 0, got 0"),
        ("loss=[{name: boundary, sigma_px: 0.5}]", "loss.0.sigma_px", "expected at least 1, got 0.5"),
        ("train.ema_widths=[0.3]", "train.ema_widths.0", "expected at most 0.25, got 0.3"),
        ("eval.scales=[1.0, 0.0]", "eval.scales.1", "expected more than 0, got 0.0"),
        (
            "loss=[{weight: 1}]",
            "loss.0",
            "expected a section with a `name`, such as {name: dice}, got a section",
        ),
        (
            "data.synthetic.size=64",
            "data.synthetic",
            "this is for format: synthetic only; leave it out, or set it to null",
        ),
        (
            "model={weights: x, from_scratch: true}",
            "model.weights",
            "from_scratch: true and weights exclude each other: set one of model.from_scratch=false and "
            "model.weights=null, got 'x'",
        ),
        (
            "schedule.name=step",
            "schedule.milestones",
            "schedule: step needs milestones, for example [60%, 90%]",
        ),
        (
            "schedule={name: cosine, power: 0.9}",
            "schedule.power",
            "only name: poly uses this; here it must be absent or 1.0, got 0.9",
        ),
    ],
)
def test_a_mistake_inside_or_next_to_an_overridden_value(
    mistakes: Any, override: str, key: str, text: str
) -> None:
    assert mistakes("", override) == [f"{key} (override {override}): {text}"]


def test_unknown_section_and_misplaced_key_at_the_top(mistakes: Any) -> None:
    lines = mistakes("optimiser: {lr: 1}\nlr: 1e-3\nzzz: 1\n")
    assert [line.split(" Keys here")[0] for line in lines] == [
        "optimiser (r.yaml:1): unknown key; did you mean optimizer?",
        "lr (r.yaml:2): unknown key; did you mean optimizer.lr=0.001?",
        "zzz (r.yaml:3): unknown key.",
    ]
    assert all("Keys here: base, stages, name, seed, data, augment, model, loss" in line for line in lines)


def test_a_key_with_dots_is_to_be_written_in_its_section(mistakes: Any, tmp_path: Path) -> None:
    data = "data: {format: synthetic}\nmodel: {from_scratch: true}\n"
    lines = mistakes(f"name: x\n{data}train.batch: 4\nlog.features: 2\nloss.0.weight: 2.0\n")
    beginning = "unknown key; dots are for the command line. Write its section: "
    assert f"train.batch (r.yaml:4): {beginning}train: {{batch: 4}}" in lines
    assert f"log.features (r.yaml:5): {beginning}log: {{features: 2}}" in lines
    written = [line.partition("section: ")[2] for line in lines if beginning in line]
    assert len(written) == 2  # terms of the loss have no such form
    (tmp_path / "r.yaml").write_text("\n".join([f"name: x\n{data}", *written]))
    recipe = load_recipe(tmp_path / "r.yaml")
    assert (recipe.train.batch, recipe.log.features) == (4, 2)


def test_a_key_without_a_default_is_explained(mistakes: Any) -> None:
    [line] = mistakes("name: x\nmodel: {from_scratch: true, auxiliary: {weight: 0.4}}\n")
    assert line.startswith(
        "model.auxiliary.layer (r.yaml:2): expected a value, since this key has no default: "
    )
    assert "such as encoder.stages.2" in line


def test_synthetic_data_refuses_keys_of_photos(mistakes: Any) -> None:
    text = "data: {format: synthetic, root: x, classes: voc21, ignore_index: 0, synthetic: null}\n"
    assert mistakes(text) == [
        "data.root (r.yaml:1): format: synthetic works with null only, got 'x'",
        "data.classes (r.yaml:1): format: synthetic works with scenes6 only, got 'voc21'",
        "data.ignore_index (r.yaml:1): format: synthetic works with 255 only, got 0",
        "data.synthetic (r.yaml:1): expected a section; leave the key out for the defaults",
    ]


def test_all_mistakes_are_in_one_message(mistakes: Any, tmp_path: Path) -> None:
    (tmp_path / "root.yaml").write_text("train:\n  steps: soon\n  batch: 4\n  batch: 5\n")
    text = "base: root.yaml\nname: a b\naugment:\n  flip: 2\nkeep: {topp: 1}\n"
    lines = mistakes(text, "seed", "eval.every=never", "loss.7.weight=1")
    assert lines == [
        "root.yaml:4: duplicate key `train.batch`, which is already at root.yaml:3; keep one",
        "override seed: expected key.path=value, for example train.batch=8",
        "override loss.7.weight=1: loss is a list; its places are: 0, 1",
        "name (r.yaml:2): expected a folder name of letters, digits, '.', '_' and '-', "
        "a letter or digit first, got 'a b'",
        "augment.flip (r.yaml:4): expected at most 1, got 2",
        "train.steps (root.yaml:2): expected steps (a whole number, at least 1) or '12 epochs', got 'soon'",
        f"eval.every (override eval.every=never): expected {STEPS.format(1)}, got 'never'",
        f"keep.topp (r.yaml:5): unknown key; did you mean top? {KEYS_OF_KEEP}",
    ]


KEYS = st.sampled_from(
    [*Recipe.model_fields, "weight", "class_weights", "synthetic", "milestones", "format", "0"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["dice", "step", "synthetic", "1e3"])
)
VALUES = st.recursive(
    LEAVES, lambda kids: st.lists(kids, max_size=2) | st.dictionaries(KEYS, kids, max_size=3)
)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_no_recipe_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(dump_yaml(values))
    try:
        assert load_recipe(file).name
    except RecipeError as error:
        assert str(error).startswith(f"{file}: ")
