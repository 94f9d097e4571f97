"""Means of weights, and BatchNorm after them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import engine.data
from engine.data.class_counts import count_classes
from engine.recipe import load_recipe
from engine.scoring.ensembles.weight_averaging import (
    architecture,
    average_weights,
    averageable,
    recalibrate,
    start_of,
    training_images,
)
from engine.training.build_batches import build_batches
from engine.training.distributed import Process
from engine.training.imbalance import training_order
from models.build import build_model
from models.weights import load_weights

ROOT = Path(__file__).parents[4]
CPU = torch.device("cpu")


def small(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def test_weights_are_averaged_and_the_members_unchanged() -> None:
    models = [small(0), small(1), small(2)]
    before = [{key: value.clone() for key, value in model.state_dict().items()} for model in models]
    soup = average_weights(models)
    assert not soup.training
    for key, value in soup.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, sum(state[key] for state in before) / 3)
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_soup_of_one_model_is_that_model() -> None:
    model = small(0)
    assert all(
        torch.equal(value, model.state_dict()[key])
        for key, value in average_weights([model, model]).state_dict().items()
    )


def test_batch_norm_gets_the_mean_over_batches_without_dropout() -> None:
    model = small(0)
    norm = model[2]
    norm.running_mean.fill_(99.0)
    batches = [torch.randn(2, 3, 5, 5) * scale + 1 for scale in (1, 3)]
    with torch.no_grad():
        seen = [model[0](images).double().permute(1, 0, 2, 3).flatten(1) for images in batches]  # (4, 50)
    recalibrate(model, iter(batches))
    torch.testing.assert_close(norm.running_mean.double(), sum(x.mean(dim=1) for x in seen) / 2)
    torch.testing.assert_close(norm.running_var.double(), sum(x.var(dim=1) for x in seen) / 2)
    assert norm.momentum == 0.1
    assert not any(module.training for module in model.modules())


def test_statistics_that_were_frozen_stay() -> None:
    models = [nn.Sequential(small(seed), nn.BatchNorm2d(2)) for seed in (0, 1)]
    for seed, model in enumerate(models):
        model[0][2].running_mean.fill_(7.0)
        model[1].running_mean.fill_(float(seed))
    soup = average_weights(models)
    recalibrate(soup, [torch.randn(2, 3, 5, 5)], models)
    assert torch.equal(soup[0][2].running_mean, torch.full((4,), 7.0))
    assert not torch.equal(soup[1].running_mean, torch.full((2,), 0.5))


@pytest.mark.parametrize("sampler", ["rare", "uniform"])
def test_images_for_the_statistics_are_drawn_as_in_training(voc_folder: Path, sampler: str) -> None:
    lines = [f"data.root={voc_folder}", "data.train=train", "model.from_scratch=true", "model.weights=null"]
    lines += ["augment.crop=32", "train.batch=2", f"data.sampler={sampler}"]
    recipe = load_recipe(ROOT / "recipes/b0_ce_dice.yaml", lines)
    train = engine.data.open_split(recipe.data, "train")
    order, _ = training_order(recipe, count_classes(train, lambda *_: None))
    batches = build_batches(recipe, train, None, order, Process(0, 1, CPU), None, None)
    drawn = training_images(recipe, CPU)
    for update in range(6):  # two epochs
        assert torch.equal(next(drawn), batches.of(order.update(update)).images)


def test_a_model_without_batch_norm_reads_no_image() -> None:
    def none():
        raise AssertionError("an image was asked for")
        yield

    recalibrate(nn.Sequential(nn.Conv2d(3, 2, 1), nn.GroupNorm(1, 2)), none())


def test_architectures_differ_where_weights_have_another_meaning(tmp_path) -> None:
    def of(model: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(f"name: a\ndata: {{format: synthetic}}\nmodel: {{from_scratch: true, {model}}}\n")
        return architecture(load_recipe(path))

    assert of("variant: b0") == of("variant: b0, dropout: 0.3, drop_path: 0.0")
    assert len({of("variant: b0"), of("variant: b1"), of("variant: b0, decoder_width: 16")}) == 3
    assert of("variant: b0") != of("variant: b0, head: mmseg")
    outside = "arch: 'models.discriminator:PatchDiscriminator', layers: 2, channels"
    assert of(f"{outside}: 8") != of(f"{outside}: 16")


def test_only_members_of_one_architecture_and_initialisation_are_averaged(tmp_path) -> None:
    def start(model: str, seed: int = 0, weights=None) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(f"name: a\nseed: {seed}\ndata: {{format: synthetic}}\nmodel: {{{model}}}\n")
        return start_of(load_recipe(path), weights)

    b0, unet = "from_scratch: true, variant: b0", "from_scratch: true, arch: unet, encoder: resnet18"
    assert averageable([start(unet), start(b0), start(b0)]) == (1, 2)
    assert averageable([start(unet), start(b0)]) == (0,)
    assert averageable([start(b0, seed=0), start(b0, seed=1), start(b0, seed=1)]) == (1, 2)
    encoder = {"num_matched_values": 9, "num_values": 9}
    of_encoder = {"source": "a", "parts": {"encoder": encoder, "head": {**encoder, "num_matched_values": 0}}}
    of_all = {"source": "a", "parts": {"encoder": encoder, "head": encoder}}
    assert start(b0, 0, of_encoder) != start(b0, 1, of_encoder)
    assert start(b0, 0, of_all) == start(b0, 1, of_all) != start(b0, 1, {**of_all, "source": "b"})
    moved = {**of_all, "file": "b/x.pth", "licence": "MIT", "others": ["ema"]}
    assert start(b0, 0, of_all) == start(b0, 0, moved)  # as earlier versions wrote them


def test_a_start_is_the_values_that_were_loaded_not_the_place_of_their_file(tmp_path) -> None:
    recipe = load_recipe(ROOT / "recipes/demo.yaml", ["model.variant=b0"])

    def start(file: str, seed: int, name: str = "") -> str:
        torch.manual_seed(seed)
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        source = build_model(recipe.model, ("a", "b")).state_dict()
        if path.suffix == ".safetensors":
            save_file(source, path)
        else:
            torch.save({"ema": source, "model": {k: 0 * v for k, v in source.items()}}, path)
        model = build_model(recipe.model, ("a", "b"))
        return start_of(recipe, load_weights(model, f"{path}{name}").to_dict())

    first = start("a/w.safetensors", 0)
    assert first == start("b/w.safetensors", 0) == start("c/w.pth", 0, "#ema")
    assert first != start("c/w.pth", 0, "#model")
    assert first != start("a/w.safetensors", 1)  # another file at the same place
