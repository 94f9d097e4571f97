"""Finished runs that the test wrote, as candidates for an ensemble."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch
from safetensors.torch import load_file

import engine.data
from engine.data import Dataset
from engine.recipe import Recipe, load_recipe
from engine.run_folder import RunFolder, RunFolderError, find_runs, sha256_of
from engine.scoring.confusion import Scores
from engine.scoring.ensembling import (
    Candidate,
    distinct_names,
    ensemble_report,
    group_candidates,
    load_member,
    open_val,
    score_together,
)
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.selection_split import open_select
from engine.scoring.trained import find_checkpoint

CPU = torch.device("cpu")
MakeRun = Callable[..., RunFolder]


def rewrite_manifest(run: RunFolder, **changes) -> None:
    run.write_manifest(run.read_manifest().model_copy(update=changes))


def candidates_of(*runs: RunFolder) -> list[Candidate]:
    [group] = group_candidates(runs)
    return group.candidates


def score(candidates: list[Candidate], **options) -> tuple[dict[str, Scores], Dataset]:
    _, val = open_val(candidates[0], ())
    return score_together(candidates, val, EvaluationProtocol(), CPU, workers=0, **options), val


def test_checkpoints_of_all_runs_are_ranked_together(make_run: MakeRun) -> None:
    runs = [make_run("a", {10: 0.5, 30: 0.7}, "a"), make_run("b", {20: 0.6, 5: 0.7}, "b")]
    candidates = candidates_of(*runs)
    assert [c.name for c in candidates] == ["b step 5", "a step 30", "b step 20", "a step 10"]
    assert candidates[0].path == runs[1].top / "step-0000005.safetensors"


def test_candidates_are_ranked_by_the_metric_that_kept_them(make_run: MakeRun) -> None:
    """So the first candidate of a run is the best checkpoint of `find_checkpoint`."""
    run, other = make_run("a", {10: 0.7, 20: 0.6}, "a"), make_run("b", {30: 0.65}, "b")
    members = [
        member.model_copy(update={"scores": member.scores | {"aAcc": aAcc}})
        for member, aAcc in zip(reversed(run.read_manifest().members), (0.9, 0.8), strict=True)
    ]
    rewrite_manifest(run, metric="aAcc", members=members)
    assert [c.member.step for c in candidates_of(run)] == [20, 10]
    assert find_checkpoint(run.path)[2].step == 20
    assert [c.member.step for c in candidates_of(run, other)] == [10, 30, 20]  # by mIoU: metrics differ


def test_runs_on_other_images_or_classes_are_separate_groups(make_run: MakeRun) -> None:
    runs = [make_run(f, {1: 0.5}, f, seed) for f, seed in (("a", 0), ("b", 0), ("images", 1), ("classes", 0))]
    names = runs[3].read_manifest().class_names
    rewrite_manifest(runs[3], class_names=[*names[:-1], "seaweed"])
    groups = group_candidates(runs)
    assert [[run.path.name for run in group.runs] for group in groups] == [
        ["a", "b"],
        ["images"],
        ["classes"],
    ]
    assert len({group.title for group in groups}) >= 2
    assert groups[0].title.startswith("synthetic val (") and groups[0].title.endswith("6 classes")


def test_the_order_of_the_classes_matters(make_run: MakeRun) -> None:
    runs = [make_run("a", {1: 0.5}, "a"), make_run("b", {1: 0.5}, "b")]
    rewrite_manifest(runs[1], class_names=runs[1].read_manifest().class_names[::-1])
    assert len(group_candidates(runs)) == 2


def test_a_run_without_checkpoints_is_in_no_group(make_run: MakeRun) -> None:
    assert group_candidates([make_run("young", {})]) == []
    assert len(candidates_of(make_run("old", {1: 0.5}), make_run("newborn", {}))) == 1


def test_a_member_is_loaded_as_it_was_saved(make_run: MakeRun) -> None:
    [candidate] = candidates_of(make_run("a", {7: 0.5}))
    model = load_member(candidate, CPU)
    assert not model.training
    saved = load_file(candidate.path)
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())


def test_a_checkpoint_with_another_sha256_is_refused(make_run: MakeRun) -> None:
    [candidate] = candidates_of(make_run("a", {7: 0.5}))
    content = bytearray(candidate.path.read_bytes())
    content[-1] ^= 1
    candidate.path.write_bytes(content)
    with pytest.raises(RunFolderError, match="step-0000007.safetensors was altered.*SHA-256"):
        load_member(candidate, CPU)


def test_a_missing_checkpoint_is_named(make_run: MakeRun) -> None:
    [candidate] = candidates_of(make_run("a", {7: 0.5}))
    candidate.path.unlink()
    with pytest.raises(RunFolderError, match=r"step-0000007.safetensors is missing.*manifest lists it"):
        load_member(candidate, CPU)


def test_a_checkpoint_of_other_classes_is_a_clear_error(make_run: MakeRun) -> None:
    run = make_run("a", {7: 0.5})
    manifest = run.read_manifest()
    rewrite_manifest(run, class_names=manifest.class_names[:-1], palette=manifest.palette[:-1])
    with pytest.raises(
        RunFolderError, match="does not fit the model.* with 5 classes.*size mismatch"
    ) as caught:
        load_member(candidates_of(run)[0], CPU)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_a_checkpoint_is_a_clear_error(make_run: MakeRun) -> None:
    run = make_run("a", {7: 0.5})
    [candidate] = candidates_of(run)
    candidate.path.write_bytes(b"not tensors")
    member = candidate.member.model_copy(update={"sha256": sha256_of(candidate.path)})
    rewrite_manifest(run, members=[member])
    with pytest.raises(RunFolderError, match="does not fit the model"):
        load_member(candidates_of(run)[0], CPU)


def test_data_with_other_classes_is_a_clear_error(make_run: MakeRun) -> None:
    run = make_run("a", {7: 0.5})
    rewrite_manifest(run, class_names=["background", "whale"], palette=[(0, 0, 0), (0, 0, 255)])
    with pytest.raises(RunFolderError, match=r"trained on 2 classes \(background, whale\).*the data has 6"):
        open_val(candidates_of(run)[0], ())


def test_other_images_than_those_of_the_run_are_refused(make_run: MakeRun) -> None:
    [candidate] = candidates_of(make_run("a", {7: 0.5}))
    recipe, val = open_val(candidate, ["eval.flip=true"])
    assert recipe.eval.flip and len(val) == 5
    with pytest.raises(RunFolderError, match="'val' are not those that .*a was scored on.*data.root="):
        open_val(candidate, ["data.synthetic.seed=5"])


def with_select(run: RunFolder, root: Path, name: str | None) -> Recipe:
    """The run's recipe, on a folder in VOC layout."""
    run.recipe.write_text(f"name: a\ndata: {{root: {root}, train: train, select: {name or 'null'}}}\n")
    return load_recipe(run.recipe, ["model.from_scratch=true"])


