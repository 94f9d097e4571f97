"""Models of other bands than RGB: what their first layer takes over, and the normalisation."""

import pytest
import torch
from safetensors.torch import save_file

from models import ModelError, build_model
from models.weights import load_weights

RGB = ("red", "green", "blue")
FIRST = {"segformer": "encoder.stages.0.embed.proj.weight", "unet": "encoder.conv1.weight"}
OPTIONS = {"segformer": {"variant": "b0"}, "unet": {"encoder": "resnet18"}}


def built(arch: str, in_channels: int | None = None, **values):
    return build_model(arch, num_classes=3, in_channels=in_channels, **values, **OPTIONS[arch])


@pytest.fixture(params=[*FIRST])
def rgb(request, tmp_path):
    """Architecture, file of a model for RGB, its first layer (out, 3, k, k)."""
    state = built(request.param).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "rgb.safetensors")
    return request.param, str(tmp_path / "rgb.safetensors"), state[FIRST[request.param]]


def adapted(rgb, bands: tuple[str, ...]):
    arch, file, first = rgb
    model = built(arch, len(bands))
    report = load_weights(model, file, bands=bands)
    found = model.state_dict()
    assert report.parts["encoder"].share == 1
    return found[FIRST[arch]], first, report.summary()


def test_named_colours_keep_their_filters_and_others_start_from_the_mean(rgb) -> None:
    found, first, summary = adapted(rgb, ("nir", "blue", "green", "red"))
    assert torch.equal(found[:, [3, 2, 1]], first)
    assert torch.allclose(found[:, 0], first.mean(1))
    assert "blue, green, red keep their filters" in summary and "nir start from the mean" in summary


@pytest.mark.parametrize("bands", [("grey",), ("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d", "e")])
def test_without_a_colour_equal_bands_give_what_grey_gave(rgb, bands) -> None:
    found, first, summary = adapted(rgb, bands)
    assert torch.allclose(found.sum(1), first.sum(1), atol=1e-5)
    assert torch.allclose(found, found[:, :1].expand_as(found))
    assert f"{', '.join(bands)} start from the mean" in summary


def test_rgb_loads_unchanged_and_says_nothing_of_bands(rgb) -> None:
    found, first, summary = adapted(rgb, RGB)
    assert torch.equal(found, first) and "bands" not in summary


@pytest.mark.parametrize("arch", [*FIRST])
def test_pixels_are_normalised_by_what_is_given(arch) -> None:
    mean, std = (10.0, 20.0, 30.0, 40.0), (1.0, 2.0, 3.0, 4.0)
    model = built(arch, 4, mean=mean, std=std).eval()
    plain = built(arch, 4, mean=(0.0,) * 4, std=(1.0,) * 4).eval()
    plain.load_state_dict(model.state_dict())
    image = torch.randint(0, 256, (1, 4, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
    shape = (1, 4, 1, 1)
    by_hand = (image - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    with torch.no_grad():
        assert torch.allclose(model(image), plain(by_hand), atol=1e-4)


def test_a_model_for_rgb_alone_is_refused() -> None:
    with pytest.raises(ModelError, match=r"in_channels.*5 bands"):
        build_model("torch.nn:Identity", num_classes=3, in_channels=5)
