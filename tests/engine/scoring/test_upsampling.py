"""Strips, against upsampling the whole at once."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from engine.scoring import upsampling
from engine.scoring.combining import Combination, EarlyExit
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.upsampling import resized_rows, strips, sure_images, weighted_logits

CPU = torch.device("cpu")
sides = st.integers(1, 12)


@settings(max_examples=60)
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=3), sides, sides, st.data())
def test_rows_equal_those_of_interpolating_the_whole(sizes, h: int, w: int, data) -> None:
    source = torch.rand(2, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(h * w))
    whole = source
    for size in sizes:
        whole = F.interpolate(whole, size, mode="bilinear", align_corners=False)
    start = data.draw(st.integers(0, sizes[-1][0] - 1))
    stop = data.draw(st.integers(start + 1, sizes[-1][0]))
    torch.testing.assert_close(resized_rows(source, sizes, start, stop), whole[:, :, start:stop])


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50), st.integers(1, 5000))
def test_strips_hold_each_pixel_once_and_no_more_than_allowed(B, C, H, W, allowed) -> None:
    times = np.zeros((B, H), int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(upsampling.STRIP_PROBABILITIES, "cpu", allowed)
        for images, rows in strips((B, C, H, W), CPU):
            times[images, rows] += 1
            num_images, num_rows = images.stop - images.start, rows.stop - rows.start
            assert num_images * num_rows * C * W <= max(allowed, C * W)
    assert (times == 1).all()


def test_a_strip_does_not_grow_with_the_classes_or_the_image() -> None:
    sizes = []
    for C, H, W in ((21, 500, 500), (150, 500, 500), (150, 1024, 2048)):
        images, rows = next(iter(strips((1, C, H, W), CPU)))
        sizes.append(C * W * (rows.stop - rows.start) * (images.stop - images.start))
    assert max(sizes) <= max(upsampling.STRIP_PROBABILITIES["cpu"], 150 * 2048)


class Strided(nn.Module):
    """Logits at a quarter of the resolution, not symmetric; none so confident that LEAST matters."""

    def __init__(self, seed: int, stride: int = 4) -> None:
        super().__init__()
        weight = torch.randn(3, 3, stride, stride, generator=torch.Generator().manual_seed(seed)) / 1000
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x.float(), self.weight, stride=self.weight.shape[-1])


IMAGES = torch.randint(0, 256, (2, 3, 24, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
LOGIT_MEAN = Combination("logit", ((0.5,), (0.2,), (0.3,)), (1.0, 2.0, 0.5))


def pieces_of(protocol: EvaluationProtocol, *models: nn.Module):
    predictor = Predictor(protocol, nullcontext)
    return [predictor.pieces(model.eval(), IMAGES) for model in models]


def everything(pieces) -> Tensor:
    return pieces.probabilities(slice(0, 2), slice(0, 24)).detach()


@pytest.mark.parametrize(
    "protocol",
    [
        EvaluationProtocol(),
        EvaluationProtocol(flip=True, average="logit"),
        EvaluationProtocol(scales=(0.5, 1.0), flip=True, average="logit"),
        EvaluationProtocol("slide", average="logit", window_px=16, stride_px=8),
    ],
)
def test_mean_logits_are_the_same_before_and_after_upsampling(protocol: EvaluationProtocol) -> None:
    members = pieces_of(protocol, Strided(0), Strided(1), Strided(2))
    merged = weighted_logits(members, LOGIT_MEAN)
    assert merged is not None
    after = LOGIT_MEAN([everything(pieces) for pieces in members])
    torch.testing.assert_close(everything(merged), after)


@pytest.mark.parametrize(
    ("protocol", "combination"),
    [
        (EvaluationProtocol(), Combination.mean(3)),  # a mean of probabilities
        (EvaluationProtocol(flip=True), LOGIT_MEAN),  # members that are means of probabilities
        (
            EvaluationProtocol(),
            Combination("logit", ((0.5, 0.2, 0.3), (0.2, 0.3, 0.5), (0.3, 0.5, 0.2)), (1.0,) * 3),
        ),
    ],
)
def test_means_that_do_not_commute_are_not_taken_before_upsampling(protocol, combination) -> None:
    assert weighted_logits(pieces_of(protocol, Strided(0), Strided(1), Strided(2)), combination) is None


def test_members_of_several_resolutions_are_not_added_up_before_upsampling() -> None:
    pieces = pieces_of(EvaluationProtocol(), Strided(0), Strided(1, stride=8), Strided(2))
    assert weighted_logits(pieces, LOGIT_MEAN) is None


def test_how_sure_a_member_is_of_a_batch_is_computed_once() -> None:
    pieces, calls = pieces_of(EvaluationProtocol(), Strided(0))[0], []

    def softmax(logits: Tensor) -> Tensor:
        calls.append(logits.shape)
        return logits.softmax(dim=1)

    counting = replace(pieces, activation=softmax)
    certainty = pieces.pieces[0].logits.softmax(dim=1).amax(dim=1).mean(dim=(1, 2))  # (2,)
    halfway = EarlyExit(0, certainty.mean().item())
    first, again = (
        sure_images([counting], Combination("probability", ((1.0,),), (1.0,), halfway)) for _ in "ab"
    )
    assert first is not None and first.sum() == 1 and first[certainty.argmax()]
    assert torch.equal(first, again) and len(calls) == 1


def test_where_logits_are_averaged_a_mirror_image_adds_no_piece() -> None:
    for average, number in (("logit", 2), ("probability", 4)):
        [pieces] = pieces_of(EvaluationProtocol(scales=(0.5, 1.0), flip=True, average=average), Strided(0))
        assert len(pieces.pieces) == number
