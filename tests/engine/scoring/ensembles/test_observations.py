"""One pass over drawn scenes, against a naive implementation with all probabilities at full size."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import engine.scoring.upsampling as upsampling
from engine.data.batches import scoring_batches
from engine.data.synthetic import SyntheticScenes
from engine.scoring.combining import Combination
from engine.scoring.confusion import confusion_matrices
from engine.scoring.ensembles.observations import (
    MAX_PIXELS_PER_IMAGE,
    MAX_PROBABILITIES,
    PixelSamples,
    count_by_image,
    draw_places,
    num_sampled_pixels,
    observe,
)
from engine.scoring.metrics import overlaps
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol

CPU = torch.device("cpu")
SCENES = SyntheticScenes("val", 3, 32, 0)
PREDICTOR = Predictor(EvaluationProtocol(scales=(1.0, 0.5)), nullcontext)
VOID, PIXELS = SCENES.ignore_index, 20


def models() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Conv2d(3, 6, 3, stride=4, padding=1).eval() for _ in range(2)]


def floats(batches):
    """Convolutions take no bytes."""
    from dataclasses import replace

    return (replace(batch, images=batch.images.float()) for batch in batches)


@pytest.fixture(autouse=True)
def narrow_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few rows each, so that pixels and counts come from several."""
    monkeypatch.setattr(upsampling, "STRIP_PROBABILITIES", {"cpu": 6 * 32 * 5})


def test_counts_and_pixels_equal_those_of_whole_images() -> None:
    members = models()
    printed = []
    found = observe(
        members,
        floats(scoring_batches(SCENES, CPU, workers=0)),
        PREDICTOR,
        VOID,
        PIXELS,
        printed.append,
        with_losses=True,
    )
    assert found.ids == SCENES.ids
    assert sum(printed) == 3
    for row in range(3):
        sample = SCENES[row]
        labels = sample.labels.long()
        outputs = [PREDICTOR(model, sample.image[None].float())[0] for model in members]
        for output, counted in zip(outputs, found.overlaps, strict=True):
            [expected] = confusion_matrices(output.argmax(dim=0)[None], labels[None], 6, VOID)
            assert np.array_equal(counted[row], overlaps(expected.numpy()))
        for output, losses in zip(outputs, found.losses, strict=True):
            logarithms = output.clamp(min=1e-12).log()[None]
            expected = F.nll_loss(logarithms, labels[None], ignore_index=VOID, reduction="sum")
            assert losses[row] == pytest.approx([float(expected), float((labels != VOID).sum())], rel=1e-5)
        here = found.samples.rows == row
        places = draw_places(labels, sample.id, PIXELS, VOID)
        assert torch.equal(found.samples.labels[here], labels.flatten()[places])
        expected = torch.stack([output.flatten(1)[:, places].T for output in outputs], dim=1)  # (P, M, C)
        torch.testing.assert_close(found.samples.probabilities[here], expected)


def test_there_are_no_pixels_and_losses_unless_requested() -> None:
    batches = floats(scoring_batches(SCENES, CPU, workers=0))
    found = observe(models(), batches, PREDICTOR, VOID, 0, lambda n: None, with_losses=False)
    assert found.samples is None and found.losses is None


def test_each_image_is_counted_with_its_own_combinations() -> None:
    members = models()
    mean, logit = Combination.mean(2), Combination.mean(2, "logit")
    wanted = dict(zip(SCENES.ids, ([mean], [logit, mean, mean], []), strict=True))
    found = {}
    count_by_image(
        members,
        floats(scoring_batches(SCENES, CPU, workers=0)),
        PREDICTOR,
        VOID,
        wanted.__getitem__,
        found.__setitem__,
    )
    assert {id: set(counts) for id, counts in found.items()} == {id: set(w) for id, w in wanted.items()}
    sample = SCENES[1]
    outputs = [PREDICTOR(model, sample.image[None].float()) for model in members]
    [expected] = confusion_matrices(logit(outputs).argmax(dim=1), sample.labels[None].long(), 6, VOID)
    assert np.array_equal(found[sample.id][logit], overlaps(expected.numpy()))


def test_sampled_pixels_are_labelled_ascending_and_depend_on_the_id_only() -> None:
    labels = torch.full((20, 30), VOID, dtype=torch.uint8)
    labels[5:15, 10:20] = 3
    places = draw_places(labels, "a", 40, VOID)
    assert len(places) == 40
    assert (labels.flatten()[places] == 3).all()
    assert (places[1:] > places[:-1]).all()  # so none is repeated
    assert torch.equal(places, draw_places(labels, "a", 40, VOID))
    assert not torch.equal(places, draw_places(labels, "b", 40, VOID))


def test_all_pixels_of_an_image_with_few_labels_are_sampled() -> None:
    labels = torch.full((4, 4), VOID)
    assert len(draw_places(labels, "void", 9, VOID)) == 0
    labels[1, 1:3] = 0
    assert draw_places(labels, "two", 9, VOID).tolist() == [5, 6]


def test_the_number_of_sampled_pixels_fits_the_budget() -> None:
    for num_images, num_members, num_classes in [(100, 3, 6), (1449, 3, 21), (2000, 3, 150), (5000, 10, 171)]:
        number = num_sampled_pixels(num_images, num_members, num_classes)
        assert 1 <= number <= MAX_PIXELS_PER_IMAGE
        assert number * num_images * num_members * num_classes <= MAX_PROBABILITIES
    assert num_sampled_pixels(100, 3, 6) == MAX_PIXELS_PER_IMAGE


def test_samples_can_be_restricted_to_some_images() -> None:
    probabilities = torch.rand(4, 2, 3)
    samples = PixelSamples(probabilities, torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, 2]))
    some = samples.of_images(np.array([True, False, True]))
    assert torch.equal(some.probabilities, probabilities[[0, 1, 3]])
    assert some.labels.tolist() == [0, 1, 0]
    assert len(PixelSamples.join([some, samples])) == 7
