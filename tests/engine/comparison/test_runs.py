"""Reading finished runs: cost from a log, methods from recipes, and runs that cannot be compared."""

from dataclasses import replace

import pytest

from engine.comparison.grid import CompareError
from engine.comparison.runs import Method, ScoredRun, group_by_recipe, require_comparable
from engine.run_folder import DataIdentity, RunFolder
from engine.scoring.metrics import overlaps
from engine.scoring.run import Cost, Run
from tests.engine.comparison.conftest import CLASSES, IDS, MakeRun, counts


def grouped(*runs: RunFolder) -> list[Method]:
    return group_by_recipe(ScoredRun.of(Run(run)) for run in runs)


def test_cost_by_hand() -> None:
    """Updates 1 to 10 took 2 s each, 11 to 30 1 s, 31 to 40 3 s: 20 + 20 + 30 s."""
    rows = [
        {"step": step, "split": "train", "time": seconds, "memory": memory, "energy": joules}
        for step, seconds, memory, joules in ((10, 2.0, 5, 100), (30, 1.0, 9, 50.5), (40, 3.0, 7, 0))
    ]
    evaluation = {"step": 40, "split": "val", "mIoU": 0.5}
    assert Cost.of([*rows, evaluation], batch=8) == Cost(2.0, 4.0, 9, 70.0, 150.5)
    without = [{key: value for key, value in row.items() if key != "energy"} for row in rows]
    assert Cost.of(without, batch=8).energy_j is None
    assert Cost.of([evaluation], batch=8) == Cost(None, None, None, None, None)


def test_the_score_is_that_of_the_best_checkpoint(make_run: MakeRun) -> None:
    run = ScoredRun.of(Run(make_run("a-s3", right=0.7, seed=3)))
    assert (run.overlaps == overlaps(counts(0.7, 3))).all()
    assert [values.tolist() for values in run.run.curve("mIoU")] == [[5, 10], [0.25, 0.5]]
    assert run.run.cost == Cost(0.375, 4 / 0.375, 1000.0, 5 * 0.5 + 5 * 0.25, None)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a-s0", "a-s1"], "a"),
        (["b0_ce_s0", "b0_ce_s1"], "b0_ce"),
        (["demo-0", "demo-1"], "demo"),
        (["run.seed0", "run.seed1"], "run"),
        (["b0", "again"], "b0"),  # the 0 in b0 is not a seed
    ],
)
def test_runs_that_differ_in_their_seed_are_one_method(
    names: list[str], expected: str, make_run: MakeRun
) -> None:
    [method] = grouped(*(make_run(name, seed=seed) for seed, name in enumerate(names)))
    assert method.name == expected
    assert [run.seed for run in method.runs] == [0, 1]


def fold(make_run: MakeRun, name: str, number: int, weights: str) -> ScoredRun:
    """The run of a fold, whose class weights were counted on its own training images."""
    run = make_run(name)
    of_fold = run.recipe.read_text().replace("synthetic}", f"synthetic, fold: {number}.txt}}")
    run.recipe.write_text(f"{of_fold}loss: [{{name: cross_entropy, class_weights: {weights}}}]\n")
    return replace(ScoredRun.of(Run(run)), ids=[f"{number} {id}" for id in IDS])


def test_folds_may_differ_in_what_their_images_decide(make_run: MakeRun) -> None:
    folds = [fold(make_run, f"a-s0-f{n}", n, w) for n, w in enumerate(("[1, 2.5, 3]", "[1, 2, 3]"))]
    [method] = group_by_recipe(folds)
    assert method.name == "a"
    assert [part.path for part in method.runs[0].folds] == [one.path for one in folds]
    other = [fold(make_run, f"b-s0-f{n}", n, "none") for n in range(2)]
    assert [method.name for method in group_by_recipe([*folds, *other])] == ["a", "b"]


def test_other_recipes_are_other_methods_with_distinct_names(make_run: MakeRun) -> None:
    methods = grouped(make_run("m-s0", steps=10), make_run("m-s1", seed=1, steps=20))
    assert [method.name for method in methods] == ["m-s0", "m-s1"]
    runs = [make_run("one/m-s0"), make_run("two/m-s0", steps=20)]
    assert [method.name for method in grouped(*runs)] == [str(run.path) for run in runs]


def test_the_same_training_twice_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(CompareError, match="twin-s0.*one recipe with one seed"):
        grouped(make_run("a-s0"), make_run("twin-s0"))


def test_a_run_that_has_not_finished_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(CompareError, match="young has not finished.*--resume"):
        grouped(make_run("young", finished=False))


OTHER_VAL = DataIdentity(
    format="synthetic", train="train", val="val", train_fingerprint="t", val_fingerprint="w" * 64
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"class_names": [*CLASSES[:2], "whale"]}, "classes are ground, cat, whale"),
        ({"data": OTHER_VAL}, "wwwwwwww, not vvvvvvvv"),
        ({"flip": "true"}, "'flip': True"),
        ({"skipped": (IDS[4],)}, "1 image could.*image4"),
    ],
)
def test_runs_with_different_images_classes_or_protocols_are_refused(
    changes: dict, reason: str, make_run: MakeRun
) -> None:
    methods = grouped(make_run("a"), make_run("b", steps=20, **changes))
    with pytest.raises(CompareError, match=f"b cannot be compared with .*a: .*{reason}"):
        require_comparable(methods)


def test_runs_that_were_scored_in_the_same_way_are_compared(make_run: MakeRun) -> None:
    require_comparable(grouped(make_run("a"), make_run("b", steps=20)))
