"""Licence and class names of weights, from the files next to them."""

import json
from pathlib import Path

import pytest

from models import ModelError
from models.origin import NVIDIA, OWN, UNKNOWN, Origin, licence_of_run, origin_of
from models.zoo import ZooModel


def folder(tmp_path: Path, card: str | None = None, labels: dict | None = None) -> Path:
    """The weights file of a Hugging Face folder."""
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    if labels is not None:
        (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (None, UNKNOWN),
        ("# no front matter\nlicense: mit\n", UNKNOWN),
        ("---\ntags:\n- x\n---\nlicense: mit\n", UNKNOWN),
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# x", "apache-2.0"),
        ("---\nlicense: 'mit'\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: segformer licence\n---\n", "segformer licence"),
        ("---\nlicense: other\n---\n", "other"),
    ],
)
def test_a_model_card_names_the_licence(card, licence, tmp_path):
    assert origin_of(str(tmp_path), folder(tmp_path, card)).licence == licence


def test_nvidias_weights_are_recognised_from_any_source(tmp_path):
    copy = tmp_path / "weights/nvidia/mit-b2"
    copy.mkdir(parents=True)
    assert origin_of(str(copy), folder(copy, "---\nlicense: mit\n---\n")).licence == NVIDIA
    assert "non-commercial" in NVIDIA


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (None, None),
        ({"0": "LABEL_0", "1": "LABEL_1"}, None),
        ({str(i): f"name {i}" for i in (10, 2, 0)}, ("name 0", "name 2", "name 10")),
    ],
)
def test_a_config_names_the_classes_in_the_order_of_their_ids(labels, names, tmp_path):
    assert origin_of(str(tmp_path), folder(tmp_path, labels=labels)).class_names == names


def test_a_model_card_in_another_encoding_is_read(tmp_path):
    (tmp_path / "README.md").write_bytes("---\nlicense: mit\n---\nfür Straßen".encode("latin-1"))
    assert origin_of(str(tmp_path), folder(tmp_path)).licence == "mit"


@pytest.mark.parametrize("content", ["{", "[]", '{"id2label": {"cat": 0}}', '{"id2label": ["cat"]}'])
def test_a_damaged_config_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json is damaged"):
        origin_of(str(tmp_path), tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("weights", "licence"),
    [
        (None, OWN),
        ({"source": "hf:acme/x", "licence": "mit"}, "mit"),
        ({"source": "hf:nvidia/mit-b2"}, NVIDIA),
        ({"source": "weights/nvidia/mit-b2"}, NVIDIA),
        ({"source": "mine.pth"}, UNKNOWN),
    ],
)
def test_a_run_inherits_the_licence_of_its_initial_weights(weights, licence, tmp_path):
    assert licence_of_run(weights) == licence
    (tmp_path / "manifest.json").write_text(json.dumps({"class_names": ["a", "b"], "weights": weights}))
    for file in ("top/step-1.safetensors", "tail/step-1-width-0.1.safetensors", "last/state.safetensors"):
        assert origin_of(str(tmp_path), tmp_path / file) == Origin(("a", "b"), licence)


@pytest.mark.parametrize(
    ("encoder", "licence"), [("tu-pvt_v2_b0", "apache-2.0"), ("mit_b0", NVIDIA), ("resnet18", UNKNOWN)]
)
def test_encoders_of_the_zoo(encoder, licence):
    assert ZooModel("unet", encoder, 2).pretrained_licence() == licence