def test_a_selection_split_that_overlaps_train_or_val_is_refused(make_run, voc_folder: Path) -> None:
    run = make_run("a", {1: 0.3})
    [candidate] = candidates_of(run)
    lists = voc_folder / "ImageSets/Segmentation"
    ids = (lists / "val.txt").read_text().split()
    train = (lists / "train.txt").read_text().split()
    for name, chosen in {"mine": ids[1:3], "leaks": [ids[1], train[0], train[1]]}.items():
        (lists / f"{name}.txt").write_text("".join(f"{id}\n" for id in chosen))
    (lists / "val.txt").write_text("".join(f"{id}\n" for id in ids[3:]))

    def select_of(name: str | None) -> Dataset | None:
        recipe = with_select(run, voc_folder, name)
        return open_select(recipe, [candidate], engine.data.open_split(recipe.data, "val"))

    assert select_of("mine").ids == ids[1:3]
    assert select_of(None) is None and select_of("val") is None
    with pytest.raises(
        RunFolderError, match=f"2 of 3 images of split 'leaks' are among those.*{train[0]}, {train[1]}"
    ):
        select_of("leaks")
    (lists / "val.txt").write_text("".join(f"{id}\n" for id in ids[2:]))
    with pytest.raises(RunFolderError, match=f"1 of 2 images of split 'mine' is in 'val'.*: {ids[2]}"):
        select_of("mine")


