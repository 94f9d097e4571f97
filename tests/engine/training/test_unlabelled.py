"""Learning from images without masks: exact losses and gradients, the filter, a resumed run."""

from copy import deepcopy
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from engine.data.batches import UnlabelledViews
from engine.data.options import Unlabelled
from engine.recipe import RecipeError, load_recipe
from engine.run import main
from engine.run_folder import RunFolder
from engine.training.build_step import _build_mean_teacher
from engine.training.checkpoint import load_state, save_state
from engine.training.distributed import Process
from engine.training.session import Session, build_session
from engine.training.unlabelled import MeanTeacher
from tests.engine.tiny_run import ADVERSARIAL, tiny

SIDE, CELLS = 32, 8
QUICK = ["log.to=[]", "log.images=0", "data.doctor=off", "keep.top=1"]


def drawn_views(draw_batch, number: int = 4) -> UnlabelledViews:
    """Images with padding on the left of the first, and a box of the partner in each strong view."""
    weak = draw_batch(number, seed=5).images
    inside = torch.ones(number, SIDE, SIDE, dtype=torch.bool)
    inside[0, :, :9] = False
    pasted = torch.zeros_like(inside)
    pasted[:, 4:20, 8:24] = True
    other = torch.zeros_like(inside)
    other[1, :16] = True
    brighter = torch.where(pasted[:, None], weak.roll(-2, 0), weak) * 1.1
    return UnlabelledViews(weak, inside, [(brighter, pasted), (weak * 0.9, other)])


def step_with(make_step, toy, section: Unlabelled, **settings):
    step = make_step(toy(dropout=0.0), ema=0.9, **settings)
    for parameter in step.ema.module.parameters():
        parameter.data.mul_(1.7)  # a teacher that is not the student, and is confident
    step.mean_teacher = MeanTeacher(step.ema.module, section)
    return step


def softmax(logits: Tensor) -> np.ndarray:
    powers = np.exp(logits.detach().double().numpy())
    return powers / powers.sum(axis=1, keepdims=True)


def middle(mask: Tensor) -> np.ndarray:
    """(B, 32, 32) in the middle of each of 8 x 8 cells."""
    return mask.numpy()[:, 2::4, 2::4]


def expected_losses(step, views: UnlabelledViews, threshold: float) -> tuple[list[float], float]:
    """The loss of each view and the share of kept pixels, by numpy, from the logits alone."""
    probabilities = softmax(step.ema.module(views.weak))
    classes, inside = probabilities.argmax(axis=1), middle(views.inside)
    kept = inside & (probabilities.max(axis=1) >= threshold)
    losses = []
    for images, pasted in views.strong:
        student = softmax(deepcopy(step.model).train()(images))
        where = middle(pasted)
        c, k, i = (np.where(where, np.roll(x, -2, axis=0), x) for x in (classes, kept, inside))
        of_class = np.take_along_axis(student, c[:, None], axis=1)[:, 0]
        losses.append(-(np.log(of_class) * k).sum() / i.sum())
    return losses, kept.sum() / inside.sum()


def test_the_loss_is_that_of_the_definition(make_step, draw_batch, toy) -> None:
    threshold = 0.4
    section = Unlabelled(root="x", threshold=threshold, weight=2.0, ramp=4)
    step, views = step_with(make_step, toy, section), drawn_views(draw_batch)
    losses, share = expected_losses(step, views, threshold)
    assert 0.1 < share < 0.9
    step.begin()
    found = step.mean_teacher.backward(step, views, at_once=4)
    assert found["unlabelled/loss"].item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["unlabelled/kept"].item() == pytest.approx(100 * share, rel=1e-5)
    assert found["unlabelled/weight"].item() == pytest.approx(0.5)  # of 2, after one of four updates


@pytest.mark.parametrize("views_left", [1, 2])
def test_the_gradient_is_that_of_the_weighted_mean_over_the_views(
    make_step, draw_batch, toy, views_left: int
) -> None:
    """By differences: a small step against the gradient lowers the loss by its squared norm."""
    section = Unlabelled(root="x", threshold=0.0, weight=2.0, ramp=0)
    step, views = step_with(make_step, toy, section), drawn_views(draw_batch)
    views = UnlabelledViews(views.weak, views.inside, views.strong[:views_left])
    step.begin()
    step.mean_teacher.backward(step, views, at_once=4)
    weight = step.model.head.weight
    gradient, size = weight.grad.clone(), 1e-2
    direction = gradient / gradient.norm()
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * size * direction)
        ends.append(2.0 * np.mean(expected_losses(step, views, 0.0)[0]))
        with torch.no_grad():
            weight.sub_(sign * size * direction)
    assert (ends[0] - ends[1]) / (2 * size) == pytest.approx(gradient.norm().item(), rel=1e-3)


