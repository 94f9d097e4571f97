"""Tallies of models whose probabilities are given in the test."""

import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.data.batches import scoring_batches
from engine.data.sample import Sample
from engine.data.synthetic import SyntheticScenes
from engine.scoring.combining import Combination, EarlyExit
from engine.scoring.counting import Tally
from engine.scoring.evaluation import ENSEMBLE, ImageProgress, evaluate
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol

CPU = torch.device("cpu")
VOID = 255

LABELS = torch.tensor([[[0, 1, 1, VOID]], [[1, 0, VOID, 0]]], dtype=torch.uint8)  # (2, 1, 4)
# The probability of class 1 at each pixel of the two images.
TIMID = [[0.4, 0.6, 0.4, 0.9], [0.9, 0.6, 0.1, 0.2]]
BOLD = [[0.1, 0.9, 0.9, 0.1], [0.2, 0.1, 0.9, 0.9]]


class Written(nn.Module):
    """Returns the logits of given probabilities; the first pixel of an image identifies it."""

    def __init__(self, of_class_1: list[list[float]]):
        super().__init__()
        p = torch.tensor(of_class_1)[:, None, None]  # (images, 1, 1, 4)
        self.logits = torch.cat([1 - p, p], dim=1).log()
        self.inner = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        assert not self.inner.training
        return self.logits[images[:, 0, 0, 0].long()]  # (B, 2, 1, 4)


def batches(*groups: list[int]) -> list[SimpleNamespace]:
    """Images by number, in batches."""
    return [
        SimpleNamespace(
            images=torch.tensor(group, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 1, 4),
            labels=LABELS[group],
            ids=[f"image {number}" for number in group],
        )
        for group in groups
    ]


def tallies_of(models: dict[str, nn.Module], groups: list[list[int]], on_batch=None) -> dict[str, Tally]:
    predictor = Predictor(EvaluationProtocol(), nullcontext)
    combinations = {ENSEMBLE: Combination.mean(len(models))} if len(models) > 1 else {}
    return evaluate(models, batches(*groups), predictor, 2, VOID, CPU, on_batch, combinations)


def two_models() -> dict[str, nn.Module]:
    return {"timid": Written(TIMID), "bold": Written(BOLD)}


@pytest.mark.parametrize(("groups", "runs"), [([[0], [1]], 1), ([[0, 1]], 1), ([[1]], 0)])
def test_an_image_that_one_member_is_sure_of_is_not_shown_to_the_others(groups, runs: int) -> None:
    """timid's mean probability of its classes is 0.675 on image 0 and 0.8 on image 1."""
    models, seen, found = two_models(), [], []
    models["bold"].register_forward_hook(lambda *_: seen.append(1))
    early = replace(Combination.mean(2), early_exit=EarlyExit(0, 0.7))
    evaluate(
        models,
        batches(*groups),
        Predictor(EvaluationProtocol(), nullcontext),
        2,
        VOID,
        CPU,
        combinations={"early": early},
        counted=["early"],
        on_maps=lambda labels, maps: found.append(maps["early"].prediction),
    )
    predicted = torch.cat(found)[:, 0].tolist()
    alone, together = [1, 1, 0, 0], [0, 1, 1]  # the last pixel of image 0 is void, and a tie
    assert predicted[-1] == alone and [row[:3] for row in predicted[:-1]] == [together] * runs
    assert len(seen) == runs


def test_the_ensemble_is_the_argmax_of_the_mean_probability() -> None:
    """timid says 0 1 0 / 1 1 0 where there are labels, bold 0 1 1 / 0 0 1, and their mean 0 1 1 / 1 0 1:
    where they differ, the more confident one decides."""
    tallies = tallies_of(two_models(), [[0], [1]])
    assert list(tallies) == ["timid", "bold", ENSEMBLE]
    assert tallies["timid"].confusion.tolist() == [[2, 1], [1, 2]]
    assert tallies["bold"].confusion.tolist() == [[2, 1], [1, 2]]
    assert tallies[ENSEMBLE].confusion.tolist() == [[2, 1], [0, 3]]
    means = [[0.25, 0.75, 0.65], [0.55, 0.35, 0.55]]
    expected = -sum(
        math.log(p if label else 1 - p)
        for p, label in zip(means[0] + means[1], [0, 1, 1, 1, 0, 0], strict=True)
    )
    assert tallies[ENSEMBLE].log_loss.item() == pytest.approx(expected, rel=1e-6)


