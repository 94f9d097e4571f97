"""Commands, flags and recipe keys of other training programs are answered with Trident's."""

import re
import shlex
from pathlib import Path

import pytest

from engine import elsewhere
from engine.command import COMMANDS, main
from engine.recipe import RecipeError, load_recipe

RECIPE = str(Path(__file__).parents[2] / "recipes/b2_adv.yaml")


def test_each_command_has_one_of_ours() -> None:
    assert {*elsewhere.COMMANDS.values()} <= {*COMMANDS} and not {*elsewhere.COMMANDS} & {*COMMANDS}


@pytest.mark.parametrize(("word", "line"), elsewhere.LINES.items())
def test_each_recipe_line_is_accepted(word: str, line: tuple[str, str]) -> None:
    before = load_recipe(RECIPE)
    text = elsewhere.recipe_line(word, None)
    assert text and "{}" not in text
    assert load_recipe(RECIPE, [text]).to_dict().keys() == before.to_dict().keys()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("epochs=50", "train.epochs=50"),
        ("train.max_epochs=50", "train.epochs=50"),
        ("batch_size=4", "train.batch=4"),
        ("imgsz=512", "augment.crop=512"),
        ("model.backbone=resnet34", "model.encoder=resnet34"),
        ("lr=1e-3", "optimizer.lr=0.001"),
        ("train.lr=1", "optimizer.lr=1"),
        ("adversarial.learning_rate=1", "adversarial.lr=1"),
        ("data.path=photos", "data.root=photos"),
        ("data.names=[a, b]", "data.classes=[a, b]"),
        ("optimizer.type=sgd", "optimizer.name=sgd"),
        ("eval.interval=5", "eval.every=5"),
        ("model.pretrained=true", "model.weights=<a file>"),
    ],
)
def test_recipe_keys_are_answered(override: str, key: str) -> None:
    with pytest.raises(RecipeError, match=rf"unknown key; did you mean .*{re.escape(key)}\?"):
        load_recipe(RECIPE, [override])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("device=cuda", "CUDA_VISIBLE_DEVICES"),
        ("optimizer.scheduler=poly", "did you mean schedule.name=poly?"),
        ("schedule.optim=sgd", "did you mean optimizer.name=sgd?"),
        ("distill=checkpoints/a", "did you mean distill.teacher=checkpoints/a?"),
        ("data.unlabelled=photos", "did you mean data.unlabelled.root=photos?"),
        ("eval.log_interval=5", "did you mean log.every=5?"),
        ("data.num_classes=3", "that of the names in data.classes"),
        ("model.num_classes=3", "that of the names in data.classes"),
        ("model=unet", "did you mean model.arch=unet?"),
        ("data=photos", "did you mean data.root=photos?"),
        ("schedule=poly", "did you mean schedule.name=poly?"),
    ],
)
def test_keys_without_a_line_and_sections_are_answered(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(RECIPE, [override])
    assert said in str(error.value)


def test_a_misspelt_command_of_another_program_is_answered(capsys) -> None:
    assert main(["trian"]) == 2 and "Did you mean run?" in capsys.readouterr().err


SIZES = ("imgsz", "img_size", "image_size", "input_size", "crop_size")
IN_THEIR_SECTION = {  # what words mean there, and nowhere else
    "output.": {"root": "output.dir="},
    "log.": {"steps": "log.every="},
    "model.": {"name": "model.arch="},
    "adversarial.": {
        **dict.fromkeys(("lr0", "base_lr", "learning_rate"), "adversarial.lr="),
        **dict.fromkeys(("optimizer", "optim", "optimizer_type", "wd", "weight_decay"), "trained by Adam"),
    },
    "distill.": dict.fromkeys(
        ("model", "weights", "pretrained", "checkpoint", "load_from"), "teacher is distill.teacher"
    ),
    "eval.": {
        **dict.fromkeys(("steps", "epochs"), "eval.every="),
        **dict.fromkeys(("batch", "batch_size", "bs"), "follows from their sizes"),
        **dict.fromkeys(SIZES, "eval.protocol"),
    },
}
SECTIONS = (
    "train", "data", "augment", "model", "optimizer", "schedule", "loss.0", "adversarial", "distill", "eval",
    "keep", "log", "output",
)  # fmt: skip


@pytest.mark.parametrize("section", ["", *(f"{name}." for name in SECTIONS)])
def test_a_known_word_is_not_taken_for_a_misspelt_key(section: str) -> None:
    words = [word for word in elsewhere.LINES if (section, word) != ("loss.0.", "name")]  # says which loss
    with pytest.raises(RecipeError) as error:
        load_recipe(RECIPE, [f"{section}{word}=7" for word in words])
    unknown = re.findall(r"\(override (?:[\w.]+\.)?(\w+)=7\): unknown key(.*) Keys here", str(error.value))
    assert len(unknown) > len(elsewhere.LINES) / 2
    for word, answer in unknown:
        usual = f"did you mean {elsewhere.LINES[word][0].partition('=')[0]}="
        assert IN_THEIR_SECTION.get(section, {}).get(word, usual) in answer, word


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("--epochs 50", "train.epochs=50"),
        ("--lr=1e-3", "optimizer.lr=1e-3"),
        ("--batch-size 4", "train.batch=4"),
        ("--batch_size 4 --imgsz 256", "train.batch=4 augment.crop=256"),
        ("--data /photos", "data.root=/photos"),
        ("--amp", "train.precision=fp16"),
        ("--weights w.pth --dry-run", "model.weights=w.pth"),
        ("--train.batch 4 --optimizer.lr=1e-3", "train.batch=4 optimizer.lr=1e-3"),
    ],
)
def test_flags_are_answered_with_recipe_lines(typed: str, line: str, capsys) -> None:
    assert main(["run", RECIPE, *typed.split()]) == 2
    error = capsys.readouterr().err
    assert f"; type {line} instead." in error and error.count("\n") == 1
    load_recipe(RECIPE, shlex.split(line))


