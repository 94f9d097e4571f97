"""Which classes of well-known data sets are the same."""

import pytest

from models.class_names import ADE20K, COCO, COCO_STUFF, KNOWN, VOC, known_set, matching_rows


def matched(here, there):
    return {
        name: there[row]
        for name, row in zip(here, matching_rows(here, there), strict=True)
        if row is not None
    }


def test_an_equal_name_comes_before_one_that_differs_in_signs() -> None:
    assert matching_rows(["c-", "c+", "+", "C"], ["c+", "c-", "+"]) == [1, 0, 2, 0]


def test_the_lists_have_the_published_lengths_and_no_duplicates():
    assert {name: len(classes) for name, classes in KNOWN.items()} == {
        "COCO": 80,
        "COCO-Stuff": 171,
        "ADE20K": 150,
        "Cityscapes": 19,
        "VOC": 21,
    }
    assert all(len({*classes}) == len(classes) for classes in KNOWN.values())


def test_of_voc_all_but_the_background_is_in_coco():
    found = matched(VOC, COCO)
    assert [name for name in VOC if name not in found] == ["background"]
    assert {here: there for here, there in found.items() if here != there} == {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "motorbike": "motorcycle",
        "pottedplant": "potted plant",
        "sofa": "couch",
        "tvmonitor": "tv",
    }
    assert matched(VOC, COCO_STUFF) == found


def test_of_voc_in_ade20k():
    assert matched(VOC, ADE20K) == {
        "aeroplane": "airplane",
        "bicycle": "bicycle",
        "boat": "boat",
        "bottle": "bottle",
        "bus": "bus",
        "car": "car",
        "chair": "chair",
        "motorbike": "minibike",
        "person": "person",
        "sofa": "sofa",
        "tvmonitor": "television receiver",
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dining-Table", "dining_table"),
        ("sofa, couch, lounge", "lounge"),
        ("TV monitor", "television"),
        ("pottedplant", "Potted Plant "),
        ("cell phone;mobile", "mobile"),
    ],
)
def test_the_same_class_in_other_words(one, other):
    assert matching_rows([one], ["x", other]) == matching_rows([other], ["x", one]) == [1]


@pytest.mark.parametrize(
    ("one", "other"), [("table", "dining table"), ("plant", "potted plant"), ("cat", "cattle"), ("", "")]
)
def test_another_class(one, other):
    assert matching_rows([one], [other]) == [None]


def test_the_first_of_two_matches_is_used_where_no_name_is_equal():
    assert matching_rows(["Couch", "sofa"], ["bed", "sofa", "couch"]) == [1, 1]
    assert matching_rows(["couch", "sofa"], ["bed", "sofa", "couch"]) == [2, 1]


def test_a_data_set_is_recognised_by_its_number_of_classes():
    assert known_set(150) == ("ADE20K", ADE20K)
    assert known_set(22) is None
