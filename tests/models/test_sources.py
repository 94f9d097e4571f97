"""The sources of weights: files and folders, and which are refused."""

import datetime
import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from models import ModelError
from models.sources import read_source

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def is_state(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


# Files and folders


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "meta": {"epoch": 3}},
        {"model": STATE},
        {f"module.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"module._orig_mod.{key}": value for key, value in STATE.items()}},
    ],
)
def test_pickled_tensors_are_found_under_the_usual_wrappers(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    assert is_state(read_source(str(tmp_path / "weights.pth"))[1])


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
    with pytest.raises(ModelError, match=r"evil\.pth.*pickled Python objects.*safetensors"):
        read_source(str(path))
    assert not touched.exists()


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_harmless_objects_are_refused_too(tmp_path):
    torch.save({"a.weight": torch.ones(1), "when": datetime.date(2024, 1, 1)}, tmp_path / "dated.pth")
    with pytest.raises(ModelError, match="pickled Python objects"):
        read_source(str(tmp_path / "dated.pth"))


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
    (tmp_path / "weights.h5").touch()
    with pytest.raises(ModelError, match=r"read from \.safetensors"):
        read_source(str(tmp_path / "weights.h5"))
    with pytest.raises(ModelError, match=r"model\.safetensors.*Name the file"):
        read_source(str(tmp_path))
