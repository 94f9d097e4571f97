"""`trident prepare pack` from its command line to a run and an ensemble on the pack."""

import json
from pathlib import Path

import pytest

from engine.data.formats.voc import open_voc
from engine.data.packs.packed import PackedDataset
from engine.ensemble import main as ensemble
from engine.prepare import _num_bytes, main
from engine.run import main as run
from tests.engine.tiny_run import TINY_VOC, VOC_RECIPE


def pack(voc_folder: Path, out: Path, *more: str) -> int:
    return main(["pack", VOC_RECIPE, "--out", str(out), f"data.root={voc_folder}", "data.train=train", *more])


def test_the_splits_of_a_recipe_are_packed_and_the_training_command_printed(voc_folder, tmp_path, capsys):
    out = tmp_path / "voc.h5"
    assert pack(voc_folder, out) == 0
    printed = capsys.readouterr().out
    assert f"written: {out}" in printed and f"data.format=packed data.root={out}" in printed
    assert "Images: train 6, val 4." in printed
    assert PackedDataset(out, "val").fingerprint() == open_voc(voc_folder, "val").fingerprint()
    assert pack(voc_folder, out) == 2
    assert "--overwrite" in capsys.readouterr().err
    options = ("--overwrite", "--layout", "decoded", "--shard-size", "12KB", "data.select=train")
    assert pack(voc_folder, out, *options) == 0
    assert not out.exists() and PackedDataset(out, "train").layout == "decoded"
    assert capsys.readouterr().out.count("written:") == len([*tmp_path.glob("voc-*-of-*.h5")]) > 1


def test_mistakes_are_one_message(voc_folder, tmp_path, capsys):
    assert pack(voc_folder, tmp_path / "absent" / "voc.h5") == 2
    assert "no folder" in capsys.readouterr().err
    assert pack(tmp_path, tmp_path / "voc.h5") == 2
    assert "data.root" in capsys.readouterr().err
    assert pack(voc_folder, tmp_path / "voc.h5", "--shard-size", "2") == 2
    assert "such as 2GB" in capsys.readouterr().err
    assert main(["pac"]) == 2
    assert "pack" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "num_bytes"), [("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("7TB", 7 * 10**12), ("3KB", 3000)]
)
def test_sizes_have_units(text, num_bytes):
    assert _num_bytes(text) == num_bytes


def test_a_run_on_the_pack_is_bitwise_the_run_on_the_files(voc_folder, tmp_path, capsys):
    out, runs = tmp_path / "voc.h5", tmp_path / "runs"
    assert pack(voc_folder, out, "--layout", "decoded") == 0
    sources = {"files": [f"data.root={voc_folder}"], "pack": ["data.format=packed", f"data.root={out}"]}
    places = {"files": ("ram", "in ram"), "pack": ("disk", "read from disk at each use")}
    for name, data in sources.items():
        wish, printed = places[name]
        options = [f"data.resident={wish}", "data.workers=0", f"name={name}", f"output.dir={runs}"]
        assert run([VOC_RECIPE, *TINY_VOC, *data, *options]) == 0
        assert capsys.readouterr().out.count(f"MB decoded, {printed}") == 2  # of two splits
    digests, losses = [], []
    for name in sources:
        manifest = json.loads((runs / name / "manifest.json").read_text())
        digests.append([member["sha256"] for member in manifest["members"]])
        rows = [json.loads(line) for line in (runs / name / "log.jsonl").read_text().splitlines()]
        losses.append([row["loss"] for row in rows])
    assert digests[0] == digests[1] and losses[0] == losses[1]
    # Checkpoints of both can be combined, and either may be scored on the other's data.
    assert ensemble([str(runs)]) == 0
    assert ensemble([str(runs / "files"), *sources["pack"]]) == 0
    assert ensemble([str(runs / "pack"), "data.format=voc", f"data.root={voc_folder}"]) == 0


def test_a_run_is_resumed_on_a_pack_of_its_files(voc_folder, tmp_path):
    out = tmp_path / "voc.h5"
    assert pack(voc_folder, out) == 0
    common = [VOC_RECIPE, *TINY_VOC, f"output.dir={tmp_path}", "name=run"]
    assert run([*common, f"data.root={voc_folder}"]) == 0
    assert run([*common, "data.format=packed", f"data.root={out}", "--resume"]) == 0
