"""Files of weights with code in them: nothing is executed, and the message names the file."""

import builtins
import importlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.run import main as run
from models import ModelError
from models.pickles import PICKLED
from models.sources import read_source
from tests.engine.tiny_run import tiny

WEIGHTS = {"a.weight": torch.ones(2)}


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def code(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


PAYLOADS: dict[str, Callable[[Path], Any]] = {
    "open": lambda canary: Calls(open, str(canary), "w"),
    "os.system": lambda canary: Calls(os.system, f"touch {canary}"),
    "exec": lambda canary: Calls(builtins.exec, code(canary)),
    "eval": lambda canary: Calls(builtins.eval, code(canary)),
    "subprocess": lambda canary: Calls(subprocess.check_call, ["touch", str(canary)]),
    "a method": lambda canary: Calls(Path.touch, canary),
    "a copy": lambda canary: Calls(shutil.copyfile, __file__, str(canary)),
    "an import": lambda canary: Calls(importlib.import_module, "evil_module"),
    "pickle in pickle": lambda canary: Calls(pickle.loads, pickle.dumps(Calls(open, str(canary), "w"))),
    "torch in torch": lambda canary: Calls(
        torch.storage._load_from_bytes, as_zip(Calls(open, str(canary), "w"))
    ),
    "a getattr": lambda canary: Calls(getattr, Calls(importlib.import_module, "evil_module"), "x"),
    "as a key": lambda canary: {Calls(open, str(canary), "w"): 1},
    "beside tensors": lambda canary: WEIGHTS | {"hook": Calls(open, str(canary), "w")},
    "in a dictionary of weights": lambda canary: {"state_dict": [WEIGHTS, Calls(open, str(canary), "w")]},
}


def as_zip(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def as_legacy(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def as_tar(content: Any) -> bytes:
    """The format of torch before 0.2."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            text = pickle.dumps(content)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return file.getvalue()


FORMS: dict[str, Callable[[Any], bytes]] = {
    "zip": as_zip, "legacy": as_legacy, "tar": as_tar, "plain": pickle.dumps,
    "protocol 0": lambda content: pickle.dumps(content, protocol=0),
}  # fmt: skip


@pytest.mark.parametrize("payload", PAYLOADS)
def test_each_payload_works_where_it_is_unpickled(canary: Path, evil_module: str, payload: str) -> None:
    """So a test below that finds no canary shows that nothing was unpickled."""
    text = pickle.dumps(PAYLOADS[payload](canary))
    with suppress(AttributeError):  # the module has no such name; it was imported by then
        pickle.loads(text)
    assert canary.exists()
    canary.unlink()
    sys.modules.pop(evil_module, None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_code_in_a_file_of_weights_is_not_executed(
    tmp_path: Path, canary: Path, evil_module: str, payload: str, form: str
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(FORMS[form](PAYLOADS[payload](canary)))
    with pytest.raises(ModelError, match="weights.pth") as caught:
        read_source(str(path))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("suffix", PICKLED)
def test_nor_under_another_suffix(tmp_path: Path, canary: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(as_zip(PAYLOADS["beside tensors"](canary)))
    with pytest.raises(ModelError, match=f"weights{suffix}.*pickled Python objects"):
        read_source(str(path))


@pytest.mark.parametrize("name", ["model.safetensors", "weights.safetensors"])
@pytest.mark.parametrize("form", FORMS)
def test_nor_under_the_suffix_of_safetensors(tmp_path: Path, canary: Path, form: str, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[form](PAYLOADS["open"](canary)))
    for source in (tmp_path, tmp_path / name) if name.startswith("model") else (tmp_path / name,):
        with pytest.raises(ModelError, match=f"{name} is (damaged|a text)"):
            read_source(str(source))


@pytest.mark.parametrize("payload", ["open", "beside tensors"])
def test_nor_in_a_folder_of_hugging_face(tmp_path: Path, canary: Path, payload: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(as_zip(PAYLOADS[payload](canary)))
    with pytest.raises(ModelError, match="pytorch_model.bin"):
        read_source(str(tmp_path))


def test_nor_in_a_package_whose_code_is_not_run_either(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "evil_package"
    package.mkdir()
    (package / "__init__.py").write_text(code(canary))
    (package / "weights.pth").write_bytes(as_zip(PAYLOADS["open"](canary)))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="weights.pth"):
        read_source("package:evil_package")
    (package / "weights.pth").unlink()
    torch.save(WEIGHTS, package / "weights.pth")
    assert read_source("package:evil_package")[1].tensors.keys() == WEIGHTS.keys()


def test_an_archive_of_torchscript_is_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pt"
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)
    with pytest.raises(ModelError, match="scripted.pt"):
        read_source(str(path))


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_run_that_names_such_a_file_is_refused_before_anything_is_created(
    tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(FORMS[form](PAYLOADS["beside tensors"](canary)))
    assert run(tiny(tmp_path / "runs", "evil", f"model.weights={path}", "model.from_scratch=false")) == 2
    said = capsys.readouterr().err
    assert str(path) in said and "Traceback" not in said
    assert not (tmp_path / "runs/evil").exists()