def test_log_loss_is_in_nats_per_labelled_pixel() -> None:
    tally = tallies_of({"timid": Written(TIMID)}, [[0, 1]])["timid"]
    right = [0.6, 0.6, 0.4, 0.9, 0.4, 0.8]  # the probability of the label
    assert tally.mean_log_loss() == pytest.approx(-sum(map(math.log, right)) / 6, rel=1e-6)


def test_a_label_with_probability_zero_has_a_large_finite_loss() -> None:
    sure_and_wrong = Written([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    sure_and_wrong.logits.clamp_(min=-1000)
    tally = tallies_of({"wrong": sure_and_wrong}, [[0], [1]])["wrong"]
    assert tally.mean_log_loss() == pytest.approx(-math.log(1e-12), rel=1e-6)


def test_void_pixels_are_counted_separately() -> None:
    tally = tallies_of({"timid": Written(TIMID)}, [[0], [1]])["timid"]
    assert tally.num_void == 2
    scores = tally.scores(("background", "thing"))
    assert (scores.num_pixels, scores.num_void) == (6, 2)


def test_a_single_model_gives_no_ensemble() -> None:
    assert list(tallies_of({"timid": Written(TIMID)}, [[0, 1]])) == ["timid"]


def test_the_batch_size_does_not_change_the_counts() -> None:
    one_by_one, together = (tallies_of(two_models(), groups) for groups in ([[0], [1]], [[1, 0]]))
    for name, tally in together.items():
        assert torch.equal(tally.confusion, one_by_one[name].confusion)
        torch.testing.assert_close(tally.log_loss, one_by_one[name].log_loss)


def test_on_batch_gets_the_ids_and_one_matrix_per_image() -> None:
    seen = []
    tallies = tallies_of(two_models(), [[1, 0]], lambda ids, matrices: seen.append((ids, matrices)))
    [(ids, matrices)] = seen
    assert ids == ["image 1", "image 0"]
    assert matrices["timid"].confusion.tolist() == [[[1, 1], [0, 1]], [[1, 0], [1, 1]]]
    for name, tally in tallies.items():
        assert torch.equal(matrices[name].confusion.sum(dim=0), tally.confusion)


def test_models_are_returned_to_their_mode() -> None:
    models = {"trains": Written(TIMID).train(), "rests": Written(BOLD).eval()}
    tallies_of(models, [[0]])
    assert models["trains"].training and models["trains"].inner.training
    assert not models["rests"].training and not models["rests"].inner.training


def test_tallies_of_shares_add_up_to_that_of_the_whole() -> None:
    """As with several processes."""
    first, second = (tallies_of({"timid": Written(TIMID)}, [[number]])["timid"] for number in (0, 1))
    for mine, other in zip(first.tensors(), second.tensors(), strict=True):
        mine += other
    whole = tallies_of({"timid": Written(TIMID)}, [[0], [1]])["timid"]
    assert torch.equal(first.confusion, whole.confusion)
    assert first.num_void == whole.num_void
    assert first.mean_log_loss() == pytest.approx(whole.mean_log_loss())


class Counted(Written):
    """`Given`, with the number of its calls."""

    num_runs = 0

    def forward(self, images: Tensor) -> Tensor:
        self.num_runs += 1
        return super().forward(images)


def evaluated(models, combinations, **options):
    predictor = Predictor(EvaluationProtocol(), nullcontext)
    return evaluate(models, batches([0], [1]), predictor, 2, VOID, CPU, None, combinations, **options)


def test_only_the_requested_names_are_counted_and_only_the_models_they_need_run() -> None:
    models = {"timid": Counted(TIMID), "bold": Counted(BOLD), "idle": Counted(BOLD)}
    weights = ((0.5,), (0.5,), (0.0,))
    combinations = {
        "mean": Combination("probability", weights, (1.0,) * 3),
        "all": Combination.mean(3),
        "logits": Combination("logit", weights, (1.0,) * 3),
    }
    everything = evaluated(models, combinations)
    assert [model.num_runs for model in models.values()] == [2, 2, 2]
    for name in ("mean", "logits"):
        tallies = evaluated(models, combinations, counted=[name])
        assert list(tallies) == [name]
        assert torch.equal(tallies[name].confusion, everything[name].confusion)
        assert tallies[name].log_loss.item() == pytest.approx(everything[name].log_loss.item(), rel=1e-6)
    assert [model.num_runs for model in models.values()] == [6, 6, 2]
    assert list(evaluated(models, combinations, counted=["idle", "mean"])) == ["idle", "mean"]


def test_details_are_counted_on_request() -> None:
    plain, detailed = (evaluated(two_models(), {}, detailed=detailed)["bold"] for detailed in (False, True))
    assert torch.equal(plain.confusion, detailed.confusion)
    assert plain.boundary.sum() == plain.edges.sum() == plain.reliability.sum() == 0
    assert detailed.boundary.sum() == detailed.edges.sum() == detailed.reliability[0].sum() == 6
    assert detailed.edges[:, 1].sum() == 2 and detailed.reliability[2].sum() == 4  # wrong and right
    sure = [0.9, 0.9, 0.9, 0.8, 0.9, 0.9]
    assert detailed.reliability[1].sum().item() == pytest.approx(sum(sure))


def test_under_centercrop_nothing_outside_is_counted() -> None:
    """Images of 1 x 4 px: the centre square is the second pixel, labelled 1 and 0."""

    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack(
                [x.new_zeros(x.shape[0], *x.shape[2:]), x.new_ones(x.shape[0], *x.shape[2:])], 1
            )

    predictor = Predictor(EvaluationProtocol("centercrop"), nullcontext)
    [tally] = evaluate({"ones": Bright()}, batches([0], [1]), predictor, 2, VOID, CPU, detailed=True).values()
    assert tally.confusion.tolist() == [[0, 1], [0, 1]]
    assert tally.num_void == 0  # the void pixels lie outside


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_world_size_counts_each_image_once(world_size: int) -> None:
    """Shares as `scoring_batches` deals them, of images of several sizes, against one naive count."""
    scenes = MixedSizes()
    model = OneByOne().eval()
    predictor = Predictor(EvaluationProtocol(), nullcontext)
    total, seen = Tally.empty(6, CPU), []
    for rank in range(world_size):
        share = scoring_batches(scenes, CPU, rank, world_size, max_px=2 * 32 * 32, workers=0)
        [tally] = evaluate(
            {"model": model}, share, predictor, 6, 255, CPU, lambda ids, _: seen.extend(ids), detailed=True
        ).values()
        for mine, other in zip(total.tensors(), tally.tensors(), strict=True):
            mine += other
    expected = np.zeros((6, 6), np.int64)
    for sample in (scenes[index] for index in range(len(scenes))):
        with torch.no_grad():
            guess = model(sample.image[None]).argmax(1)[0].numpy()
        labels = sample.labels.numpy()
        np.add.at(expected, (labels[labels != 255], guess[labels != 255]), 1)
    assert sorted(seen) == sorted(scenes.ids)
    np.testing.assert_array_equal(total.confusion.numpy(), expected)
    assert total.boundary.sum() == total.edges.sum() == total.reliability[0].sum() == expected.sum()
    assert total.image_iou[1] == len(scenes)


class MixedSizes(SyntheticScenes):
    """Scenes cut to three sizes."""

    def __init__(self) -> None:
        super().__init__("val", 7, 32)

    def __getitem__(self, index: int) -> Sample:
        sample, (h, w) = super().__getitem__(index), self.sizes()[index]
        return Sample(sample.id, sample.image[:, :h, :w], sample.labels[:h, :w])

    def sizes(self) -> list[tuple[int, int]]:
        return [(32 - 4 * (index % 3), 32) for index in range(len(self))]


class OneByOne(nn.Module):
    """Logits of each pixel from its colour, at full size."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(6, 3, 1, 1, generator=torch.Generator().manual_seed(0)) / 50
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x.float(), self.weight)


@pytest.mark.parametrize(
    ("batches", "calls"), [([2, 2], [(2, 4), (4, 4)]), ([2, 1], [(2, 4), (3, 4), (4, 4)])]
)
def test_progress_ends_at_the_total_where_images_were_skipped_too(batches, calls) -> None:
    shown: list[tuple[int, int]] = []
    images = ImageProgress(4, lambda done, total: shown.append((done, total)))
    for size in batches:
        images.add(size)
    images.end()
    assert shown == calls
