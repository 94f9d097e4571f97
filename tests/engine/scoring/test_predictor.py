"""The predictor against the same views combined by hand."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.scoring import predictor
from engine.scoring.combining import Combination
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.upsampling import Pieces


class Pointwise(nn.Module):
    """Treats each pixel separately, so a mirrored image gives the mirrored logits."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 3, 1, 1, generator=generator) / 100)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x.float(), self.weight)  # (B, 3, h, w)


class Strided(nn.Module):
    """Logits at a quarter of the resolution that depend on the horizontal position."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 3, 4, 4, generator=generator) / 100)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x.float(), self.weight, stride=4)  # (B, 3, h / 4, w / 4)


@pytest.fixture
def images() -> Tensor:
    """Of a size that no stride divides."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 21, 30), dtype=torch.uint8, generator=generator)


def predict(model: nn.Module, images: Tensor, **protocol) -> Tensor:
    return Predictor(EvaluationProtocol(**protocol), nullcontext)(model.eval(), images)


def upsampled(logits: Tensor, size: tuple[int, int] = (21, 30)) -> Tensor:
    return F.interpolate(logits, size, mode="bilinear", align_corners=False).softmax(dim=1)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.7)])
def test_there_are_probabilities_for_each_pixel_of_the_original_image(
    images: Tensor, flip: bool, scales
) -> None:
    probabilities = predict(Strided(), images, flip=flip, scales=scales)
    assert probabilities.shape == (2, 3, 21, 30)
    assert probabilities.dtype == torch.float32
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 21, 30))


def test_one_view_is_the_softmax_of_the_upsampled_logits(images: Tensor) -> None:
    model = Strided()
    torch.testing.assert_close(predict(model, images), upsampled(model(images)).detach())


def test_flip_changes_nothing_for_a_model_that_is_mirror_equivariant(images: Tensor) -> None:
    model = Pointwise()
    torch.testing.assert_close(predict(model, images, flip=True), predict(model, images))


def test_flip_is_the_mean_with_the_mirrored_image_mirrored_back(images: Tensor) -> None:
    model = Strided()
    mirrored = upsampled(model(images.flip(-1)).flip(-1))
    expected = (upsampled(model(images)) + mirrored) / 2
    torch.testing.assert_close(predict(model, images, flip=True), expected.detach())
    assert not torch.allclose(predict(model, images, flip=True), predict(model, images), atol=1e-3)


def test_scales_are_averaged_as_probabilities(images: Tensor) -> None:
    model = Strided()
    views = []
    for height, width in ((10, 15), (21, 30), (42, 60)):  # round(0.5 * 21) is 10
        size = (height, width)
        x = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
        views.append(upsampled(model(x)))
    expected = torch.stack(views).mean(dim=0)
    torch.testing.assert_close(predict(model, images, scales=(0.5, 1.0, 2.0)), expected.detach())


def test_a_tiny_scale_leaves_at_least_one_pixel(images: Tensor) -> None:
    assert predict(Pointwise(), images, scales=(0.01,)).shape == (2, 3, 21, 30)


def test_the_images_are_not_modified(images: Tensor) -> None:
    before = images.clone()
    predict(Pointwise(), images, flip=True, scales=(0.5, 1.0))
    assert torch.equal(images, before)


def test_the_forward_pass_runs_under_autocast_and_the_softmax_does_not(images: Tensor) -> None:
    predictor = Predictor(EvaluationProtocol(), lambda: torch.autocast("cpu", torch.bfloat16))
    seen = []
    model = Pointwise().eval()
    model.register_forward_hook(lambda module, inputs, logits: seen.append(logits.dtype))
    probabilities = predictor(model, images)
    assert seen == [torch.bfloat16]
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 21, 30))


def test_a_model_in_training_mode_is_refused(images: Tensor) -> None:
    with pytest.raises(AssertionError, match="eval"):
        Predictor(EvaluationProtocol(), nullcontext)(Pointwise().train(), images)


def test_the_card_describes_the_protocol() -> None:
    card = EvaluationProtocol(scales=(0.5, 1.0), flip=True).card()
    assert card == {
        "name": "native",
        "resize": "none",
        "pad": "inside the model",
        "window": "none",
        "scales": [0.5, 1.0],
        "flip": True,
        "average": "probability",
        "resolution": "original",
        "whole_image": True,
    }


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x.float(), size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("flip", [False, True])
def test_mmseg_resizes_the_image_and_the_logits_twice(images: Tensor, flip: bool) -> None:
    """To the size of the model's input, then to the original one: 21 x 30 px are seen at 512 x 731."""
    model, size = Strided(), (512, 731)
    views = [model(resized(images, size))]
    if flip:
        views.append(model(resized(images, size).flip(-1)).flip(-1))
    expected = torch.stack([resized(resized(x, size), (21, 30)).softmax(1) for x in views]).mean(0)
    torch.testing.assert_close(predict(model, images, name="mmseg", flip=flip), expected.detach())


@pytest.mark.parametrize("flip", [False, True])
def test_paddle_pads_with_grey_and_cuts_the_padding_off(images: Tensor, flip: bool) -> None:
    model = Strided()
    padded = torch.full((2, 3, 512, 512), 127.5)
    padded[:, :, :21, :30] = images.float()
    views = [model(padded)]
    if flip:
        views.append(model(padded.flip(-1)).flip(-1))  # the padding is mirrored, too
    expected = torch.stack([resized(x, (512, 512))[:, :, :21, :30].softmax(1) for x in views]).mean(0)
    torch.testing.assert_close(predict(model, images, name="paddle", flip=flip), expected.detach())


