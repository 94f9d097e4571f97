"""A user's project with its own `models`, `losses` or `engine`, and what can be imported from its folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("models", "losses")
CONSOLE_SCRIPT = "import sys; from trident.__main__ import main; sys.exit(main())"  # as pip writes it


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with packages `models` and `losses`, each with a module `mine`."""
    for name in OURS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("from pathlib import Path\n")
        (tmp_path / name / "mine.py").write_text("ANSWER = 42\n")
    (tmp_path / "my_losses.py").write_text("ANSWER = 42\n")
    return tmp_path


def python(folder: Path, *arguments: str, path: str | Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Python started in `folder`, with Trident found as if it were installed."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def console_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`trident ...`, which has the folder of the script on its path, not the working folder."""
    bin = folder / "bin"
    bin.mkdir(exist_ok=True)
    (bin / "trident").write_text(CONSOLE_SCRIPT)
    return python(folder, str(bin / "trident"), *arguments)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


EXPLAIN = ("b0_ce", "--explain")  # builds a model and its optimiser


def test_python_m_uses_our_own_packages(project: Path) -> None:
    done = python(project, "-m", "engine.run", *EXPLAIN)
    assert done.returncode == 0, done.stderr
    assert "groups of the optimiser" in done.stdout


def test_the_console_script_uses_our_own_packages_and_engine(project: Path) -> None:
    for name in OURS:
        (project / name / "__init__.py").unlink()  # such as a folder of checkpoints that is called models/
    (project / "engine").mkdir()
    (project / "engine/__init__.py").write_text("raise SystemExit('the wrong engine')\n")
    done = console_script(project, "run", *EXPLAIN)
    assert done.returncode == 0, done.stderr
    assert "groups of the optimiser" in done.stdout


def test_the_packages_beside_engine_come_before_pythonpath(project: Path) -> None:
    code = "import engine, models, losses; print(models.__file__, losses.__file__)"
    done = python(project, "-c", code)
    assert done.stdout.split() == [str(ROOT / name / "__init__.py") for name in OURS]


def test_workers_that_are_spawned_find_them_too(project: Path) -> None:
    code = """
import multiprocessing, engine
from models.errors import ModelError
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(repr(pool.apply(ModelError, ("made in a worker",))))
"""
    (project / "script.py").write_text(code)
    done = python(project, "script.py")
    assert done.returncode == 0, done.stderr
    assert "ModelError('made in a worker')" in done.stdout


@pytest.mark.parametrize("name", OURS)
def test_a_script_that_imported_its_own_is_told_of_both(project: Path, name: str) -> None:
    done = python(project, "-c", f"import {name}; import engine")
    assert done.returncode == 1
    message = last_line(done)
    assert message.startswith("ImportError")
    assert str(project / name) in message and str(ROOT / name) in message and "Rename" in message


@pytest.mark.parametrize("name", OURS)
def test_a_script_that_imports_its_own_afterwards_is_told_whose_it_got(project: Path, name: str) -> None:
    for code in (f"import {name}.mine", f"from {name}.mine import ANSWER"):
        done = python(project, "-c", f"import engine; {code}")
        assert done.returncode == 1
        assert f"{name}.mine" in last_line(done) and str(ROOT / name) in last_line(done)
    done = python(project, "-c", f"import engine; from {name} import Mine")
    assert str(ROOT / name) in last_line(done)


def test_the_working_folder_can_be_imported_from_and_shadows_nothing(project: Path) -> None:
    (project / "yaml.py").write_text("raise SystemExit('shadowed')\n")
    (project / "bin").mkdir()
    code = (
        "import sys; from engine.command import main; main(['--version']); import my_losses, yaml, models\n"
    )
    (project / "bin/script").write_text(code)
    done = python(project, "bin/script")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def own_engine(project: Path) -> Path:
    (project / "engine").mkdir()
    (project / "engine/__init__.py").write_text("")
    (project / "engine/mine.py").write_text("ANSWER = 42\n")
    return project


def test_an_engine_of_the_user_on_pythonpath_hides_nothing(own_engine: Path) -> None:
    path = f"{own_engine}{os.pathsep}{ROOT}"
    for start in (["-m", "trident"], ["-c", CONSOLE_SCRIPT]):
        done = python(own_engine, *start, "recipes", "demo", path=path)
        assert done.returncode == 0, done.stderr
        assert "name: demo" in done.stdout


def test_a_script_with_an_engine_of_its_own_is_told_of_both(own_engine: Path) -> None:
    for code in ("import engine, trident", "import engine.mine, trident", "import trident, engine.mine"):
        done = python(own_engine, "-c", code)
        assert done.returncode == 1
        assert str(ROOT / "engine") in last_line(done)
    assert "engine.mine" in last_line(done)
    done = python(own_engine, "-c", "import engine, trident")
    assert str(own_engine / "engine") in last_line(done)
