"""Ensembles on disk and back."""

import errno
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from engine.data import open_split
from engine.run_folder import DiskError, RunFolderError
from engine.scoring.combining import Combination, EarlyExit
from engine.scoring.confusion import Scores
from engine.scoring.ensembles.saved import is_saved, save_ensemble
from engine.scoring.ensembles.selection import Ensemble, one_hot
from engine.scoring.ensembling import Candidate, group_candidates, load_member
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.trained import Trained, open_trained

CPU = torch.device("cpu")
BY_CLASS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0.0,) * 6, (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
CHOICES = {
    "mean": Ensemble(Combination.mean(3)),
    "temperature": Ensemble(Combination("logit", ((0.2,), (0.3,), (0.5,)), (1.2, 0.8, 1.0))),
    "class_weighted": Ensemble(Combination("probability", BY_CLASS, (1.0,) * 3)),
    "greedy": Ensemble(one_hot(1, 3)),
}


@pytest.fixture
def candidates(make_run: Callable) -> list[Candidate]:
    [group] = group_candidates([make_run("a", {1: 0.5, 2: 0.4}, "a"), make_run("b", {3: 0.3}, "b")])
    return group.candidates


def scores(candidates: list[Candidate]) -> Scores:
    names = tuple(candidates[0].manifest.class_names)
    return Scores.of(torch.eye(len(names), dtype=torch.int64).numpy(), names)


def save(path: Path, choice: Ensemble, candidates: list[Candidate], soup=None, overrides=()) -> None:
    save_ensemble(path, "method", choice, scores(candidates).metrics, candidates, overrides, soup)


def predict(trained: Trained, image: torch.Tensor) -> torch.Tensor:
    predictor = Predictor(EvaluationProtocol(), nullcontext)
    return trained.combination([predictor(model, image) for model in trained.members.values()])


@pytest.mark.parametrize("method", CHOICES)
def test_a_saved_ensemble_is_read_back_and_predicts_the_same(method: str, candidates, tmp_path: Path) -> None:
    choice = CHOICES[method]
    save(tmp_path / "saved", choice, candidates)
    trained = open_trained(tmp_path / "saved", CPU)
    image = open_split(trained.recipe.data, "val")[0].image[None]
    predictor = Predictor(EvaluationProtocol(), nullcontext)
    before = choice.combination([predictor(load_member(c, CPU), image) for c in candidates])
    torch.testing.assert_close(predict(trained, image), before)
    names = ["a step 1", "a step 2", "b step 3"]
    assert list(trained.members) == [names[number] for number in choice.combination.used]
    assert trained.class_names == tuple(candidates[0].manifest.class_names)


@pytest.mark.parametrize(
    ("exits", "same"),
    [
        (EarlyExit(1, 0.9), True),
        (EarlyExit(1, 0.9 + 1e-8), True),  # the rounding of another machine
        (EarlyExit(1, 0.8), False),
        (EarlyExit(2, 0.9), False),
        (None, False),
    ],
)
def test_an_ensemble_of_another_early_exit_is_another_one(exits, same: bool, candidates, tmp_path) -> None:
    def mean(early_exit: EarlyExit | None) -> Ensemble:
        return Ensemble(replace(Combination.mean(3), early_exit=early_exit))

    for name, held in (("with", EarlyExit(1, 0.9)), ("without", None)):
        save(tmp_path / name, mean(held), candidates)
    assert is_saved(tmp_path / "with", "method", mean(exits), candidates) == same
    assert is_saved(tmp_path / "without", "method", mean(exits), candidates) == (exits is None)


def test_members_without_weight_are_not_saved(candidates, tmp_path: Path) -> None:
    save(tmp_path / "saved", CHOICES["class_weighted"], candidates)
    files = sorted(path.name for path in (tmp_path / "saved/members").iterdir())
    assert files == [
        "0-a-step-0000001.safetensors",
        "0-a-step-0000001.yaml",
        "2-b-step-0000003.safetensors",
        "2-b-step-0000003.yaml",
    ]


def test_the_name_of_a_run_makes_no_path(make_run: Callable, tmp_path: Path) -> None:
    run = make_run("a", {1: 0.5}, "a")
    run.write_manifest(run.read_manifest().model_copy(update={"name": "../../a"}))
    [group] = group_candidates([run])
    save(tmp_path / "saved", Ensemble(one_hot(0, 1)), group.candidates)
    files = sorted(path.name for path in (tmp_path / "saved/members").iterdir())
    assert files == ["0-a-step-0000001.safetensors", "0-a-step-0000001.yaml"]


def test_a_soup_is_an_ensemble_of_one(candidates, tmp_path: Path) -> None:
    model = load_member(candidates[2], CPU)
    save(tmp_path / "saved", Ensemble(one_hot(0, 3), soup=(0, 1)), candidates, soup=model)
    trained = open_trained(tmp_path / "saved", CPU)
    assert list(trained.members) == ["soup of a step 1, a step 2"]
    [loaded] = trained.members.values()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_a_soup_of_other_weights_is_another_ensemble(candidates, tmp_path: Path) -> None:
    """Although its members have the same names, as where a run was trained again."""
    soup = Ensemble(one_hot(0, 3), soup=(0, 1))
    save(tmp_path / "saved", soup, candidates, soup=load_member(candidates[2], CPU))
    for number, same in ((2, True), (1, False)):
        model = load_member(candidates[number], CPU)
        assert is_saved(tmp_path / "saved", "method", soup, candidates, model) == same


def test_the_licences_of_all_weights_are_saved(candidates, tmp_path: Path) -> None:
    ours, theirs = {"source": "hf:a", "licence": "Apache-2.0"}, {"source": "hf:b", "licence": "NVIDIA"}
    own = [
        replace(candidate, manifest=candidate.manifest.model_copy(update={"weights": origin}))
        for candidate, origin in zip(candidates, (ours, theirs, None), strict=True)
    ]
    save(tmp_path / "mean", CHOICES["mean"], own)
    assert open_trained(tmp_path / "mean", CPU).weights == [ours, theirs, None]
    soup = Ensemble(one_hot(0, 3), soup=(0, 1, 2))
    save(tmp_path / "soup", soup, own, soup=load_member(own[0], CPU))
    [origin] = open_trained(tmp_path / "soup", CPU).weights
    assert origin == {"source": "hf:a; hf:b", "licence": "Apache-2.0; NVIDIA"}


def test_the_saved_recipes_have_the_protocol_of_the_scores(candidates, tmp_path: Path) -> None:
    save(tmp_path / "saved", CHOICES["mean"], candidates, overrides=["eval.flip=true"])
    assert open_trained(tmp_path / "saved", CPU).recipe.eval.flip


def test_a_folder_that_is_not_empty_is_refused(candidates, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="mine is there already"):
        save(folder, CHOICES["mean"], candidates)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_accepted(candidates, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty", CHOICES["mean"], candidates)
    assert len(open_trained(tmp_path / "empty", CPU).members) == 3


def test_an_error_while_saving_leaves_no_files(candidates, tmp_path: Path) -> None:
    candidates[2].path.unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "saved", CHOICES["mean"], candidates)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, "No space left on device")])