def test_centercrop_gives_the_centre_square_only(images: Tensor) -> None:
    model, square = Strided(), images[..., 4:25]
    shown = F.interpolate(square.float(), (513, 513), mode="bilinear", align_corners=False, antialias=True)
    expected = resized(model(shown), (21, 21)).softmax(1)
    torch.testing.assert_close(predict(model, images, name="centercrop"), expected.detach())
    predictor = Predictor(EvaluationProtocol("centercrop"), nullcontext)
    assert torch.equal(predictor.scored(images), square)


@pytest.mark.parametrize("average", ["probability", "logit"])
@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((0.5, 1.0), True)])
def test_slide_is_one_window_after_the_other_on_the_whole_canvas(images, average, scales, flip) -> None:
    model = Strided()
    total, times = torch.zeros(2, 3, 21, 30), torch.zeros(1, 1, 21, 30)
    for top in (0, 8, 9):
        for left in (0, 8, 16, 18):
            window = images[..., top : top + 12, left : left + 12].float()
            for scale in scales:
                size = (round(12 * scale),) * 2
                x = F.interpolate(window, size, mode="bilinear", align_corners=False, antialias=True)
                logits = [model(x if scale != 1 else window)]
                if flip:
                    logits.append(model((x if scale != 1 else window).flip(-1)).flip(-1))
                for z in logits:
                    up = resized(z, (12, 12))
                    up = up.softmax(1) if average == "probability" else up
                    total += F.pad(up, (left, 18 - left, top, 9 - top)).detach()
                    times[..., top : top + 12, left : left + 12] += 1
    expected = total / times if average == "probability" else (total / times).softmax(1)
    settings = {"scales": scales, "flip": flip, "average": average, "window_px": 12, "stride_px": 8}
    torch.testing.assert_close(predict(model, images, name="slide", **settings), expected)


def test_windows_are_predicted_in_one_batch(images: Tensor) -> None:
    model, batches = Strided().eval(), []
    model.register_forward_hook(lambda module, inputs, logits: batches.append(len(logits)))
    predict(model, images, name="slide", window_px=12, stride_px=8)
    assert batches == [2 * 12]  # of both images


def test_no_forward_pass_is_larger_than_allowed(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches, found = Strided().eval(), [], []
    model.register_forward_hook(lambda module, inputs, logits: batches.append(len(logits)))
    for num_windows in (11, 1):
        monkeypatch.setattr(predictor, "forward_px", lambda device, px=num_windows * 12 * 12: px)
        found.append(predict(model, images, name="slide", window_px=12, stride_px=8))
    assert batches == [10, 10, 4] + 24 * [1]  # whole views of both images, then one image at a time
    torch.testing.assert_close(*found)


def test_where_logits_are_averaged_there_is_one_softmax(images: Tensor) -> None:
    model = Strided()
    mean = (model(images) + model(images.flip(-1)).flip(-1)) / 2
    torch.testing.assert_close(predict(model, images, flip=True, average="logit"), upsampled(mean).detach())


def test_a_model_on_another_device_gets_the_images_there_and_its_logits_come_back(images: Tensor) -> None:
    class Elsewhere(Strided):
        def forward(self, x: Tensor) -> Tensor:
            devices.append(x.device.type)
            return torch.zeros(len(x), 3, 5, 7)

    devices: list[str] = []
    assert predict(Elsewhere().to("meta"), images).device == images.device
    assert devices == ["meta"]


def test_logits_come_back_after_the_forward_pass_of_the_last_member(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    come_back = Pieces.to

    def noted(pieces: Pieces, device: torch.device) -> Pieces:
        events.append("back")
        return come_back(pieces, device)

    monkeypatch.setattr(Pieces, "to", noted)
    models = {name: Strided().eval() for name in ("first", "second")}
    for name, model in models.items():
        model.register_forward_hook(lambda module, inputs, logits, name=name: events.append(name))
    Predictor(EvaluationProtocol(), nullcontext).together(models, Combination.mean(2), images)
    assert events == ["first", "second", "back", "back"]


def test_where_the_memory_is_full_fewer_images_run_at_once(images: Tensor) -> None:
    class Limited(Strided):
        fits = 1

        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            if len(x) > self.fits:
                raise torch.OutOfMemoryError
            return super().forward(x)

    sizes: list[int] = []
    limited = Limited()
    assert torch.equal(predict(limited, images), predict(Strided(), images))
    assert sizes == [2, 1, 1]
    limited.fits = 0
    with pytest.raises(torch.OutOfMemoryError):
        predict(limited, images)


@pytest.mark.parametrize("tunes", [True, False])
def test_convolutions_are_not_tuned_for_each_size(
    images: Tensor, tunes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training tunes them for its one size; scores are of images of many sizes."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", tunes)
    seen = []

    class Looking(Pointwise):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.backends.cudnn.benchmark)
            return super().forward(x)

    predict(Looking(), images)
    assert seen == [False] and torch.backends.cudnn.benchmark == tunes


@pytest.mark.parametrize("scales", [(1.0,), (0.5,)])
def test_a_model_gets_pixels_of_the_type_that_it_was_trained_on(images: Tensor, scales) -> None:
    """A network of one's own that does not convert bytes would fail at the first evaluation."""
    network = nn.Conv2d(3, 4, 1)
    found = predict(network, images, scales=scales)
    assert found.shape == (2, 4, 21, 30)
    assert torch.equal(found, predict(network, images.float(), scales=scales))
