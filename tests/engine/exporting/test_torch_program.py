"""A program that torch.export.load reads predicts as the segmenter does."""

import json
from pathlib import Path

import pytest
import torch

from engine.exporting.graph import export_program


def test_images_of_four_bands(one_of_four_bands, tmp_path: Path) -> None:
    assert export_program(one_of_four_bands, tmp_path / "model.pt2") <= 1e-5
    images = torch.randint(0, 256, (1, 4, 65, 66), dtype=torch.uint8)
    _, probabilities = torch.export.load(tmp_path / "model.pt2").module()(images)
    torch.testing.assert_close(probabilities, one_of_four_bands.probabilities(images))


def test_a_segformer_at_every_size(
    small_segformer, traced_segformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.exporting.graph.trace", lambda graph: traced_segformer)
    out = tmp_path / "deep/model.pt2"
    assert export_program(small_segformer, out) <= 1e-5  # float32 sums in another order; 2.1e-6 was measured
    assert [path.name for path in out.parent.iterdir()] == ["model.pt2"]
    files = {"metadata.json": ""}
    run = torch.export.load(out, extra_files=files).module()
    assert json.loads(json.loads(files["metadata.json"])["class_names"]) == ["ground", "cat", "dog"]
    for batch, h, w in [(1, 65, 66), (2, 67, 96), (3, 128, 64)]:
        generator = torch.Generator().manual_seed(h)
        images = torch.randint(0, 256, (batch, 3, h, w), generator=generator, dtype=torch.uint8)
        labels, probabilities = run(images)
        torch.testing.assert_close(probabilities, small_segformer.probabilities(images))
        assert torch.equal(labels.long(), probabilities.argmax(dim=1))
    assert str(Path(__file__).parents[3]).encode() not in out.read_bytes()  # no path of this machine
