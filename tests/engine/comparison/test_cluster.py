"""The grid on a Ray cluster that the test starts: equal to local runs, also when a worker is killed."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from engine.compare import main
from engine.run_folder import RunFolder
from tests.engine.tiny_run import TINY

ROOT = Path(__file__).parents[3]
SETTINGS = [*TINY, "train.steps=16", "log.images=0"]
PATIENCE_S = 300


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a cluster with one node, this machine, for local callers only."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: nothing was checked on a cluster")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=1,
        num_gpus=0,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(tmp_path_factory.mktemp("ray")),
        log_to_driver=False,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def command(recipes: list[Path], out: Path, *more: str) -> list[str]:
    settings = [text for setting in SETTINGS for text in ("--set", setting)]
    return [*map(str, recipes), "--seeds", "1", *settings, "--out", str(out), *more]


def counts(run: Path) -> dict[str, np.ndarray]:
    with h5py.File(RunFolder(run).scores) as file:
        return {name: rows[:] for name, rows in file["confusion"].items()}


def wait_for(path: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_cluster_gives_the_results_of_local_runs_although_a_worker_dies(
    address: str, tmp_path: Path
) -> None:
    recipe = ROOT / "recipes/demo.yaml"
    assert main(command([recipe], tmp_path / "local")) == 0
    arguments = command([recipe], tmp_path / "cluster", "--cluster", address)
    compare = subprocess.Popen([sys.executable, "-m", "engine.compare", *arguments], cwd=ROOT)
    run = RunFolder(tmp_path / "cluster/demo-s0")
    wait_for(run.last_state)
    log = tmp_path / "cluster/cells/demo-s0.log"
    [worker] = re.findall(r"worker (\d+) on", log.read_text())
    os.kill(int(worker), signal.SIGKILL)
    assert not run.read_manifest().finished
    assert compare.wait(PATIENCE_S) == 0
    assert len(re.findall(r"worker \d+ on", log.read_text())) == 2
    assert "from update 0" in log.read_text() and re.search("from update [1-9]", log.read_text())
    local, cluster = counts(tmp_path / "local/demo-s0"), counts(run.path)
    assert local.keys() == cluster.keys()
    assert all((local[name] == cluster[name]).all() for name in local)


@pytest.mark.slow
def test_a_mistake_in_the_input_is_reported_and_not_retried(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "absent.yaml").write_text(
        f"base: {ROOT / 'recipes/b0_ce.yaml'}\nname: absent\ndata: {{root: {tmp_path / 'nowhere'}}}\n"
    )
    arguments = ["--seeds", "1", "--out", str(tmp_path / "out"), "--cluster", address]
    compare = [sys.executable, "-m", "engine.compare", str(tmp_path / "absent.yaml"), *arguments]
    done = subprocess.run(compare, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "absent-s0: failed" in done.stdout and "nowhere" in done.stdout
    assert (tmp_path / "out/cells/absent-s0.log").read_text().count("worker ") == 1


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_unreachable_cluster_is_reported_at_once(
    scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(*arguments, **options):
        raise AssertionError("Ray would wait for minutes")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with socket.socket() as taken:  # bound, so that no other process can use it, but not listening
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        assert main(command([ROOT / "recipes/demo.yaml"], tmp_path / "out", "--cluster", address)) == 2
    output = capsys.readouterr().err
    assert f"--cluster {address}: no Ray cluster responds there" in output and "ray start --head" in output


def test_without_ray_the_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # makes `import ray` fail
    assert main(command([ROOT / "recipes/demo.yaml"], tmp_path / "out", "--cluster", "auto")) == 2
    output = capsys.readouterr().err
    assert "trident-seg[cluster]" in output and "Traceback" not in output
