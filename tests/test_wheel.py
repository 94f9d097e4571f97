"""The wheel holds the three packages, each file of them, and nothing else."""

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
PACKAGES = ("engine", "models", "losses")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
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
    return zipfile.ZipFile(path)


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
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_installs_the_trident_command(wheel: zipfile.ZipFile) -> None:
    assert "trident = engine.command:main" in metadata(wheel, "entry_points.txt").splitlines()


def test_says_name_version_licence_and_python(wheel: zipfile.ZipFile) -> None:
    said = Parser().parsestr(metadata(wheel, "METADATA"))
    assert said["Name"] == "trident-seg"
    assert said["Version"] == engine.__version__
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Requires-Python"] == ">=3.11"
    assert "Apache License" in metadata(wheel, "licenses/LICENSE")


def test_a_plain_install_brings_no_extras(wheel: zipfile.ZipFile) -> None:
    requirements = Parser().parsestr(metadata(wheel, "METADATA")).get_all("Requires-Dist", [])
    plain = {re.split(r"[^\w-]", line)[0] for line in requirements if "extra ==" not in line}
    assert {"torch", "torchvision", "kornia", "timm", "h5py", "rich"} <= plain
    assert not plain & {"ray", "onnx", "onnxruntime", "pycocotools", "pytest", "ruff", "mypy"}
