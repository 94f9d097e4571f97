"""Checks of the class shares, against values computed by hand."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.data.doctor.class_checks import check_classes, jensen_shannon, rare
from engine.recipe import load_recipe

counts = arrays(np.float64, 5, elements=st.integers(0, 1000)).filter(lambda c: c.sum() > 0)


def test_the_divergence_of_two_pairs_of_classes_by_hand() -> None:
    """50:50 against 25:75: entropy of the middle (3/8, 5/8) minus the mean entropy, 0.95443 - 0.90564."""
    assert jensen_shannon(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.0488, abs=5e-5)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


@given(a=counts, b=counts)
def test_the_divergence_is_symmetric_and_in_bits(a: np.ndarray, b: np.ndarray) -> None:
    p, q = a / a.sum(), b / b.sum()
    assert jensen_shannon(p, p) == 0
    assert 0 <= jensen_shannon(p, q) <= 1 + 1e-12
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), abs=1e-12)


def test_the_worst_five_classes_are_named_with_both_shares(tree) -> None:
    def halves(labels: np.ndarray) -> np.ndarray:
        changed = np.where(labels == 20, 12, labels).astype(np.uint8)
        changed[:48] = 12
        return changed

    tree.change_masks(halves, tree.ids("val"))
    (found,) = [f for f in tree.findings() if f.check == "class_shares"]
    listed = found.what.split("): ")[1].split(", ")
    assert len(listed) == 5
    assert listed[0].startswith("dog 4.8 % / ")


def test_of_many_classes_the_first_ten_are_named_and_the_rest_counted() -> None:
    names, share = [f"c{id}" for id in range(60)], np.full(60, 1e-3)
    share[0] = 1 - share[1:].sum()
    listing = SimpleNamespace(class_names=names, train="train", section=SimpleNamespace(sampler="uniform"))
    (found,) = rare(SimpleNamespace(listing=listing), share)
    assert found.what.endswith("c10 0.1 % and 49 more")
    assert sorted(found.classes) == sorted(names[1:]) == sorted(found.to_dict()["classes"])


def test_the_remedies_of_a_rare_class_are_keys_of_a_recipe(tree) -> None:
    def few_birds(labels: np.ndarray) -> np.ndarray:
        y, x = np.argwhere(labels == 3)[0]
        changed = np.where(labels == 3, 0, labels).astype(np.uint8)
        changed[y, x : x + 4] = 3
        return changed

    tree.change_masks(few_birds)
    examination = tree.examine(sampler="uniform")
    (found,) = check_classes(examination.facts, examination.meaning)
    assert "bird" in found.what
    remedies = re.findall(r"[a-z0-9_.]+=[a-z]+", found.remedy)
    assert remedies == ["data.sampler=rare", "augment.crop_on=rare"]
    load_recipe(Path(__file__).parents[4] / "recipes/b2_ce_dice.yaml", remedies)  # raises for an unknown key


def test_masks_without_void_borders_are_named_beside_those_with_them(tree) -> None:
    def of_sbd(labels: np.ndarray) -> np.ndarray:
        """No border, and no aeroplane."""
        return np.where((labels == 255) | (labels == 1), 0, labels).astype(np.uint8)

    ids = tree.ids("train")
    tree.change_masks(of_sbd, [*ids[:2], *tree.ids("val")])
    (found,) = [f for f in tree.findings() if f.check == "void_borders"]
    assert found.severity == "hurts" and found.num_files == 2
    assert found.what.startswith("2 of 8 masks have no void around the objects, 6 have a void border")
    assert "background 25%, bicycle 25%" in found.what  # and aeroplane, of which it is 0 %, last
    assert [Path(file).stem for file in found.where] == ids[:2]


@pytest.mark.parametrize("changed", ["none", "all", "filled", "boxes"])
def test_masks_of_one_kind_or_with_areas_of_void_are_no_finding(tree, changed: str) -> None:
    def change(labels: np.ndarray) -> np.ndarray:
        labels = np.where(labels == 255, 0, labels).astype(np.uint8)
        if changed == "filled":
            labels[:64] = 255
        if changed == "boxes":
            labels[40:50, 40:50] = 255
        return labels

    ids = tree.ids("train")
    tree.change_masks(change, {"none": [], "all": ids}.get(changed, ids[:4]))
    if changed in ("filled", "boxes"):
        tree.change_masks(lambda labels: np.where(labels == 255, 0, labels).astype(np.uint8), ids[4:])
    assert "void_borders" not in {f.check for f in tree.findings()}