def test_members_and_their_mean_are_scored_in_one_pass(make_run: MakeRun, tmp_path: Path) -> None:
    candidates = candidates_of(make_run("a", {1: 0.3, 2: 0.4}))
    output = []
    scores, val = score(
        candidates, scores_path=tmp_path / "scores.h5", progress=lambda *numbers: output.append(numbers)
    )
    assert list(scores) == ["step 2", "step 1", "mean"]
    assert output[-1] == (5, 5)

    models = [load_member(candidate, CPU) for candidate in candidates]
    correct, labelled = 0, 0
    for sample in (val[index] for index in range(len(val))):
        with torch.no_grad():
            logits = [model(sample.image[None]) for model in models]
        up = [torch.nn.functional.interpolate(x, (32, 32), mode="bilinear") for x in logits]
        predicted = torch.stack([x.softmax(dim=1) for x in up]).mean(dim=0).argmax(dim=1)[0]
        correct += int(((predicted == sample.labels) & (sample.labels != 255)).sum())
        labelled += int((sample.labels != 255).sum())
    assert scores["mean"].num_pixels == labelled
    accuracy = scores["mean"].metrics["aAcc"]
    assert accuracy == pytest.approx(correct / labelled, abs=1e-3)  # a tie may be resolved either way
    with h5py.File(tmp_path / "scores.h5") as file:
        for name, of_name in scores.items():
            assert Scores.of(file[f"confusion/{name}"][:].sum(axis=0), val.class_names).mIoU == of_name.mIoU


def test_a_failed_scoring_leaves_the_old_counts(make_run: MakeRun, tmp_path: Path) -> None:
    candidates = candidates_of(make_run("a", {1: 0.3}))
    path = tmp_path / "scores.h5"
    path.write_text("the old ones")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(candidates, scores_path=path, progress=interrupt)
    assert path.read_text() == "the old ones"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["scores.h5"]


def test_two_runs_of_one_name_are_two_members(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("seed0/demo", {1: 0.3}), make_run("seed1/demo", {1: 0.2, 2: 0.1})]
    candidates = candidates_of(*runs)
    names = distinct_names(candidates)
    assert names == [f"{runs[0].path} step 1", f"{runs[1].path} step 1", "demo step 2"]
    scores, val = score(candidates)
    assert list(scores) == [*names, "mean"]
    report = ensemble_report(candidates, scores, EvaluationProtocol(), val, tmp_path)
    assert [member["mIoU"] for member in report["members"]] == [scores[name].mIoU for name in names]


def test_the_report_is_json_with_paths_scores_protocol_and_data(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("runs/a", {1: 0.3}, "a")
    make_run("runs/b", {2: 0.4}, "b")
    candidates = candidates_of(*find_runs(tmp_path / "runs"))
    scores, val = score(candidates)
    written = ensemble_report(candidates, scores, EvaluationProtocol(flip=True), val, tmp_path / "runs")
    report = json.loads(json.dumps(written, allow_nan=False))
    first = report["members"][0]
    assert (first["path"], first["step"]) == ("b/top/step-0000002.safetensors", 2)
    assert first["mIoU"] == scores["b step 2"].mIoU
    mean = report["ensembles"]["mean"]
    assert set(mean) == {"mIoU", "mAcc", "aAcc", "IoU"}
    assert list(mean["IoU"]) == list(val.class_names)
    assert mean["mIoU"] == scores["mean"].mIoU
    assert report["protocol"]["flip"] is True
    assert report["dataset"]["num_images"] == 5
    assert report["dataset"]["fingerprint"] == val.fingerprint()


def test_a_member_outside_the_folder_of_the_report_has_a_path_from_there(make_run, tmp_path: Path) -> None:
    """As after `trident ensemble checkpoints/a checkpoints/b`, which writes into the first."""
    runs = [make_run("a", {1: 0.3}, "a"), make_run("b", {2: 0.4}, "b")]
    candidates = candidates_of(*runs)
    scores, val = score(candidates)
    report = ensemble_report(candidates, scores, EvaluationProtocol(), val, runs[0].path)
    paths = [member["path"] for member in report["members"]]
    assert paths == ["../b/top/step-0000002.safetensors", "top/step-0000001.safetensors"]


def test_a_single_member_is_its_own_ensemble_and_absent_classes_are_null(make_run, tmp_path: Path) -> None:
    candidates = candidates_of(make_run("a", {1: 0.3}))
    _, val = score(candidates)
    counts = torch.zeros(6, 6, dtype=torch.int64)
    counts[0, 0], counts[1, 0] = 3, 1
    scores = {"step 1": Scores.of(counts.numpy(), val.class_names)}
    report = ensemble_report(candidates, scores, EvaluationProtocol(), val, tmp_path)
    assert report["ensembles"]["mean"]["IoU"]["background"] == 0.75
    assert report["ensembles"]["mean"]["IoU"][val.class_names[5]] is None
    assert report["dataset"]["absent"] == list(val.class_names[2:])