def test_a_full_disk_is_named_and_nothing_is_left(
    error: OSError | None, candidates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of members, which are copied; and of a soup, for which safetensors has an error of its own."""
    said = error or SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    def full(source: object, target: object, *more: object) -> None:
        raise said

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr("safetensors.torch.save_file", full)
    soup = None if error else load_member(candidates[0], CPU)
    choice = CHOICES["mean"] if error else Ensemble(one_hot(0, 3), (0, 1))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DiskError, match="saved: No space left on device. Free some .* Then repeat"):
        save(tmp_path / "saved", choice, candidates, soup)
    assert sorted(tmp_path.iterdir()) == before


def test_a_soup_may_have_tensors_that_share_memory(candidates, tmp_path: Path) -> None:
    model = load_member(candidates[0], CPU)
    model.register_buffer("again", next(model.parameters()).detach(), persistent=True)
    save(tmp_path / "saved", Ensemble(one_hot(0, 3), (0, 1)), candidates, model)
    saved = load_file(tmp_path / "saved/members/soup.safetensors")
    assert torch.equal(saved["again"], next(model.parameters()))


def test_a_link_to_an_empty_folder_is_filled(candidates, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "large")
    save(tmp_path / "link", CHOICES["mean"], candidates)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "large/combination.json").is_file()


def test_an_altered_member_is_refused(candidates, tmp_path: Path) -> None:
    save(tmp_path / "saved", CHOICES["mean"], candidates)
    path = tmp_path / "saved/members/0-a-step-0000001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match="SHA-256"):
        open_trained(tmp_path / "saved", CPU)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content["combination"]["weights"].pop(), "its weights and a temperature"),
        (lambda content: content["combination"]["temperatures"].pop(), "its weights and a temperature"),
        (lambda content: content["members"][1].update(name="a step 1"), "a name of its own"),
        (lambda content: content["combination"]["weights"][0].append(0.5), "one for each class"),
    ],
)
def test_a_combination_that_does_not_fit_its_members_is_refused(
    damage: Callable, message: str, candidates, tmp_path: Path
) -> None:
    save(tmp_path / "saved", CHOICES["mean"], candidates)
    path = tmp_path / "saved/combination.json"
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match=f"combination.json is damaged at its start: .*{message}"):
        open_trained(tmp_path / "saved", CPU)


def test_the_partial_folder_of_a_killed_process_is_named(candidates, tmp_path: Path) -> None:
    (tmp_path / "saved.part").mkdir()
    with pytest.raises(RunFolderError, match="saved.part .*remove it"):
        save(tmp_path / "saved", CHOICES["mean"], candidates)
    assert (tmp_path / "saved.part").is_dir()
