"""`trident diagnose` on a tiny run, from its command line to what it prints and writes."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.diagnose import main
from engine.diagnosis.label_check import LabelCheck
from engine.recipe import load_recipe
from engine.run import main as run_main
from engine.run_folder import CombinationValues, EnsembleManifest, EnsembleMember, RunFolder
from tests.engine.tiny_run import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three evaluations, each of which was kept."""
    folder = tmp_path_factory.mktemp("runs")
    values = ["data.synthetic.size=48", "data.synthetic.val_samples=6", "log.images=0"]
    assert run_main(tiny(folder, "tiny", *values)) == 0
    return folder / "tiny"


def test_findings_are_printed_under_their_topics(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(run)]) == 0
    printed = capsys.readouterr().out
    topics = ["weights", "mIoU curve", "over-fitting", "classes", "confusions", "places", "speed"]
    places = [printed.index(f"\n{topic}\n" if topic != "weights" else "weights\n") for topic in topics]
    assert places == sorted(places)
    assert "started from random weights" in printed
    assert f"trident run {run / 'recipe.yaml'} name=tiny_1 model.from_scratch=false" in printed


def test_out_takes_the_findings_and_the_picture(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out/diagnosis.json").read_text())
    assert written["name"] == "tiny" and len(written["findings"]) >= 7
    for recommendation in written["recommendations"]:
        load_recipe(run / "recipe.yaml", recommendation["recipe_lines"])
    with Image.open(tmp_path / "out/curve.png") as picture:
        assert picture.width > 600 and len(picture.convert("RGB").getcolors(1 << 20)) > 20


@pytest.fixture(scope="module")
def labels(run: Path) -> Path:
    assert main([str(run), "--labels"]) == 0
    return run / "labels-val"


def test_every_image_is_ranked(run: Path, labels: Path) -> None:
    ranking = json.loads((labels / "ranking.json").read_text())
    assert ranking["split"] == "val" and not ranking["trained_on_it"] and len(ranking["members"]) == 3
    assert sorted(image["id"] for image in ranking["images"]) == [f"val_{i:05d}" for i in range(6)]
    scores = [image["score"] for image in ranking["images"]]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0
    for image in ranking["images"]:
        assert image["score"] == pytest.approx(sum(region["score"] for region in image["regions"]))
    assert all(0 <= value <= 1 for value in ranking["thresholds"].values())


def test_the_table_has_a_row_for_each_region(labels: Path) -> None:
    images = json.loads((labels / "ranking.json").read_text())["images"]
    with (labels / "ranking.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(image["regions"]) for image in images)
    first, region = rows[0], images[0]["regions"][0]
    assert (first["id"], first["rank"], first["label"]) == (images[0]["id"], "1", region["label"])
    assert [int(first[side]) for side in ("left", "top", "right", "bottom")] == region["box"]
    assert all(0 <= int(row["left"]) < int(row["right"]) <= 48 for row in rows)


def test_the_page_needs_no_other_file(labels: Path) -> None:
    page = (labels / "index.html").read_text()
    ranking = json.loads((labels / "ranking.json").read_text())
    places = [page.index(f". {image['id']} ") for image in ranking["images"]]
    assert places == sorted(places)
    assert page.count('src="data:image/webp;base64,') == 3 * 6 == page.count("src=")
    assert "http" not in page and "<script" not in page
    assert ranking["trust"] < 0.5 and "unsure of these classes themselves" in page  # after six updates


def test_a_split_that_was_trained_on_is_marked_as_such(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert main([str(run / "top"), "--labels"]) == 2  # no run folder
    member = next((run / "top").iterdir())
    assert main([str(member), "--labels", "--split", "train", "--out", str(out)]) == 0
    assert "trained on the labels of train" in capsys.readouterr().out
    assert "The models were trained on these labels" in (out / "index.html").read_text()
    assert len(json.loads((out / "ranking.json").read_text())["members"]) == 1


def test_labels_are_checked_to_the_edge_where_the_protocol_scores_the_centre(
    run: Path,
) -> None:
    check = LabelCheck(run, ["eval.protocol=centercrop"], None, torch.device("cpu"))
    assert check.sees_more_than_scored
    assert check.predict(torch.zeros(1, 3, 40, 64, dtype=torch.uint8)).shape == (1, 6, 40, 64)


def test_a_saved_ensemble_checks_labels_with_its_own_weights(run: Path, tmp_path: Path) -> None:
    """One of two members has all the weight, so the ranking is that of its checkpoint."""
    folder, manifest = tmp_path / "saved", RunFolder(run).read_manifest()
    (folder / "members").mkdir(parents=True)
    shutil.copy(run / "recipe.yaml", folder / "recipe.yaml")
    members = []
    for member in manifest.members[:2]:
        file = f"members/{Path(member.file).name}"
        shutil.copy(run / member.file, folder / file)
        name = f"step {member.step}"
        members.append(EnsembleMember(name=name, file=file, recipe="recipe.yaml", sha256=member.sha256))
    content = EnsembleManifest(
        name="saved", code_version="0", method="weighted", class_names=manifest.class_names,
        palette=manifest.palette, data=manifest.data, members=members, scores={},
        combination=CombinationValues(space="probability", weights=((0.0,), (1.0,)), temperatures=(1, 1)),
    )  # fmt: skip
    (folder / "combination.json").write_text(content.model_dump_json())
    second = run / manifest.members[1].file
    assert main([str(folder), "--labels"]) == 0
    assert main([str(second), "--labels", "--out", str(tmp_path / "alone")]) == 0
    by_two = json.loads((folder / "labels-val/ranking.json").read_text())
    alone = json.loads((tmp_path / "alone/ranking.json").read_text())
    assert by_two["images"] == alone["images"] and len(by_two["members"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["{run}", "data.root=x"], "without --labels only files of the run are read"),
        (["{run}", "--split", "val"], "without --labels only files of the run are read"),
        (["{run}", "--out", "{run}"], "nothing is overwritten"),
        (["{run}", "--labels", "model.variant=b1"], "model.variant=b1"),
        (["{run}", "--out", "{run}/recipe.yaml/out"], "recipe.yaml is a file, not a folder"),
        (["{run}", "--labels", "--split", "test"], "no split 'test'"),
    ],
)
def test_wrong_input_is_exit_2_with_a_remedy(
    run: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert main([argument.format(run=run) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_second_label_check_does_not_overwrite_the_first(
    run: Path, labels: Path, capsys: pytest.CaptureFixture
) -> None:
    before = (labels / "index.html").stat().st_mtime_ns
    assert main([str(run), "--labels"]) == 2
    assert "labels-val exists already" in capsys.readouterr().err
    assert (labels / "index.html").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        ([], "engine.reporting.diagnosis.draw_curve"),
        (["--labels"], "engine.reporting.suspects.write_page"),
        (["--next", "1", "--pool", "{pool}"], "engine.reporting.next_labels._sheet"),
    ],
)
def test_what_fails_leaves_no_folder_that_would_refuse_the_same_command(
    run: Path, tmp_path: Path, arguments: list[str], last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*arguments: object) -> None:
        raise MemoryError

    (tmp_path / "pool").mkdir()
    for name in "ab":
        Image.new("RGB", (48, 48)).save(tmp_path / f"pool/{name}.png")
    monkeypatch.setattr(last, no_memory)
    words = [text.format(pool=tmp_path / "pool") for text in arguments]
    assert main([str(run), *words, "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()


def test_predictions_are_exported_for_correction_in_the_order_of_the_ranking(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert main([str(run), "--labels", "--export", "labelme", "--out", str(out)]) == 0
    assert "predictions to correct" in capsys.readouterr().out
    ranked = [image["id"] for image in json.loads((out / "ranking.json").read_text())["images"]]
    files = sorted((out / "labelme").glob("*.json"))
    assert [path.stem.split("_", 1)[1] for path in files] == [Path(id).name for id in ranked]
    assert all(path.with_suffix(".png").is_file() for path in files)
    assert json.loads(files[0].read_text())["imageWidth"] == 48
    assert main([str(run), "--export", "coco"]) == 2
    assert "--export" in capsys.readouterr().err
