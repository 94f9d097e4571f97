"""One pass over drawn scenes, against the naive way: all probabilities at full size."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

import engine.scoring.upsampling as upsampling
from engine.data.batches import scoring_batches
from engine.data.synthetic import SyntheticScenes
from engine.scoring.combining import Combination
from engine.scoring.confusion import confusion_matrices
from engine.scoring.ensembles.pixel_samples import draw_places
from engine.scoring.ensembles.survey import count_by_image, survey
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


def test_counts_and_pixels_are_those_of_whole_images() -> None:
    members = models()
    told = []
    found = survey(
        members, floats(scoring_batches(SCENES, CPU, workers=0)), PREDICTOR, VOID, PIXELS, told.append
    )
    assert found.ids == SCENES.ids
    assert sum(told) == 3
    for row in range(3):
        sample = SCENES[row]
        labels = sample.labels.long()
        outputs = [PREDICTOR(model, sample.image[None].float())[0] for model in members]
        for output, counted in zip(outputs, found.overlaps, strict=True):
            [expected] = confusion_matrices(output.argmax(dim=0)[None], labels[None], 6, VOID)
            assert np.array_equal(counted[row], overlaps(expected.numpy()))
        here = found.samples.rows == row
        places = draw_places(labels, sample.id, PIXELS, VOID)
        assert torch.equal(found.samples.labels[here], labels.flatten()[places])
        expected = torch.stack([output.flatten(1)[:, places].T for output in outputs], dim=1)  # (P, M, C)
        torch.testing.assert_close(found.samples.probabilities[here], expected)


def test_without_pixels_there_are_none() -> None:
    found = survey(
        models(), floats(scoring_batches(SCENES, CPU, workers=0)), PREDICTOR, VOID, 0, lambda n: None
    )
    assert found.samples is None


def test_each_image_is_counted_by_what_it_asks_for() -> None:
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
