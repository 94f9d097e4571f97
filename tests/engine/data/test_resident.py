"""Data sets kept in memory: the same samples, all damaged ones reported at once, and where to keep them."""

import pytest
import torch

from engine.data.formats.voc import open_voc
from engine.data.resident import Resident, choose_residence, free_in_control_groups
from engine.data.sample import DataError, read_or_error

CPU = torch.device("cpu")


@pytest.fixture
def train(voc_folder):
    return open_voc(voc_folder, "train")


def test_a_resident_data_set_has_the_same_samples_and_needs_no_disk(train, voc_folder):
    calls = []
    data = Resident(train, CPU, lambda done, total: calls.append((done, total)))
    samples, sizes, fingerprint = [train[i] for i in range(6)], train.sizes(), train.fingerprint()
    for path in voc_folder.glob("*/*.*"):
        path.unlink()
    assert len(data) == 6 and data.ids == train.ids
    assert (data.class_names, data.palette) == (train.class_names, train.palette)
    assert data.ignore_index == train.ignore_index
    assert data.sizes() == sizes and data.fingerprint() == fingerprint
    assert [torch.equal(data.labels(i), samples[i].labels) for i in range(6)] == [True] * 6
    for found, sample in zip((data[i] for i in range(6)), samples, strict=True):
        assert found.id == sample.id
        assert torch.equal(found.image, sample.image) and torch.equal(found.labels, sample.labels)
    assert calls == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("num_broken", [1, 5, 6])
def test_all_damaged_samples_are_tried_and_the_first_five_named(train, voc_folder, num_broken):
    for id in train.ids[:num_broken]:
        (voc_folder / "JPEGImages" / f"{id}.jpg").write_text("no image")
    calls = []
    with pytest.raises(DataError) as caught:
        Resident(train, CPU, lambda done, total: calls.append(done))
    message = str(caught.value)
    assert calls[-1] == 6
    assert [id in message for id in train.ids] == [number < min(num_broken, 5) for number in range(6)]
    assert ("1 more" in message) == (num_broken == 6)
    assert message.count("\n") == num_broken - 1


def test_a_data_error_is_returned_as_a_value_and_other_errors_are_raised(train, voc_folder):
    assert read_or_error(train, 0).id == train.ids[0]
    (voc_folder / "SegmentationClass" / f"{train.ids[0]}.png").write_text("no mask")
    assert isinstance(read_or_error(train, 0), DataError)
    with pytest.raises(IndexError):
        read_or_error(train, 99)


@pytest.mark.parametrize("wish", ["ram", "disk"])
def test_an_explicit_place_is_used_and_the_decoded_size_returned(train, wish):
    pixels = 40 * 56 + 64 * 48 + 48 * 48 + 40 * 56 + 72 * 41 + 53 * 64
    assert choose_residence(train, wish, CPU) == (wish, 4 * pixels)


def test_resident_gpu_is_refused_without_a_gpu(train):
    with pytest.raises(DataError, match="data.resident=auto"):
        choose_residence(train, "gpu", CPU)
    assert choose_residence(train, "gpu", torch.device("cuda"))[0] == "gpu"


def test_auto_uses_ram_where_the_data_set_is_small_relative_to_free_memory(train, monkeypatch):
    num_bytes = choose_residence(train, "disk", CPU)[1]
    answers = []
    for times, sharers in ((2, 1), (3, 1), (100, 1), (3, 2), (6, 2)):  # at most 0.4 of the free memory
        monkeypatch.setattr("engine.data.resident.free_ram_bytes", lambda times=times: times * num_bytes)
        answers.append(choose_residence(train, "auto", CPU, sharers)[0])
    assert answers == ["disk", "ram", "ram", "disk", "ram"]


def test_auto_prefers_the_gpu_where_the_data_set_fits(train, monkeypatch):
    num_bytes = choose_residence(train, "disk", CPU)[1]
    for times, answer in ((3, "gpu"), (2, "ram")):
        free = times * num_bytes
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device, free=free: (free, 10 * free))
        assert choose_residence(train, "auto", torch.device("cuda"))[0] == answer


@pytest.mark.parametrize("line", ["0::/outer/inner", "0::/"])
def test_the_limits_of_a_container_count(tmp_path, line):
    groups, mount = tmp_path / "groups", tmp_path / "mount"
    groups.write_text(f"{line}\n")
    for folder, limit, used, cache in (
        ("", "1000", 800, 50),
        ("outer", "700", 400, 0),
        ("outer/inner", "max", 300, 9),
    ):
        (mount / folder).mkdir(exist_ok=True)
        (mount / folder / "memory.max").write_text(f"{limit}\n")
        (mount / folder / "memory.current").write_text(f"{used}\n")
        (mount / folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    assert free_in_control_groups(groups, mount) == ([300, 250] if "outer" in line else [250])


def test_version_1_of_control_groups_whose_path_is_that_of_the_host(tmp_path):
    groups, memory = tmp_path / "groups", tmp_path / "mount" / "memory"
    groups.write_text("5:cpu:/\n4:memory,hugetlb:/docker/1f\n")
    memory.mkdir(parents=True)
    (memory / "memory.limit_in_bytes").write_text("1000\n")
    (memory / "memory.usage_in_bytes").write_text("900\n")
    (memory / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 30\n")
    assert free_in_control_groups(groups, tmp_path / "mount") == [130]
    assert free_in_control_groups(tmp_path / "none", tmp_path / "mount") == []