@pytest.mark.parametrize("typed", ["--device cpu", "--gpus 2", "--cuda"])
def test_devices_are_explained(typed: str, capsys) -> None:
    assert main(["run", RECIPE, *typed.split()]) == 2
    assert "CUDA_VISIBLE_DEVICES" in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_a_command_is_answered_with_what_to_type(capsys) -> None:
    assert main(["train", "b2_adv", "data.root=my photos"]) == 2
    error = capsys.readouterr().err
    assert error.endswith("type: trident run b2_adv 'data.root=my photos'\n") and error.count("\n") == 1
    assert main(["val"]) == 2
    typed = capsys.readouterr().err.partition("type: trident ")[2]
    assert main(shlex.split(typed)) == 0 and "trident evaluate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("train --config my.yaml --epochs 50 --lr=1e-3", "my.yaml train.epochs=50 optimizer.lr=1e-3"),
        ("fit b2_adv --batch-size 4 --device cpu", "b2_adv train.batch=4"),
        (
            "train data=photos epochs=3 imgsz=256",
            "<recipe> data.root=photos train.epochs=3 augment.crop=256",
        ),
        ("train b2_adv --amp --dry-run", "b2_adv train.precision=fp16 --dry-run"),
        ("train my.yaml optimizer.lr=1 --nonsense x", "my.yaml optimizer.lr=1 --nonsense x"),
    ],
)
def test_a_training_of_another_program_is_answered_with_the_whole_command(typed, printed, capsys) -> None:
    assert main(typed.split()) == 2
    error = capsys.readouterr().err
    assert error.endswith(f"type: trident run {printed}\n") and error.count("\n") == 1


@pytest.mark.parametrize("typed", ["test --weights best.pt --data x", "val --checkpoint best.pt"])
def test_a_flag_for_the_run_is_answered(typed: str, capsys) -> None:
    assert main(typed.split()) == 2
    assert main(shlex.split(capsys.readouterr().err.partition("type: trident ")[2])) == 2
    assert "The run is typed first, without a flag." in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, answer",
    [
        (["run", RECIPE, "--nonsense", "name=x"], "trident run: error: no option --nonsense"),
        (["run", RECIPE, "--lr", "1", "--nonsense"], "trident run: error: no option --lr or --nonsense"),
        (["run", RECIPE, "--dryrun"], "trident run: error: no option --dryrun; did you mean --dry-run?"),
        (["predict", "run", "--outt", "x"], "trident predict: error: no option --outt; did you mean --out?"),
        (["recipes", "--lr=1"], "trident recipes: error: no option --lr"),
    ],
)
def test_a_flag_that_nobody_has_is_named_after_the_usage(argv: list[str], answer: str, capsys) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: ") and error.splitlines()[-1] == answer


def test_of_a_finished_run_only_the_place_of_the_data_can_be_typed(capsys) -> None:
    assert (
        main(["evaluate", "run", "--data-root", "x"]) == 2 and "type data.root=x" in capsys.readouterr().err
    )
    assert main(["evaluate", "run", "--lr", "1"]) == 2 and "optimizer" not in capsys.readouterr().err
