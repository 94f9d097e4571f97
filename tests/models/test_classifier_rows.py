"""A classifier that starts from the rows of another one, class by class."""

import json

import pytest
import torch
from safetensors.torch import save_file

from models import build_model
from models.class_names import COCO_STUFF, VOC
from models.segformer import SegFormer
from models.weights import load_weights
from models.zoo import ZooModel

COCO_ROW = {"sofa": 57, "tvmonitor": 62, "person": 0, "pottedplant": 58, "aeroplane": 4}


@pytest.fixture(scope="module")
def stuff_state() -> dict[str, torch.Tensor]:
    """A B0 of the 171 classes of COCO-Stuff; row r of its classifier holds r."""
    torch.manual_seed(0)
    model = SegFormer("b0", num_classes=171)
    with torch.no_grad():
        model.head.classifier.weight.copy_(torch.arange(171.0).view(-1, 1, 1, 1).expand(-1, 256, 1, 1))
        model.head.classifier.bias.copy_(torch.arange(171.0))
    return model.state_dict()


def test_rows_are_copied_by_class_name_and_the_others_initialised(stuff_state, tmp_path):
    save_file(stuff_state, tmp_path / "stuff.safetensors")
    model = SegFormer("b0", num_classes=21)
    before = model.head.classifier.weight.clone()
    report = load_weights(model, str(tmp_path / "stuff.safetensors"), class_names=VOC)
    for name, row in COCO_ROW.items():
        assert (model.head.classifier.weight[VOC.index(name)] == row).all()
        assert model.head.classifier.bias[VOC.index(name)] == row
        assert report.classes.moved[name] == COCO_STUFF[row]
    assert torch.equal(model.head.classifier.weight[0], before[0])
    assert report.classes.initialised == ["background"]
    assert report.classes.source == "COCO-Stuff, by their number"
    assert torch.equal(model.head.fuse.weight, stuff_state["head.fuse.weight"])


def test_the_class_names_of_a_run_are_in_its_manifest(stuff_state, tmp_path):
    """21 classes on both sides, but different ones: in order, each row would go to a wrong class."""
    (tmp_path / "run/top").mkdir(parents=True)
    state = stuff_state | {
        "head.classifier.weight": stuff_state["head.classifier.weight"][:21].clone(),
        "head.classifier.bias": stuff_state["head.classifier.bias"][:21].clone(),
    }
    save_file(state, tmp_path / "run/top/step-1.safetensors")
    there = ["Sofa", *(f"thing {i}" for i in range(19)), "sheep"]
    manifest = {"members": [{"file": "top/step-1.safetensors"}], "class_names": there, "weights": None}
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest))
    model = SegFormer("b0", num_classes=21)
    before = model.head.classifier.bias.clone()
    report = load_weights(model, str(tmp_path / "run"), class_names=VOC)
    assert report.classes.moved == {"sheep": "sheep", "sofa": "Sofa"}
    expected = before.clone()
    expected[VOC.index("sheep")], expected[VOC.index("sofa")] = 20, 0
    assert torch.equal(model.head.classifier.bias, expected)
    assert report.parts["head"].reshaped == [
        f"head.classifier.{k} (other classes)" for k in ("weight", "bias")
    ]
    assert report.parts["head"].share < 1

    same = load_weights(SegFormer("b0", num_classes=21), str(tmp_path / "run"), class_names=there)
    assert same.classes is None and same.parts["head"].share == 1


def test_the_class_names_of_a_hugging_face_folder_are_in_its_config(stuff_state, tmp_path, renamers):
    save_file(renamers["huggingface"](stuff_state), tmp_path / "model.safetensors")
    labels = {str(row): f"class {row}" for row in range(171)} | {"100": "dog, hound"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    model = SegFormer("b0", num_classes=2)
    report = load_weights(model, str(tmp_path), class_names=["cat", "dog"])
    assert report.classes.moved == {"dog": "dog, hound"}
    assert report.classes.initialised == ["cat"]
    assert model.head.classifier.bias[1] == 100


def test_no_rows_are_copied_from_a_head_of_another_width(stuff_state, tmp_path):
    save_file(stuff_state, tmp_path / "stuff.safetensors")
    model = SegFormer("b0", num_classes=21, decoder_width=64)
    assert load_weights(model, str(tmp_path / "stuff.safetensors"), class_names=VOC).classes is None


def test_rows_are_copied_into_an_smp_model_too(tmp_path):
    torch.manual_seed(0)
    one, other = ZooModel("unet", "resnet18", 19), ZooModel("unet", "resnet18", 3)
    save_file(one.state_dict(), tmp_path / "unet.safetensors")
    report = load_weights(other, str(tmp_path / "unet.safetensors"), class_names=["bus", "cat", "motorbike"])
    assert report.classes.moved == {"bus": "bus", "motorbike": "motorcycle"}
    for here, there in ((0, 15), (2, 17)):
        assert torch.equal(other.segmentation_head[0].weight[here], one.segmentation_head[0].weight[there])


def test_rows_are_copied_into_dpt_whose_classifier_is_its_last_layer(tmp_path):
    one, other = (
        build_model("dpt", num_classes=number, encoder="tu-test_vit", decoder_width=8) for number in (19, 2)
    )
    save_file(one.state_dict(), tmp_path / "dpt.safetensors")
    report = load_weights(other, str(tmp_path / "dpt.safetensors"), class_names=["cat", "motorbike"])
    assert report.classes.moved == {"motorbike": "motorcycle"}
    first, *_, last = other.segmentation_head.head
    assert torch.equal(last.weight[1], one.segmentation_head.head[4].weight[17])
    assert torch.equal(first.weight, one.segmentation_head.head[0].weight)
