"""Learning from a trained teacher: which teachers are refused, and what its members give."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine.recipe import RecipeError, load_recipe
from engine.recipe.sections import Distill
from engine.run import main
from engine.scoring.combining import Combination
from engine.scoring.trained import Trained
from engine.training.distillation import Distillation, open_teacher
from engine.training.distributed import Process
from engine.training.session import build_session
from models.class_names import VOC
from tests.engine.tiny_run import tiny

QUICK = ["log.to=[]", "log.images=0", "keep.top=1", "train.steps=2", "eval.every=2"]
CPU = torch.device("cpu")


class Teacher:
    """Two models that give constant logits at another resolution than the student."""

    def __init__(self, *logits: torch.Tensor):
        self.members = {str(i): Constant(each) for i, each in enumerate(logits)}
        self.combination = Combination.mean(len(logits))


class Constant(nn.Module):
    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits.view(1, -1, 1, 1).expand(len(image), -1, *image.shape[-2:])


def test_the_target_is_the_mean_of_the_members_at_the_temperature() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 0.0, -1.0])
    distillation = Distillation(Teacher(a, b), Distill(teacher="x", temperature=2.0))  # type: ignore[arg-type]
    found = distillation.targets(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 2, 2))

    def softmax(logits: torch.Tensor) -> np.ndarray:
        powers = np.exp(logits.numpy() / 2)
        return powers / powers.sum()

    expected = (softmax(a) + softmax(b)) / 2
    assert found.shape == (1, 3, 2, 2)
    assert np.allclose(found[0, :, 1, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_its_loss_is_added_with_its_weight(make_step, draw_batch, toy, accumulate: int) -> None:
    step, batch = make_step(toy(dropout=0.0), accumulate=accumulate), draw_batch(4)
    teacher = Teacher(torch.tensor([1.0, 0.0, 0.0]))
    step.distillation = Distillation(teacher, Distill(teacher="x", weight=3.0))  # type: ignore[arg-type]
    metrics = step(batch)
    assert metrics["loss_distill"] > 0
    expected = metrics["loss_ce"] + metrics["loss_dice"] + 3 * metrics["loss_distill"]
    torch.testing.assert_close(metrics["loss"], expected)


@dataclass
class Classes:
    """A training split, as far as its teacher is concerned."""

    class_names: tuple[str, ...] = VOC
    bands: tuple[str, ...] | None = None
    value_range: tuple[float, float] | None = None


def opened(path: Path, data: Classes = Classes()) -> Trained:  # noqa: B008
    return open_teacher(Distill(teacher=str(path)), data, CPU)  # type: ignore[arg-type]


def test_a_run_and_a_saved_ensemble_teach(voc_run, voc_ensemble: Path) -> None:
    assert [*opened(voc_run("one", 3)).members] == ["step 3"]
    ensemble = opened(voc_ensemble)
    assert [*ensemble.members] == ["step 1", "step 2"]
    assert ensemble.combination.space == "logit"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            Classes((*VOC[:-1], "lorry")),
            r"it lacks lorry; it has tvmonitor, which the data does not have.*distill=null",
        ),
        (Classes(VOC[::-1]), "another order.*distill=null"),
        (Classes(bands=("red", "nir")), "bands red, green, blue, and data.bands has red, nir.*distill=null"),
    ],
)
def test_a_teacher_of_other_classes_or_bands_is_refused(voc_run, data: Classes, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        opened(voc_run(), data)


def test_rgb_by_its_names_is_rgb(voc_run) -> None:
    assert opened(voc_run(), Classes(bands=("red", "green", "blue"))).members


def test_a_teacher_of_another_range_would_see_other_pixels_and_is_refused(voc_run) -> None:
    run: Path = voc_run()
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("train: train", "train: train, range: [0, 4095]"))
    with pytest.raises(RecipeError, match=r"Type 'data\.range=\[0\.0, 4095\.0\]', or distill=null"):
        opened(run, Classes(value_range=(0.0, 1023.0)))
    for own in ((0.0, 4095.0), None):  # None: images of 8 bits, which are read without a range
        assert opened(run, Classes(value_range=own)).members


def test_a_missing_teacher_ends_the_command_before_a_folder_is_made(tmp_path: Path, capsys) -> None:
    line = f"distill={{teacher: {tmp_path / 'nowhere'}}}"
    assert main(tiny(tmp_path / "runs", "student", *QUICK, line)) == 2
    said = capsys.readouterr().err
    assert "distill.teacher: " in said and "nowhere does not exist" in said and "saved ensemble" in said
    assert not (tmp_path / "runs").exists()


def test_a_teacher_is_for_one_class_a_pixel(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "data: {format: folder, root: x, classes: [a, b], labels: multi}\nloss: [{name: bce}]\n"
        "distill: {teacher: run}\n"
    )
    with pytest.raises(RecipeError, match=r"distill .*data\.labels: single\. Type distill=null"):
        load_recipe(recipe)


def test_a_model_teaches_one_of_another_architecture(voc_run, voc_folder: Path) -> None:
    lines = [
        f"data.root={voc_folder}", "data.train=train", "augment.crop=64", "train.batch=2", "train.steps=1",
        "schedule.warmup=0", "model.from_scratch=true", "model.weights=null",
        f"distill={{teacher: {voc_run()}, weight: 2.0, temperature: 2.0}}",
    ]  # fmt: skip
    session = build_session(load_recipe("unet_r34", lines), Process(0, 1, CPU), lambda what: lambda *_: None)
    assert any(note.startswith("teacher: run step 1, 1 model of ") for note in session.notes)
    metrics = session.step(next(session.batches.starting_at(0)))
    terms = metrics["loss_ce"] + metrics["loss_dice"] + 2 * metrics["loss_distill"]
    assert metrics["loss_distill"] > 0
    torch.testing.assert_close(metrics["loss"], terms)
