"""A local server that answers by a plan, also wrongly; finished runs of untrained networks."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Reply:
    """How one request is answered; the defaults are those of a correct server."""

    status: int = 200
    body: bytes | None = None  # None: the file's own bytes
    cut: int | None = None  # bytes after which the connection closes
    claim: int | None = 0  # added to the true Content-Length; None: no such header
    ranges: bool = True  # whether it supports Range
    shift: int = 0  # added to the start of the range that is sent
    etag: str | None = '"v1"'
    location: str | None = None
    slow_s: float = 0.0  # between pieces of 64 KiB


class Loopback:
    """Files by name; a plan of replies by name, of which the last one repeats; and the requests it got."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plan: dict[str, list[Reply]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def reply_to(self, name: str) -> Reply:
        plan = self.plan.get(name, [Reply() if name in self.files else Reply(status=404)])
        return plan.pop(0) if len(plan) > 1 else plan[0]

    def ranges(self) -> list[str | None]:
        """The Range header of each request."""
        return [headers.get("Range") for _, headers in self.requests]


def _handler(loopback: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            loopback.requests.append((name, dict(self.headers.items())))
            reply = loopback.reply_to(name)
            if reply.status in (301, 302):
                self.send_response(reply.status)
                self.send_header("Location", reply.location or "")
                self.end_headers()
            elif reply.status != 200:
                self.send_error(reply.status)
            else:
                self._send(reply, loopback.files[name] if reply.body is None else reply.body)

        def _send(self, reply: Reply, body: bytes) -> None:
            wanted = self.headers.get("Range", "") if reply.ranges else ""
            if self.headers.get("If-Range", reply.etag) != reply.etag:
                wanted = ""  # another version: the whole file
            start = int(wanted.removeprefix("bytes=").rstrip("-")) + reply.shift if wanted else 0
            if start >= len(body) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if reply.claim is not None:
                self.send_header("Content-Length", str(len(body) - start + reply.claim))
            if reply.etag:
                self.send_header("ETag", reply.etag)
            self.end_headers()
            rest = body[start:][: reply.cut]
            with suppress(ConnectionError):  # the client may disconnect
                for first in range(0, len(rest), 1 << 16):
                    self.wfile.write(rest[first : first + (1 << 16)])
                    time.sleep(reply.slow_s)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync takes long, and no test depends on it."""
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A server on 127.0.0.1 at a free port; downloads use no proxy and do not wait between attempts."""
    from engine.data.downloads import download

    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    loopback = Loopback()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(loopback))
    loopback.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield loopback
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def good() -> Reply:
    """The reply of a correct server; `dataclasses.replace` makes the others from it."""
    return Reply()


@pytest.fixture
def voc_run(voc_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a finished run on `voc_folder`: `voc_run("name", 1, 2)` keeps SegFormers of these two steps."""

    def make(name: str = "run", *steps: int) -> Path:
        import torch
        from safetensors.torch import save_file

        from engine.data import class_names_of
        from engine.data.formats.voc import voc_palette
        from engine.recipe import load_recipe
        from engine.run_folder import DataIdentity, Manifest, Member, RunFolder, sha256_of
        from models import build_model

        run = RunFolder(tmp_path / name)
        run.create()
        run.recipe.write_text(
            f"name: {name}\ndata: {{root: {voc_folder}, train: train}}\n"
            "model: {variant: b0, decoder_width: 16, from_scratch: true}\n"
        )
        recipe = load_recipe(run.recipe)
        names = class_names_of(recipe.data)
        members = []
        for step in steps or (1,):
            torch.manual_seed(step)
            model = build_model(recipe.model, names)
            torch.nn.init.normal_(
                model.head.classifier.weight
            )  # so that predicted classes differ over the image
            path = run.top / f"step-{step:07d}.safetensors"
            save_file(model.state_dict(), path)
            file = str(path.relative_to(run.path))
            members.append(Member(file=file, step=step, scores={"mIoU": 1 / step}, sha256=sha256_of(path)))
        data = DataIdentity(format="voc", train="train", val="val", train_fingerprint="", val_fingerprint="")
        run.write_manifest(
            Manifest(
                name=name, code_version="0", class_names=list(names), palette=list(voc_palette(len(names))),
                data=data, metric="mIoU", num_parameters=1, members=members,
            )
        )  # fmt: skip
        return run.path

    return make


@pytest.fixture
def voc_ensemble(voc_run: Callable[..., Path], tmp_path: Path) -> Path:
    """A saved ensemble of two such networks: geometric, weights 0.25 and 0.75, temperatures 1, 2."""
    from engine.run_folder import (
        CombinationValues,
        EnsembleFolder,
        EnsembleManifest,
        EnsembleMember,
        RunFolder,
        write_text,
    )

    run = RunFolder(voc_run("members", 1, 2))
    manifest = run.read_manifest()
    folder = EnsembleFolder(tmp_path / "ensemble")
    folder.members.mkdir(parents=True)
    members = []
    for member in manifest.members:
        shutil.copy(run.path / member.file, folder.members / f"{member.step}.safetensors")
        shutil.copy(run.recipe, folder.members / f"{member.step}.yaml")
        members.append(
            EnsembleMember(
                name=f"step {member.step}",
                file=f"members/{member.step}.safetensors",
                recipe=f"members/{member.step}.yaml",
                sha256=member.sha256,
            )
        )
    content = EnsembleManifest(
        name="two", code_version="0", method="weighted", class_names=manifest.class_names,
        palette=manifest.palette, data=manifest.data, members=members, scores={"mIoU": 0.5},
        combination=CombinationValues(
            space="logit", weights=((0.25,), (0.75,)), temperatures=(1.0, 2.0)
        ),
    )  # fmt: skip
    write_text(folder.manifest, content.model_dump_json())
    return folder.path
