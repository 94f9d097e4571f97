"""`trident doctor` from its command line to its exit code and files."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.doctor import main

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / "recipes/b2_ce_dice.yaml")


def arguments(root: Path, *more: str) -> list[str]:
    return [RECIPE, f"data.root={root}", "data.train=train", *more]


def plant_unknown_id(root: Path) -> Path:
    path = root / "SegmentationClass/train_000002.png"
    labels = np.array(Image.open(path))
    labels[:5] = 99
    Image.fromarray(labels).save(path)
    return path


def shift_ids(root: Path) -> None:
    """Every mask: ids start at 1, and all 21 are there."""
    for path in (root / "SegmentationClass").glob("*.png"):
        labels = np.array(Image.open(path))
        labels[0, :20] = np.arange(20)
        labels[labels == 0] = 20
        labels[0, 20:] = 0
        Image.fromarray(np.where(labels == 255, 255, labels + 1).astype(np.uint8)).save(path)


def test_data_that_can_be_trained_on_is_exit_0(voc_folder, capsys) -> None:
    assert main(arguments(voc_folder)) == 0
    out = capsys.readouterr().out
    assert "absent_classes" in out and "person" in out and "10 samples" in out


def test_a_finding_that_spoils_training_is_exit_2_and_named(voc_folder, capsys) -> None:
    plant_unknown_id(voc_folder)
    assert main(arguments(voc_folder)) == 2
    out = capsys.readouterr().out
    assert "unknown_values" in out and "data.ignore_index=99" in out
    assert "1 that would spoil training" in out


def test_the_json_has_every_finding(voc_folder, tmp_path) -> None:
    path = plant_unknown_id(voc_folder)
    assert main(arguments(voc_folder, "--out", str(tmp_path / "doctor.json"))) == 2
    content = json.loads((tmp_path / "doctor.json").read_text())
    (found,) = [f for f in content["findings"] if f["severity"] == "spoils"]
    assert (found["check"], found["where"], found["num_files"]) == ("unknown_values", [str(path)], 1)
    assert content["num_samples"] == {"train": 6, "val": 4}
    assert [row["name"] for row in content["values"] if row["value"] == 99] == ["unknown"]


def test_an_existing_file_is_not_overwritten(voc_folder, tmp_path, capsys) -> None:
    (tmp_path / "mine.json").write_text("mine")
    assert main(arguments(voc_folder, "--out", str(tmp_path / "mine.json"))) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (tmp_path / "mine.json").read_text() == "mine"


def test_fix_writes_a_copy_without_findings(voc_folder, tmp_path, capsys) -> None:
    shift_ids(voc_folder)
    assert main(arguments(voc_folder)) == 2
    assert "ids_from_one" in capsys.readouterr().out
    assert main(arguments(voc_folder, "--fix", str(tmp_path / "mended"))) == 0
    out = capsys.readouterr().out
    assert "10 masks got renumbered ids" in out
    assert f"data.root={tmp_path / 'mended'}" in out
    assert main(arguments(tmp_path / "mended")) == 0


def test_fix_into_the_source_is_refused(voc_folder, capsys) -> None:
    assert main(arguments(voc_folder, "--fix", str(voc_folder / "mended"))) == 2
    assert "inside the source" in capsys.readouterr().err


def test_drawn_scenes_have_their_labels_checked(capsys) -> None:
    scenes = ["data.synthetic.train_samples=6", "data.synthetic.val_samples=4", "data.synthetic.size=32"]
    assert main([str(ROOT / "recipes/demo.yaml"), *scenes]) == 0
    out = capsys.readouterr().out
    assert "Not checked: image files and duplicates" in out and "void" in out


def test_a_missing_folder_is_a_finding_with_a_remedy(tmp_path, capsys) -> None:
    assert main(arguments(tmp_path / "nowhere")) == 2
    assert "data.root" in capsys.readouterr().out


@pytest.mark.parametrize("severity", ["spoils", "hurts"])
def test_remedies_are_valid_overrides(voc_folder, capsys, severity) -> None:
    """The remedy of a finding must load."""
    from engine.data.doctor import examine, list_samples_of
    from engine.recipe import load_recipe

    plant_unknown_id(voc_folder) if severity == "spoils" else None
    data = load_recipe(RECIPE, arguments(voc_folder)[1:]).data
    findings = examine(list_samples_of(data), lambda done, total: None).report.findings
    words = [word.rstrip(".,;") for f in findings for word in shlex.split(f.remedy)]
    overrides = [word for word in words if "=" in word and "<" not in word and "those" not in word]
    overrides = [word for word in overrides if not word.startswith("data.classes")]
    for override in overrides:
        load_recipe(RECIPE, [override])
    assert (severity == "hurts") or "data.ignore_index=99" in overrides
    assert (severity == "hurts") or any(
        override.startswith("data.ids={99: void, 255: void, 0: 0") for override in overrides
    )
