"""Where weights come from: files, folders and the hub (a server on the loopback), and what is refused."""

import datetime
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save, save_file

from models import ModelError
from models.sources import read_source
from models.weights import load_weights
from models.zoo import ZooModel

ROOT = Path(__file__).parents[2]
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


def test_a_run_folder_means_its_best_checkpoint(tmp_path):
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


def test_missing_or_unknown_files(tmp_path):
    with pytest.raises(ModelError, match="No such file or folder"):
        read_source(str(tmp_path / "gone.safetensors"))
    with pytest.raises(ModelError, match="is written hf:nvidia/mit-b2"):
        read_source("nvidia/mit-b2")
    (tmp_path / "weights.h5").touch()
    with pytest.raises(ModelError, match=r"read from \.safetensors"):
        read_source(str(tmp_path / "weights.h5"))
    with pytest.raises(ModelError, match=r"model\.safetensors.*Name the file"):
        read_source(str(tmp_path))


# The hub


class _Hub(http.server.BaseHTTPRequestHandler):
    """The three answers of the hub that a download needs: a file, no such file, no such repository."""

    protocol_version = "HTTP/1.1"
    file_name = "model.safetensors"
    content = save(STATE)

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        content, code = b"", "RepoNotFound"
        if self.path.startswith("/acme/tiny/"):
            found = self.path == f"/acme/tiny/resolve/main/{self.file_name}"
            content, code = (self.content, None) if found else (b"", "EntryNotFound")
        self.send_response(404 if code else 200)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        """Quiet."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    point_at(url, monkeypatch)
    yield url
    server.shutdown()
    server.server_close()
    thread.join()


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does, which comes too late here: huggingface_hub is imported already."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def test_the_hub_gives_safetensors(hub):
    assert is_state(read_source("hf:acme/tiny")[1])


def test_the_hub_falls_back_to_the_older_file(hub, monkeypatch, tmp_path):
    torch.save(STATE, tmp_path / "older.bin")
    monkeypatch.setattr(_Hub, "file_name", "pytorch_model.bin")
    monkeypatch.setattr(_Hub, "content", (tmp_path / "older.bin").read_bytes())
    path, state = read_source("hf:acme/tiny")
    assert path.name == "pytorch_model.bin" and is_state(state)


def test_the_hub_has_neither_file(hub, monkeypatch):
    monkeypatch.setattr(_Hub, "file_name", "flax_model.msgpack")
    with pytest.raises(ModelError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        read_source("hf:acme/tiny")


def test_no_such_repository(hub):
    with pytest.raises(ModelError, match="RepositoryNotFoundError"):
        read_source("hf:acme/huge")


def test_smp_weights_without_network(hub):
    with pytest.raises(ModelError, match=r"smp:imagenet: could not be fetched(.|\n)*HF_HOME"):
        load_weights(ZooModel("unet", "resnet18", 3), "smp:imagenet")


def test_a_name_that_is_none():
    with pytest.raises(ModelError, match="hf:nvidia/mit-b2"):
        read_source("hf:not a/name/at all")


def test_no_network_tells_the_way_around(hub, monkeypatch):
    point_at("http://127.0.0.1:1", monkeypatch)  # where nobody listens
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the hub client's attempts
    with pytest.raises(ModelError) as caught:
        read_source("hf:acme/tiny")
    for word in ("hf download acme/tiny --local-dir", "model.weights=weights/acme/tiny", "HF_ENDPOINT"):
        assert word in str(caught.value)


def test_what_was_fetched_once_needs_no_network(hub, monkeypatch):
    read_source("hf:acme/tiny")
    point_at("http://127.0.0.1:1", monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert is_state(read_source("hf:acme/tiny")[1])


def test_the_environment_names_a_mirror(hub, tmp_path):
    """In a process of its own, since huggingface_hub reads HF_ENDPOINT when it is imported."""
    program = "from models.sources import read_source; print(sorted(read_source('hf:acme/tiny')[1]))"
    environment = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "['a.bias', 'a.weight']", done.stderr
