"""Two "machines", which are network namespaces with a cable between them, and the cable is cut."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.run_folder import RunFolder, read_log
from tests.engine.tiny_run import ROOT, tiny

pytestmark = pytest.mark.multihost

HOSTS = {"a": "10.213.7.1", "b": "10.213.7.2"}
PORT = 29500
UPDATES = 30


def namespace(host: str) -> str:
    return f"trident-{os.getpid()}-{host}"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[None]:
    """Two namespaces, each with an end of one virtual cable; its other end in the other."""
    if not shutil.which("ip"):
        pytest.skip("no command ip: no network namespaces")
    try:
        for host in HOSTS:
            ip("netns", "add", namespace(host))
        one, two = map(namespace, HOSTS)
        ip("link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", two)
        for host, address in HOSTS.items():
            ip("-n", namespace(host), "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", namespace(host), "link", "set", device, "up")
        yield
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", namespace(host)], check=False, capture_output=True)


class Training:
    """torchrun on both hosts, one process on each; the output of each host goes to a file."""

    def __init__(self, folder: Path, id: str):
        self.out = {host: folder / f"{id}-{host}.txt" for host in HOSTS}
        self.torchruns = {}
        for host, address in HOSTS.items():
            command = [
                *("ip", "netns", "exec", namespace(host), sys.executable, "-m", "torch.distributed.run"),
                *("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-id={id}"),
                *(f"--rdzv-endpoint={HOSTS['a']}:{PORT}", f"--rdzv-conf=is_host={host == 'a'}"),
                *(f"--local-addr={address}", "-m", "engine.run"),
                *tiny(folder, "run", f"train.steps={UPDATES}", "train.save_every=2", "eval.every=15"),
                *("log.every=1", "log.to=[]", "train.timeout=0.3 min", "--resume"),
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable"}
            with self.out[host].open("w") as out:
                self.torchruns[host] = subprocess.Popen(
                    command, cwd=ROOT, stdout=out, stderr=out, env=environment
                )

    def wait(self, reached, seconds: float = 120) -> None:
        """Until `reached()` is true; an AssertionError with the output if it does not become so."""
        end = time.monotonic() + seconds
        while not reached():
            texts = "\n".join(path.read_text()[-3000:] for path in self.out.values())
            assert time.monotonic() < end, texts
            time.sleep(0.1)

    def stop(self) -> None:
        """torchrun ends its processes at SIGTERM; it may not where it waits for the other host."""
        for torchrun in self.torchruns.values():
            torchrun.terminate()
        for torchrun in self.torchruns.values():
            with suppress(subprocess.TimeoutExpired):
                torchrun.wait(timeout=40)
            torchrun.kill()
            torchrun.wait()


def done(run: RunFolder) -> int:
    rows = read_log(run.log) if run.log.is_file() else []
    return max((row["step"] for row in rows), default=0)


def test_a_cut_cable_ends_the_run_with_the_rank_and_resume_goes_on(hosts: None, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    cut = Training(tmp_path, "first")
    try:
        cut.wait(lambda: done(run) >= 6)
        ip("-n", namespace("b"), "link", "set", "cable", "down")
        cut.wait(lambda: all("So all processes end" in path.read_text() for path in cut.out.values()))
    finally:
        cut.stop()
    before = done(run)
    assert 6 <= before < UPDATES
    printed = {host: path.read_text() for host, path in cut.out.items()}
    ranks = {host: 0 if f"in {run.path}" in text else 1 for host, text in printed.items()}  # rank 0 prints it
    assert sorted(ranks.values()) == [0, 1]
    for host, other in (("a", "b"), ("b", "a")):
        assert f"trident: rank {ranks[other]}, process" in printed[host], printed[host]
        assert "did not respond for 0.3 min (train.timeout)" in printed[host] and "--resume" in printed[host]

    ip("-n", namespace("b"), "link", "set", "cable", "up")
    again = Training(tmp_path, "second")
    try:
        again.wait(lambda: all(torchrun.poll() is not None for torchrun in again.torchruns.values()))
        assert [torchrun.returncode for torchrun in again.torchruns.values()] == [0, 0]
    finally:
        again.stop()
    assert any("going on from its saved state" in path.read_text() for path in again.out.values())
    assert done(run) == UPDATES and run.report.is_file()
