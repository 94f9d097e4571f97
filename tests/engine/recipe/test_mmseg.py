"""`trident new --from-mmseg`: what a configuration of MMSegmentation becomes, and what is listed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import open_split
from engine.new import main
from engine.recipe import Recipe, load_recipe
from engine.training.auxiliary import build_auxiliary
from models.build import build_model
from tests.engine.recipe.mmseg_configs import (
    ADE20K,
    AUXILIARY,
    B2_ON_ADE20K,
    CUSTOM,
    PIPELINE,
    SCHEDULE,
    SEGFORMER,
    SWIN_ON_CITYSCAPES,
    VOC_0X,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return name


def carried(text: str, name: str = "config.py") -> Recipe:
    assert main(["--from-mmseg", write(name, text), "--out", "out.yaml"]) == 0
    return load_recipe("out.yaml")


def write_bases() -> None:
    write("base/segformer.py", SEGFORMER)
    write("base/ade20k.py", PIPELINE.replace("REDUCE", "True") + ADE20K)
    write("base/schedule.py", SCHEDULE)


def test_segformer_on_ade20k_with_bases(capsys) -> None:
    write_bases()
    recipe = carried(B2_ON_ADE20K, "segformer_mit-b2_8xb2-160k_ade20k.py")
    assert (recipe.model.variant, recipe.model.head, recipe.model.decoder_width) == ("b2", "mmseg", 256)
    assert recipe.model.weights == "hf:nvidia/mit-b2"
    assert (recipe.data.format, recipe.data.root) == ("ade20k", "data/ade")
    assert (recipe.data.train, recipe.data.val) == ("training", "validation")
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.head_lr_mult) == ("adamw", 6e-5, 10)
    assert recipe.optimizer.momentum is None  # _delete_ removed the section of the base
    assert (recipe.schedule.name, recipe.schedule.warmup, recipe.schedule.power) == ("poly", 1500, 1)
    assert (recipe.train.steps, recipe.eval.every, recipe.log.every) == (160_000, 4000, 25)
    assert recipe.train.batch == 16  # 8 GPUs with 2 images each
    augment = recipe.augment
    assert (augment.crop, augment.scale, augment.flip) == (512, [0.5, 2.0], 0.5)
    assert (augment.category_max_ratio, augment.rotate_deg, augment.hue) == (0.75, 0, 0.1)
    listed = capsys.readouterr().out
    assert "base/ade20k.py:6: scale=[2048, 512]" in listed
    assert (
        "segformer_mit-b2_8xb2-160k_ade20k.py:12: optim_wrapper.paramwise_cfg.custom_keys.pos_block" in listed
        and "pos_block.decay_mult=0.0: a recipe has no key for it" in listed
    )
    assert all(word not in listed for word in ("norm_cfg", "in_channels", "crop_size", "InfiniteSampler"))


def test_deeplab_on_voc_of_0x(capsys) -> None:
    recipe = carried(VOC_0X)
    assert (recipe.model.arch, recipe.model.encoder) == ("deeplabv3plus", "tu-resnet50c")
    assert (recipe.data.format, recipe.data.train, recipe.data.val) == ("voc", "trainaug", "val")
    assert (recipe.optimizer.name, recipe.optimizer.momentum, recipe.optimizer.head_lr_mult) == (
        "sgd",
        0.9,
        1,
    )
    assert (recipe.schedule.power, recipe.schedule.min_lr, recipe.schedule.warmup) == (0.9, 1e-4, 500)
    assert (recipe.train.steps, recipe.train.batch, recipe.eval.every) == (20_000, 4, 2000)
    auxiliary = recipe.model.auxiliary
    assert (auxiliary.layer, auxiliary.weight, auxiliary.channels) == ("encoder.model.layer3", 1.0, 256)
    assert recipe.augment.brightness == recipe.augment.hue == 0  # no PhotoMetricDistortion
    listed = capsys.readouterr().out
    for line, setting in (
        (8, "auxiliary_head: model.auxiliary has one convolution"),
        (4, "model.backbone.dilations="),
        (20, "dict(type='RandomCutOut', prob=0.5, n_holes=1)"),
        (26, "warmup_ratio=0.5"),
        (11, "samples_per_gpu=4"),
        (14, "ann_dir=['SegmentationClass', 'SegmentationClassAug']"),
    ):
        assert f"config.py:{line}: {setting}" in listed, listed
    assert all(
        line.removeprefix("#   ") in listed for line in Path("out.yaml").read_text().split("\n#   ")[1:]
    )


def test_upernet_with_swin_on_cityscapes(capsys) -> None:
    recipe = carried(SWIN_ON_CITYSCAPES)
    assert (recipe.model.arch, recipe.model.encoder) == ("upernet", "tu-swin_small_patch4_window7_224")
    assert recipe.model.encoder_drop_path == 0.3
    assert (recipe.data.format, recipe.data.root) == ("cityscapes", "data/cityscapes")
    assert (recipe.data.train, recipe.data.val) == ("train", "val")
    cross_entropy, lovasz = recipe.loss
    assert (cross_entropy.ohem.thresh, cross_entropy.ohem.min_kept) == (0.6, 50_000)
    assert (lovasz.name, lovasz.weight) == ("lovasz", 0.5)
    assert (recipe.eval.protocol, recipe.eval.window, recipe.eval.stride) == ("slide", 512, 341)
    assert (recipe.train.steps, recipe.schedule.milestones) == ("12 epochs", ["8 epochs", "11 epochs"])
    listed = capsys.readouterr().out
    assert "type='SwinTransformer'" not in listed and "crops are square: 512 px" in listed
    assert "drop_path_rate" not in listed
    assert "img_scale" not in listed  # the images of Cityscapes have this size


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (
            "dict(type='CrossEntropyLoss', class_weight=[1.0, 2.5])",
            {"name": "cross_entropy", "class_weights": [1.0, 2.5]},
        ),
        ("dict(type='DiceLoss', loss_weight=3.0)", {"name": "dice", "weight": 3.0}),
        ("dict(type='LovaszLoss', per_image=True)", {"name": "lovasz", "per_image": True}),
        (
            "dict(type='TverskyLoss', class_weight=[1.0, 2.5])",
            {"name": "tversky", "class_weights": [1.0, 2.5]},
        ),
        ("dict(type='FocalLoss', gamma=1.5)", {"name": "focal", "gamma": 1.5}),
        ("dict(type='TverskyLoss', alpha=0.4, beta=0.6)", {"name": "tversky", "alpha": 0.4, "beta": 0.6}),
        ("dict(type='OhemCrossEntropy', thres=0.9)", {"ohem": {"thresh": 0.9, "min_kept": 100_000}}),
        ("[dict(type='DiceLoss'), dict(type='DiceLoss')]", {"name": "dice", "weight": 2.0}),
    ],
)
def test_losses(loss: str, expected: dict) -> None:
    [term] = carried(CUSTOM.replace("LOSS", loss)).loss
    assert term.model_dump().items() >= expected.items()


def test_a_data_set_of_ones_own_opens(capsys) -> None:
    labels = np.zeros((40, 48), np.uint8)
    labels[10:20], labels[20:30] = 1, 2  # with reduce_zero_label: void, ground, road
    for split in ("train", "val"):
        for folder, name, pixels in (
            ("pictures", "a.jpg", np.dstack([labels] * 3)),
            ("drawn", "a_mask.png", labels),
        ):
            path = Path("mine", folder, split, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    recipe = carried(CUSTOM.replace("LOSS", "dict(type='DiceLoss')"))
    assert (recipe.seed, recipe.train.ema, recipe.train.steps) == (7, 0.99, "20 epochs")
    assert recipe.eval.every == "2 epochs" and recipe.model.from_scratch
    expected = np.array([255, 0, 1])[labels]
    for split in ("train", "val"):
        dataset = open_split(recipe.data, split)
        assert dataset.class_names == ("ground", "road")
        assert (dataset.labels(0).numpy() == expected).all()
    assert "Next: trident doctor out.yaml\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "reference",
    [
        "model = dict(decode_head=_base_.other_head)",
        "model = dict(decode_head={{_base_.other_head}})",
        "model = dict(decode_head='{{_base_.other_head}}')",
        "model = _base_.model\nmodel['decode_head'] = _base_.other_head",
        "model = dict(decode_head=dict(_delete_=True, **_base_.other_head))",
        "head = dict(type='UPerHead', num_classes=[1, 2, 3][-1])\nmodel = dict(decode_head=head)",
        "model = {'decode_head': {'type': 'UPer' + 'Head', 'num_classes': 12 // 4}}",
    ],
)
def test_references_and_expressions(reference: str) -> None:
    write("base.py", f"{SEGFORMER}\nother_head = dict(type='UPerHead', num_classes=3)\n")
    recipe = carried(f"_base_ = 'base.py'\n{reference}\n")
    assert (recipe.model.arch, recipe.model.encoder, len(recipe.data.classes)) == ("upernet", "mit_b0", 3)


def test_code_is_listed_and_never_run(capsys) -> None:
    carried(
        "import os\n"
        + VOC_0X
        + "os.system('touch ran')\n"
        + "open('ran', 'w')\n"
        + "for x in [1]:\n    model['x'] = __import__('os').system('touch ran')\n"
        + "model['decode_head']['num_classes'] = int(os.system('touch ran'))\n"
        + "more = [open('ran', 'w') for _ in range(9)]\n"
    )
    listed = capsys.readouterr().out
    lines = len(VOC_0X.splitlines()) + 1
    assert f"config.py:{lines + 1}: os.system('touch ran'): code, which is not run" in listed
    assert f"config.py:{lines + 5}: model.decode_head.num_classes=int(os.system('touch ran')): code" in listed
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs = 3\n", "no model with a decode_head"),
        ("model = build()\n", "config.py:1"),
        ("from mmengine.config import read_base\nwith read_base():\n    from .base import *\n", "plain.py"),
        ("model = dict(\n", "config.py:1: not Python"),
        ("_base_ = 'gone.py'\n", "config.py:1: _base_: no file gone.py"),
        ("_base_ = ['config.py']\n", "_base_ goes in a circle: config.py -> config.py"),
        ("_base_ = 3\n", "config.py:1: _base_ is not the name of a file"),
        ("_base_ = 'mmseg::_base_/models/segformer.py'\n", "_base_: no file"),
        ("_base_ = 'base.yaml'\n", "no configuration"),
        ("model = " + "(" * 500 + ")" * 500, "nested too deeply"),
        ("a = dict(x=1)\n" + "a = dict(x=a, y=a)\n" * 40, "more than 10,000 values"),
        ("model = dict(decode_head=dict(x=1))\nmodel['x'] = [model]\n", "more than 10,000 values"),
        ("a = [1]\n" + "a = a + a\n" * 60 + "model = dict(decode_head=a * 10**9)", "no model"),
        (VOC_0X.replace("lr=0.01", "lr=-1"), "optimizer.lr"),
    ],
)
def test_wrong_input(capsys, text: str, said: str) -> None:
    write("base.yaml", "model: x")
    assert main(["--from-mmseg", write("config.py", text)]) == 2
    assert said in capsys.readouterr().err and not Path("config.yaml").exists()


def test_wrong_arguments(capsys) -> None:
    write("config.py", VOC_0X)
    write("config.yaml", "mine")
    for arguments in ([], ["data", "--from-mmseg", "config.py"]):
        assert main(arguments) == 2 and "--from-mmseg CONFIG.py" in capsys.readouterr().err
    assert main(["--from-mmseg", "config.py", "--out", "new.yaml", "--classes", "a", "b"]) == 2
    assert "data.classes" in capsys.readouterr().err
    assert main(["--from-mmseg", "nowhere.py"]) == 2 and "no file nowhere.py" in capsys.readouterr().err
    assert main(["--from-mmseg", "config.py"]) == 2 and Path("config.yaml").read_text() == "mine"
    assert main(["--from-mmseg", "config.yaml", "--out", "new.yaml"]) == 2 and not Path("new.yaml").exists()


@pytest.mark.parametrize(
    ("backbone", "num_channels"),  # of the third stage
    [
        ("dict(type='ResNet', depth=18)", 256),
        ("dict(type='ResNetV1c', depth=50, out_indices=(0, 1, 2, 3))", 1024),
        ("dict(type='mmpretrain.ConvNeXt', arch='tiny')", 384),
        ("dict(type='MixVisionTransformer', embed_dims=32, num_layers=[2, 2, 2, 2])", 160),
    ],
)
def test_an_auxiliary_head_takes_the_stage_that_it_names(capsys, backbone: str, num_channels: int) -> None:
    text = AUXILIARY.replace("BACKBONE", backbone)
    recipe = carried(text.replace("FPNHead", "SegformerHead") if "Mix" in backbone else text)
    assert (recipe.model.auxiliary.weight, recipe.model.auxiliary.channels) == (0.4, 64)  # 0.8 of 2.0
    assert recipe.augment.crop == 768
    listed = capsys.readouterr().out
    assert "auxiliary_head" not in listed and "crop_size: 768 px, as model.auxiliary" in listed
    model = build_model(recipe.model, num_classes=3)
    head = build_auxiliary(recipe.model.auxiliary, model, 3, 3, recipe.augment.crops())
    assert head.convolution.in_channels == num_channels


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("FCNHead", "PSPHead", "model.auxiliary is an FCNHead"),
        ("ResNet', depth=18", "HRNet'", "model.auxiliary is an FCNHead"),
        ("in_index=2", "in_index=7", "model.auxiliary is an FCNHead"),
        ("num_convs=1", "num_convs=2", "one convolution"),
        ("type='CrossEntropyLoss', use_sigmoid", "type='DiceLoss', use_sigmoid", "those of `loss`"),
    ],
)
def test_what_of_an_auxiliary_head_is_listed(capsys, old: str, new: str, said: str) -> None:
    text = AUXILIARY.replace("BACKBONE", "dict(type='ResNet', depth=18)")
    assert old in text
    recipe = carried(text.replace(old, new))
    assert said in capsys.readouterr().out
    assert (recipe.model.auxiliary is None) == said.startswith("model.auxiliary")


@pytest.mark.parametrize(("size", "is_listed"), [("(2048, 512)", False), ("(512, 512)", True)])
def test_a_size_of_the_validation_is_listed_once(size: str, is_listed: bool, capsys) -> None:
    pipeline = f"test_pipeline = [dict(type='Resize', scale={size}, keep_ratio=True)]\n"
    text = CUSTOM.replace("LOSS", "dict(type='DiceLoss')")
    carried(f"{pipeline}{text}val_dataloader['dataset']['pipeline'] = test_pipeline\n")
    assert capsys.readouterr().out.count("scale=[512, 512]: of the scores") == is_listed


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("dict(type='ResizeToMultiple', size_divisor=32)", 32),
        ("dict(type='ResizeToMultiple', size_divisor=(16, 16))", 16),
        ("dict(type='AlignedResize', keep_ratio=True)", 32),
        ("dict(type='Resize', keep_ratio=True)", 1),
    ],
)
def test_the_multiple_of_the_validation(step: str, expected: int) -> None:
    pipeline = f"test_pipeline = [dict(type='LoadImageFromFile'), {step}, dict(type='PackSegInputs')]\n"
    old = f"test_pipeline = [dict(type='MultiScaleFlipAug', img_scale=(2048, 512), transforms=[{step}])]\n"
    new = CUSTOM.replace("LOSS", "dict(type='DiceLoss')")
    for text in (
        pipeline + new + "val_dataloader['dataset']['pipeline'] = test_pipeline\n",
        old + VOC_0X + "data['val']['pipeline'] = test_pipeline\n",
    ):
        assert carried(text).eval.multiple == expected
        Path("out.yaml").unlink()
