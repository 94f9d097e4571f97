"""The wheel holds the packages and the recipes and nothing else, and works when it is installed."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import engine

ROOT = Path(__file__).parents[1]
PACKAGES = ("trident", "engine", "models", "losses")


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline from a copy of the sources, so that no build folder is left in the checkout."""
    copy = tmp_path_factory.mktemp("sources")
    for name in (*PACKAGES, "tests", "recipes", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        ROOT / "checkpoints", copy / "checkpoints", ignore=lambda _, names: set(names) - {"README.md"}
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(copy / "out")]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], check=True)
    (path,) = (copy / "out").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_file)


@pytest.fixture(scope="module")
def installed(wheel_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed into it; what it needs comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel_file)], check=True)
    return folder


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    """The text of one file of the wheel's dist-info folder."""
    return wheel.read(f"trident_seg-{engine.__version__}.dist-info/{name}").decode()


def test_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"engine/shipped_recipes/{path.name}" for path in (ROOT / "recipes").iterdir()}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_installs_the_trident_command(wheel: zipfile.ZipFile) -> None:
    assert "trident = trident.__main__:main" in metadata(wheel, "entry_points.txt").splitlines()


def test_says_name_version_licence_and_python(wheel: zipfile.ZipFile) -> None:
    message = Parser().parsestr(metadata(wheel, "METADATA"))
    assert message["Name"] == "trident-seg"
    assert message["Version"] == engine.__version__
    assert message["License-Expression"] == "Apache-2.0"
    assert message["Requires-Python"] == ">=3.11"
    assert "Apache License" in metadata(wheel, "licenses/LICENSE")


def test_a_plain_install_brings_no_extras(wheel: zipfile.ZipFile) -> None:
    requirements = Parser().parsestr(metadata(wheel, "METADATA")).get_all("Requires-Dist", [])
    plain = {re.split(r"[^\w-]", line)[0] for line in requirements if "extra ==" not in line}
    assert {"torch", "torchvision", "kornia", "timm", "h5py", "rich"} <= plain
    assert not plain & {"ray", "onnx", "onnxruntime", "pycocotools", "pytest", "ruff", "mypy"}


def trident(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed console script, started in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, str(installed / "bin/trident"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_installed_recipes_are_listed_copied_and_found_by_name(installed: Path, tmp_path: Path) -> None:
    listed = trident(installed, tmp_path, "recipes")
    assert listed.returncode == 0, listed.stderr
    assert all(path.stem in listed.stdout for path in (ROOT / "recipes").glob("*.yaml"))
    copy = trident(installed, tmp_path, "recipes", "b2_adv")
    (tmp_path / "my.yaml").write_text(copy.stdout)
    explained = trident(installed, tmp_path, "run", "my.yaml", "seed=3", "--explain")
    assert explained.returncode == 0, explained.stderr
    assert "my.yaml:" in explained.stdout and "shipped_recipes/b2_ce_dice.yaml:" in explained.stdout
    by_name = trident(installed, tmp_path, "run", "b0_ce", "seed=x")
    assert by_name.returncode == 2
    assert str(installed / "engine/shipped_recipes/b0_ce.yaml") in by_name.stderr


def test_the_installed_command_trains_beside_packages_of_the_same_names(
    installed: Path, tmp_path: Path
) -> None:
    for name in ("models", "losses", "engine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    small = ["data.synthetic.size=32", "data.synthetic.train_samples=4", "data.synthetic.val_samples=2"]
    small += ["augment.crop=32", "train.steps=1", "train.batch=2", "eval.every=1", "schedule.warmup=0"]
    done = trident(installed, tmp_path, "run", "demo", *small)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "checkpoints/demo/report.html").is_file()
