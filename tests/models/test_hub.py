"""Weights from the hub, here a local server, and the workarounds without it."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from models import ModelError
from models.origin import UNKNOWN, Origin, origin_of
from models.sources import read_source, weights_within_reach
from models.state_dicts import StateDict
from models.weights import load_weights
from models.zoo import ZooModel

ROOT = Path(__file__).parents[2]
STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def is_state(found: StateDict) -> bool:
    tensors = found.tensors
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[key], STATE[key]) for key in STATE)


class _Hub(http.server.BaseHTTPRequestHandler):
    """The three answers of the hub that a download needs: a file, no such file, no such repository."""

    protocol_version = "HTTP/1.1"
    repository = "acme/tiny"
    file_name = "model.safetensors"
    content = save(STATE)

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        content, code = b"", "RepoNotFound"
        if self.path.startswith(f"/{self.repository}/"):
            found = self.path == f"/{self.repository}/resolve/main/{self.file_name}"
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
    """The effect of HF_ENDPOINT, which huggingface_hub reads only when it is imported."""
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


def cut_short(handler: _Hub) -> None:
    handler.send_response(200)
    headers = {"X-Repo-Commit": "0" * 40, "ETag": '"abc"', "Content-Length": "100000"}
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(b"x" * 1000)
        handler.close_connection = True


def no_http(handler: _Hub) -> None:
    handler.wfile.write(b"garbage\r\n\r\n")
    handler.close_connection = True


def silence(handler: _Hub) -> None:
    handler.close_connection = True


def out_of_service(handler: _Hub) -> None:
    handler.send_response(503)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def page_of_a_login(handler: _Hub) -> None:
    page = b"<html>Log in to the network of the hotel</html>"
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(page)))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(page)


@pytest.mark.parametrize("answer", [cut_short, no_http, silence, out_of_service, page_of_a_login])
@pytest.mark.parametrize("source", ["hf:acme/tiny", "smp:imagenet"])
def test_faults_of_the_network_are_reported(hub, monkeypatch, answer, source: str):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the hub client's attempts
    monkeypatch.setattr(_Hub, "_answer", answer)
    with pytest.raises(ModelError, match=f"{source}: could not be downloaded"):
        load_weights(ZooModel("unet", "resnet18", 3), source)
    if answer is not cut_short:  # which has the file, as far as is known before its content
        assert weights_within_reach("b2", False) in ("none", "package")


def test_smp_weights_without_network(hub):
    with pytest.raises(ModelError, match=r"smp:imagenet: could not be downloaded(.|\n)*HF_HOME"):
        load_weights(ZooModel("unet", "resnet18", 3), "smp:imagenet")


def test_an_invalid_repository_name():
    with pytest.raises(ModelError, match="hf:nvidia/mit-b2"):
        read_source("hf:not a/name/at all")


def test_without_network_the_message_names_a_workaround(hub, monkeypatch):
    point_at("http://127.0.0.1:1", monkeypatch)  # a port without a server
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the hub client's attempts
    with pytest.raises(ModelError) as caught:
        read_source("hf:acme/tiny")
    for word in ("hf download acme/tiny --local-dir", "model.weights=weights/acme/tiny", "HF_ENDPOINT"):
        assert word in str(caught.value)


def test_cached_weights_need_no_network(hub, monkeypatch):
    read_source("hf:acme/tiny")
    point_at("http://127.0.0.1:1", monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert is_state(read_source("hf:acme/tiny")[1])


def test_the_mirror_of_the_environment_is_used(hub, tmp_path):
    """In a process of its own, since huggingface_hub reads HF_ENDPOINT when it is imported."""
    program = "from models.sources import read_source; print(sorted(read_source('hf:acme/tiny')[1].tensors))"
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


def test_the_files_next_to_the_weights_are_requested(hub, monkeypatch):
    path, _ = read_source("hf:acme/tiny")
    assert origin_of("hf:acme/tiny", path) == Origin(None, UNKNOWN)  # neither config.json nor README.md
    monkeypatch.setattr(_Hub, "file_name", "config.json")
    monkeypatch.setattr(_Hub, "content", b'{"id2label": {"0": "cat", "1": "dog"}}')
    assert origin_of("hf:acme/tiny", path).class_names == ("cat", "dog")
    monkeypatch.setattr(_Hub, "file_name", "README.md")
    monkeypatch.setattr(_Hub, "content", b"---\nlicense: mit\n---\n# tiny")
    assert origin_of("hf:acme/tiny", path).licence == "mit"


@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize("package_first", [False, True])
def test_the_better_of_the_weights_within_reach(hub, monkeypatch, package_first: bool, installed: bool):
    packages = {"a": "json" if installed else "no_such_package"}
    monkeypatch.setattr("models.sources.PRETRAINED_PACKAGES", packages)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the hub client's attempts
    without_hub = "package" if installed else "none"
    assert weights_within_reach("b2", package_first) == without_hub  # the hub has no such repository
    monkeypatch.setattr(_Hub, "repository", "nvidia/mit-b2")
    monkeypatch.setattr(_Hub, "file_name", "pytorch_model.bin")
    expected = "package" if installed and package_first else "hub"
    assert weights_within_reach("b2", package_first) == expected
    point_at("http://127.0.0.1:1", monkeypatch)  # a port without a server
    assert weights_within_reach("b2", package_first) == without_hub
