"""Where a command cannot write: it says so at once, without a traceback, and nothing is made."""

import errno
import importlib
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.run_folder import DiskError, RunFolderError, require_folder, require_new_file, require_reachable

PROC = pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
RUN, ENSEMBLE, PHOTOS = "{run}", "{ensemble}", "{voc}/JPEGImages"
COMMANDS = [  # of each option that names a place to write to
    f"ensemble {RUN} --save {{out}}",
    f"ensemble {RUN} --distill {{out}}",
    f"predict {RUN} {PHOTOS} --out {{out}}",
    f"evaluate {RUN} --out {{out}}",
    f"diagnose {RUN} --out {{out}}",
    f"diagnose {RUN} --labels --out {{out}}",
    f"diagnose {RUN} --next 1 --pool {PHOTOS} --out {{out}}",
    f"report {RUN} --out {{out}}",
    f"compare {RUN} --out {{out}}",
    f"compare {RUN} {ENSEMBLE} --out {{out}}",
    "compare demo --out {out}",
    f"export weights {RUN} --layout huggingface --out {{out}}",
    *(f"export {kind} {RUN} --out {{out}}" for kind in ("voc", "torch")),
    "doctor demo --out {out}",
    "doctor demo --fix {out}",
    "new {voc} --out {out}",
    "prepare masks demo --out {out}",
    "prepare pack demo --out {out}",
    "prepare voc2012 --root {out}",
    "lr_find demo --out {out}",
    "benchmark model --out {out}",
    "run demo output.dir={out}",
]


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("{tmp}/file/new", "file is a file, not a folder."),
        ("{tmp}/link/new", "nothing, which is not there."),
        pytest.param("/proc/new", "the file system of /proc takes no files", marks=PROC),
    ],
)
def test_every_command_says_before_its_work_that_it_cannot_write(
    out: str,
    reason: str,
    voc_run: Callable[..., Path],
    voc_ensemble: Path,
    voc_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    run = voc_run("run", 1, 2)
    before = sorted(tmp_path.rglob("*"))
    for command in COMMANDS:
        out_here = out.format(tmp=tmp_path)
        typed = command.format(run=run, ensemble=voc_ensemble, voc=voc_folder, out=out_here)
        name, *words = shlex.split(typed)
        assert importlib.import_module(f"engine.{name}").main(words) == 2, typed
        said = capsys.readouterr().err
        assert reason in said and "Traceback" not in said, (typed, said)
        assert sorted(tmp_path.rglob("*")) == before, typed


@pytest.mark.parametrize("typed", ["out", "out/deep/er", "there"])
def test_a_folder_that_takes_no_files_is_known_before_any_work(
    tmp_path: Path, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    (tmp_path / "there").mkdir()
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # root may write everywhere
    for check in (require_reachable, require_folder):
        with pytest.raises(
            DiskError, match=f"{typed}: .*denied.* Or name another folder with --out."
        ) as caught:
            check(tmp_path / typed, "--out")
        assert caught.value.exit_code == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_what_can_be_written_passes_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for typed in ("out", "out/deep/er", "there"):
        require_reachable(tmp_path / typed)
        require_folder(tmp_path / typed, "--out")
    require_new_file(tmp_path / "new/a.json")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_the_root_of_the_file_system_is_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    for typed in (".", "/"):
        require_reachable(Path(typed))


def test_a_link_to_nothing_is_neither_a_new_file_nor_a_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(RunFolderError, match="link to .*nothing, which is not there. Name a folder"):
        require_folder(tmp_path / "link", "--out")
    with pytest.raises(RunFolderError, match="link exists already"):
        require_new_file(tmp_path / "link")
