"""Static quantisation: a smaller file, calibrated on train, and scored next to float32 on val."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.data.sample import Sample
from engine.exporting import ExportError, int8
from engine.exporting.int8 import cost_file, export_int8
from engine.scoring.segmenter import open_segmenter

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed: unchecked")
onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed: unchecked")

SIZES = [(66, 70), (90, 64), (40, 200), (71, 71), (66, 70)]  # the third is too small for a graph


class Labelled:
    """Noise whose labels are what a segmenter predicts, so that its own scores are 1."""

    ignore_index, skipped = 255, None

    def __init__(self, segmenter, seed: int):
        self.class_names = segmenter.class_names
        self.samples = []
        for number, size in enumerate(SIZES):
            generator = torch.Generator().manual_seed(100 * seed + number)
            image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
            self.samples.append(Sample(str(number), image, segmenter.predict(image).labels))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def sizes(self) -> list[tuple[int, int]]:
        return SIZES


@pytest.fixture
def steps() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture
def progress(steps) -> Callable[[str], Callable[[int, int], None]]:
    return lambda what: lambda done, total: steps.append((what, done, total))


def test_a_file_of_8_bits_and_its_cost(
    small_segformer, traced_segformer, progress, steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.exporting.onnx_graph.trace", lambda graph: traced_segformer)
    section = small_segformer.trained.recipe.data
    splits = {section.train: Labelled(small_segformer, 1), section.val: Labelled(small_segformer, 2)}
    monkeypatch.setattr(int8, "_split", lambda segmenter, name: splits[name])
    out = tmp_path / "deep/model.onnx"
    difference, cost = export_int8(small_segformer, out, 3, progress)
    assert 0 < difference < 1e-4
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.onnx", "model.onnx.json"]
    assert [step[:2] for step in steps] == [
        *(("calibrating", number) for number in (1, 2, 3)),
        *(("scoring", number) for number in (1, 2, 3, 4)),
    ]
    assert (cost.num_images, cost.left_out, cost.num_calibration) == (4, 1, 3)
    assert cost.fp32.mIoU > 0.999  # the labels are the predictions of torch
    assert 0.5 < cost.agreement < 1 and cost.int8.mIoU < cost.fp32.mIoU
    stored = json.loads(cost_file(out).read_text())
    assert stored["model"] == "small" and stored["int8"]["mIoU"] == cost.int8.mIoU
    assert stored["agreement"] == cost.agreement

    kinds = [one.data_type for one in onnx.load(out).graph.initializer if len(one.dims) == 4]
    assert kinds.count(onnx.TensorProto.INT8) > 5  # the weights of convolutions
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == ["ground", "cat", "dog"]
    same = total = 0
    for index in (0, 1, 3, 4):  # counted here by hand
        sample = splits[section.val][index]
        labels = session.run(["labels"], {"images": sample.image[None].numpy()})[0][0]
        same += int((labels == sample.labels.numpy()).sum())
        total += labels.size
    assert cost.agreement == pytest.approx(same / total, abs=1e-3)
    lines = "\n".join(cost.lines())
    assert (
        "4 images, 1 too small for a graph left out" in lines and f"{cost.int8.mIoU:.4f} in 8 bits" in lines
    )


def test_images_that_are_all_too_small_are_an_error(voc_run, progress, tmp_path: Path) -> None:
    segmenter = open_segmenter(voc_run(), "cpu", ["eval.scales=[0.5]"])
    with pytest.raises(ExportError, match="No image of train has sides of 128 px or more"):
        export_int8(segmenter, tmp_path / "model.onnx", 3, progress)
    assert not (tmp_path / "model.onnx").exists()
