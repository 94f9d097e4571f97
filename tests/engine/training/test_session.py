"""Torch's global settings during a training, and models from outside; more is tested with whole runs."""

import os
import sys
from pathlib import Path

import pytest
import torch

from engine.recipe import RecipeError, load_recipe
from engine.training import session
from engine.training.distributed import Process
from engine.training.session import CUBLAS_WORKSPACE, Session, build_session, torch_settings
from tests.engine.tiny_run import RECIPE


def settings() -> tuple[object, ...]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        os.environ.get(CUBLAS_WORKSPACE),
    )


@pytest.mark.parametrize(
    ("deterministic", "device", "expected"),
    [
        (False, "cuda", ("high", True, False, None)),
        (True, "cuda", ("high", False, True, ":4096:8")),
        (True, "cpu", ("highest", False, True, ":4096:8")),
        (False, "cpu", ("highest", False, False, None)),
    ],
)
def test_settings_hold_in_the_block_and_are_restored(
    deterministic: bool, device: str, expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    before = settings()
    with pytest.raises(ZeroDivisionError), torch_settings(deterministic, torch.device(device)):
        assert settings() == expected
        raise ZeroDivisionError
    assert settings() == before == ("highest", False, False, None)


MODEL = """
from torch import nn


class Plain(nn.Conv2d):
    def __init__(self, num_classes: int):
        super().__init__(3, num_classes, 1)
        self.body = nn.Identity()

    def forward(self, image):
        return super().forward(self.body(image.float()))
"""


def test_a_model_without_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of log.feature_layers names the encoder, which counts only where features are drawn."""
    (tmp_path / "outside_plain.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "outside_plain", None)  # so that it is removed afterwards
    del sys.modules["outside_plain"]
    (tmp_path / "plain.yaml").write_text(
        "data: {format: synthetic, synthetic: {size: 32, train_samples: 2, val_samples: 1}}\n"
        "augment: {crop: 32}\nmodel: {arch: 'outside_plain:Plain', from_scratch: true}\n"
        "train: {steps: 2, batch: 2}\nschedule: {warmup: 0}\n"
    )

    def session(*overrides: str) -> Session:
        process = Process(0, 1, torch.device("cpu"))
        return build_session(
            load_recipe(tmp_path / "plain.yaml", overrides), process, lambda _: lambda *_: None
        )

    assert session().validation.features is None
    with pytest.raises(RecipeError, match=r"Type for example log.feature_layers=\['body'\]"):
        session("log.features=1")
    assert session("log.features=1", "log.feature_layers=[body]").validation.features


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["data.val=vall"], "No split 'vall'"),
        (["data.select=other"], "No split 'other'"),
        (["data.root=nowhere"], "no folder nowhere"),
        (["data.resident=gpu"], "data.resident is gpu"),
        (["loss=[{name: cross_entropy, class_weights: [1.0, 2.0]}]"], "class_weights has 2 numbers"),
        (["log.features=1", "log.feature_layers=[encodr]"], "no layer of this model"),
        (["optimizer.name=adamww"], "adamww"),
        (["train.batch=3", "train.accumulate=2"], "cannot be split evenly"),
        (["train.steps=1 epochs", "schedule.warmup=9"], "but the whole training has"),
    ],
)
def test_what_is_wrong_here_is_said_before_weights_are_downloaded(
    voc_folder: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], said: str
) -> None:
    def download(*_: object) -> None:
        raise AssertionError("weights were looked for first")

    monkeypatch.setattr(session, "initialise", download)
    root = Path(__file__).parents[3] / "recipes/b0_ce_dice.yaml"
    recipe = load_recipe(root, [f"data.root={voc_folder}", "data.train=train", *lines], trains=True)
    process = Process(0, 1, torch.device("cpu"))
    with pytest.raises(ValueError, match=said) as error:
        build_session(recipe, process, lambda _: lambda done, total: None)
    assert getattr(error.value, "exit_code", None) == 2


def test_an_option_without_effect_is_named_with_the_key_that_has_one() -> None:
    lines = ["model.encoder=tu-test_convnext", "model.decoder_width=null", "model.drop_path=0.2"]
    notes = session._notes_on_options(load_recipe(RECIPE, lines).model)
    [note] = [note for note in notes if "drop_path" in note]
    assert "model.drop_path=0.2 has no effect: segformer on tu-test_convnext" in note
    assert note.endswith("; the drop path rate of encoders of timm is model.encoder_drop_path")


def test_values_that_a_pack_ignores_are_named_if_they_were_typed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {format: folder, root: x, classes: [a, b], folder: {val_share: 0.2}}")
    typed = ["data.format=packed", "data.root=x.h5", "data.classes=[a, b]"]
    assert session._notes_on_a_pack(load_recipe(path, typed)) == []
    [note] = session._notes_on_a_pack(load_recipe(path, [*typed, "data.folder.val_share=0.3"]))
    assert "data.folder.val_share has no effect: a pack holds the splits" in note
    assert session._notes_on_a_pack(load_recipe(path, ["data.folder.val_share=0.3"])) == []