def test_no_confident_pixel_means_no_gradient_and_the_same_update(make_step, draw_batch, toy) -> None:
    """The weights then are those of labelled images alone; BatchNorm alone has seen the others."""
    section = Unlabelled(root="x", threshold=1.0, ramp=0)
    batch, views = draw_batch(4), drawn_views(draw_batch)
    with_them, without = step_with(make_step, toy, section), make_step(toy(dropout=0.0), ema=0.9)
    metrics = with_them(type(batch)(batch.images, batch.labels, batch.ids, views))
    without(batch)
    assert metrics["unlabelled/loss"] == 0 and metrics["unlabelled/kept"] == 0
    pairs = zip(with_them.model.parameters(), without.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_weight_rises_from_its_start() -> None:
    teacher = MeanTeacher(torch.nn.Identity(), Unlabelled(root="x", weight=2.0, ramp=4), start=10)
    assert [teacher.weight_at(step) for step in (0, 9, 10, 12, 13, 100)] == [0, 0, 0.5, 1.5, 2, 2]


def test_the_discriminator_leaves_out_what_it_takes_for_predicted(make_step, draw_batch, toy) -> None:
    section = Unlabelled(root="x", threshold=0.0, discriminator=0.2, ramp=0)
    step, views = make_step(toy(), ema=0.9, adversarial={"objective": "bce"}), drawn_views(draw_batch)

    def realness(images: Tensor, probabilities: Tensor, inside: Tensor) -> Tensor:
        found = torch.full((len(images), CELLS, CELLS), 0.1)
        found[:, :, CELLS // 2 :] = 0.3
        return found

    step.mean_teacher = MeanTeacher(step.ema.module, section, realness=realness)
    views.inside[:] = True
    step.begin()
    assert step.mean_teacher.backward(step, views, 4)["unlabelled/kept"] == 50


@pytest.mark.parametrize("at_logits", [False, True])
def test_realness_is_the_probability_of_the_discriminator(
    make_step, draw_batch, toy, at_logits: bool
) -> None:
    adversarial = {"objective": "bce", "at_logits": at_logits, "layers": 2}
    step = make_step(toy(), ema=0.9, adversarial=adversarial)
    settings, bias = step.adversarial, 0.7
    for parameter in settings.discriminator.parameters():
        torch.nn.init.zeros_(parameter)
    settings.discriminator.body[-1].bias.data.fill_(bias)
    batch = draw_batch(2)
    probabilities = torch.full((2, 3, CELLS, CELLS), 1 / 3)
    found = settings.realness(batch.images, probabilities, torch.ones(2, SIDE, SIDE, dtype=torch.bool))
    torch.testing.assert_close(found, torch.full((2, CELLS, CELLS), 1 / (1 + np.exp(-bias))).float())


def test_dropped_features_are_a_view_of_their_own(make_step, draw_batch, toy) -> None:
    """Half of the channels of the encoder are 0 in it, the others doubled; nowhere else."""
    section = Unlabelled(root="x", threshold=0.0, ramp=0, feature_dropout=0.5)
    step, seen = make_step(toy(dropout=0.0), ema=0.9), []
    step.mean_teacher = MeanTeacher(step.ema.module, section, encoder=step.model.encoder)
    step.model.norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    views = drawn_views(draw_batch)
    step.begin()
    step.mean_teacher.backward(step, views, 4)
    *strong, dropped = seen
    plain = torch.nn.functional.conv2d(
        views.weak / 255, step.model.encoder.weight, step.model.encoder.bias, stride=4
    ).detach()
    assert len(strong) == 2
    is_zero = (dropped == 0).all(dim=(2, 3))
    assert 0.2 < is_zero.float().mean() < 0.8
    torch.testing.assert_close(dropped[~is_zero], 2 * plain[~is_zero])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def started(folder: Path, photos: Path, *more: str) -> Session:
    """A training with everything on that an unlabelled image passes through."""
    line = f"data.unlabelled={{root: {photos}, threshold: 0.2, feature_dropout: 0.5, discriminator: 0.1}}"
    lines = [*ADVERSARIAL, "adversarial.objective=bce", "train.accumulate=2", line, *more]
    recipe = load_recipe(*_split(tiny(folder, "a", *lines)))
    return build_session(recipe, Process(0, 1, torch.device("cpu")), lambda what: lambda done, total: None)


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    return arguments[0], arguments[1:]


def test_a_resumed_training_is_bit_for_bit_the_same(tmp_path: Path, photos: Path, run: RunFolder) -> None:
    """From a state in the middle, and with worker processes, which read in another order."""
    whole, part = started(tmp_path, photos), started(tmp_path, photos)
    metrics = [whole.step(batch) for batch in islice(whole.batches.starting_at(0), 5)]
    for batch in islice(part.batches.starting_at(0), 3):
        part.step(batch)
    save_state(run, part.step)
    again = started(tmp_path, photos, "data.workers=1", "data.resident=disk")
    load_state(run, again.step)
    for batch in islice(again.batches.starting_at(3), 2):
        again.step(batch)
    for name, module in whole.step.modules.items():
        state = again.step.modules[name].state_dict()
        assert all(torch.equal(state[key], value) for key, value in module.state_dict().items()), name
    assert "unlabelled/loss" not in metrics[1]  # the discriminator, which is the filter, starts at update 2
    assert metrics[4]["unlabelled/loss"] > 0 and metrics[4]["unlabelled/kept"] > 0
    [note] = [note for note in whole.notes if note.startswith("unlabelled: 5 images")]
    assert "train.ema=0.996" in note


def test_a_run_records_its_unlabelled_images(tmp_path: Path, photos: Path, capsys) -> None:
    lines = [*QUICK, f"data.unlabelled={{root: {photos}}}", "train.steps=2"]
    run = RunFolder(tmp_path / "a")
    assert main(tiny(tmp_path, "a", *lines)) == 0
    assert run.read_manifest().data.num_unlabelled == 5
    assert "5 unlabelled images" in run.report.read_text()
    (photos / "0.png").unlink()
    assert main([*tiny(tmp_path, "a", *lines), "--resume"]) == 2
    assert "the images of data.unlabelled are not those" in capsys.readouterr().err


UNLABELLED = "data.unlabelled={root: photos}"


@pytest.mark.parametrize(
    ("lines", "said", "remedy"),
    [
        (["data.unlabelled={weight: 1.0}"], "expected one of root", "data.unlabelled.root=photos"),
        (["data.unlabelled={root: a, split: b}"], "expected one of root", "data.unlabelled.split=null"),
        ([UNLABELLED, "train.ema=null"], "ema is null.*train.ema=0.996", "train.ema=0.996"),
        ([UNLABELLED, "train.shard=true"], "not sharded", "train.shard=false"),
        (
            ["data.unlabelled={root: a, feature_dropout: 0.5}", "train.compile=true"],
            "is not compiled", "train.compile=auto",
        ),
        (
            ["data.unlabelled={root: a, discriminator: 0.2}", "adversarial.objective=hinge"],
            "output is a probability", "adversarial.objective=bce",
        ),
        (
            ["data.unlabelled={root: a, discriminator: 0.2}", "adversarial=null"],
            "output is a probability", "data.unlabelled.discriminator=null",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_what_to_type(lines: list[str], said: str, remedy: str) -> None:
    recipe = tiny(Path(), "a")[0]
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe, lines)
    load_recipe(recipe, [*lines, remedy])


def test_features_are_dropped_where_there_is_an_encoder() -> None:
    recipe = load_recipe(tiny(Path(), "a")[0], ["data.unlabelled={root: a, feature_dropout: 0.5}"])
    with pytest.raises(RecipeError, match=r"no module called encoder.*feature_dropout=0"):
        _build_mean_teacher(recipe, nn.Linear(1, 1), None, None)


def test_drawn_scenes_are_no_unlabelled_images() -> None:
    recipe = tiny(Path(), "a")[0]
    with pytest.raises(RecipeError, match="format synthetic has no image files") as error:
        load_recipe(recipe, ["data.unlabelled={split: train}"])
    null, root = str(error.value).rpartition("instead: ")[2].split(" ", 1)
    load_recipe(recipe, ["data.unlabelled={split: train}", null, root])


def test_the_teacher_has_a_decay_without_a_word_and_that_of_the_recipe_otherwise() -> None:
    recipe = tiny(Path(), "a")[0]
    assert load_recipe(recipe, []).train.ema is None
    assert load_recipe(recipe, [UNLABELLED]).train.ema == 0.996
    assert load_recipe(recipe, [UNLABELLED, "train.ema=0.9"]).train.ema == 0.9


def test_classes_that_overlap_and_bands_without_colours_are_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "data: {format: folder, root: x, classes: [a, b], labels: multi, unlabelled: {root: y}}\n"
        "loss: [{name: bce}]\n"
    )
    with pytest.raises(RecipeError, match=r"data\.labels: single\. Type data\.unlabelled=null"):
        load_recipe(recipe)
    off = [f"augment.{name}=0" for name in ("brightness", "contrast", "saturation", "hue")]
    recipe.write_text("data: {format: folder, root: x, classes: [a, b], bands: 2, unlabelled: {root: y}}\n")
    with pytest.raises(RecipeError, match=r"type data\.unlabelled\.brightness=0") as error:
        load_recipe(recipe, off)
    typed = str(error.value).rpartition("or type ")[2].split()
    load_recipe(recipe, [*off, *typed])
