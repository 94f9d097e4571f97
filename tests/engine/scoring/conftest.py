"""Finished runs, written by the test."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import engine.data
from engine.recipe import load_recipe
from engine.run_folder import DataIdentity, Manifest, Member, RunFolder, sha256_of
from models import build_model

RECIPE = """
name: {name}
data:
  format: synthetic
  synthetic: {{size: 32, train_samples: 2, val_samples: 5, seed: {seed}}}
augment: {{crop: 32}}
model: {{variant: b0, decoder_width: 16, from_scratch: true}}
"""
MakeRun = Callable[..., RunFolder]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a finished run: `make_run("folder", {step: mIoU})`; checkpoints differ by their step."""

    def make(folder: str, scores: dict[int, float], name: str = "demo", data_seed: int = 0) -> RunFolder:
        run = RunFolder(tmp_path / folder)
        run.create()
        run.recipe.write_text(RECIPE.format(name=name, seed=data_seed))
        recipe = load_recipe(run.recipe)
        val = engine.data.open_split(recipe.data, "val")
        data = DataIdentity(
            format="synthetic",
            train="train",
            val="val",
            train_fingerprint="",
            val_fingerprint=val.fingerprint(),
        )
        members = []
        for step, score in scores.items():
            torch.manual_seed(step)
            path = run.top / f"step-{step:07d}.safetensors"
            save_file(build_model(recipe.model, val.class_names).state_dict(), path)
            file = str(path.relative_to(run.path))
            members.append(Member(file=file, step=step, scores={"mIoU": score}, sha256=sha256_of(path)))
        run.write_manifest(
            Manifest(
                name=name, code_version="0", class_names=list(val.class_names),
                palette=list(val.palette), data=data, metric="mIoU", num_parameters=1, members=members,
            )
        )  # fmt: skip
        return run

    return make
