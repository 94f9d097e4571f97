"""The report of loaded weights, as text and as stored."""

import json

import torch
from safetensors.torch import save_file

from models.segformer import SegFormer
from models.weights import load_weights


def test_the_report_can_be_read_and_stored(b0_state, tmp_path):
    save_file(b0_state | {"extra": torch.zeros(1)}, tmp_path / "weights.safetensors")
    names = ["person", "couch", "flower", "cat", "dog", "bus", "tv"]
    model = SegFormer("b0", num_classes=7)
    report = load_weights(model, str(tmp_path / "weights.safetensors"), class_names=names)
    lines = report.summary().splitlines()
    assert [line.split()[0] for line in lines] == ["weights", "encoder", "head", "other", "classes"]
    assert lines[0].endswith("licence: unknown")
    assert "100.0%" in lines[1] and "2 reshaped" in lines[2] and "extra" in lines[3]
    assert "6 rows by name (VOC, by their number): person, couch from sofa, cat," in lines[4]
    assert lines[4].endswith("1 initialised: flower")
    stored = json.loads(json.dumps(report.to_dict()))
    assert stored["layout"] == "trident"
    assert stored["parts"]["encoder"]["missing"] == []
    assert stored["num_parameters"] == sum(p.numel() for p in model.parameters())
    assert stored["classes"]["moved"]["tv"] == "tvmonitor"
    assert stored["classes"]["initialised"] == ["flower"]
