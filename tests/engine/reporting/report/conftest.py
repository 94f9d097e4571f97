"""Two finished runs that were written by hand, with all files of a run, and a browser."""

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import engine.data
from engine.recipe import load_recipe
from engine.run_folder import DataIdentity, Manifest, Member, RunFolder, sha256_of, write_json
from engine.scoring.ensembling import ensemble_report, group_candidates, open_val, score_together
from engine.scoring.protocols import EvaluationProtocol
from models import build_model
from tests.engine.reporting.report.browser import CHROMIUM, Browser

RECIPE = """
name: {name}
seed: {seed}
data:
  format: synthetic
  synthetic: {{size: 32, train_samples: 2, val_samples: 9, seed: 0}}
model: {{variant: b0, decoder_width: 16, from_scratch: true}}
train: {{steps: 400, batch: 4}}
schedule: {{warmup: 0}}
"""
STEPS = (400, 200)


def log_rows(seed: int) -> list[dict]:
    """The log of a training that improves: 40 log steps, two evaluations."""
    rows: list[dict] = []
    for step in range(10, 401, 10):
        loss = 2.0 - step / 400 + 0.1 * ((step + seed) % 3)
        terms = {"decode.loss_ce": loss / 2, "decode.loss_dice": loss / 2}
        rates = {"lr": 1e-3 * (1 - step / 401), "base_lr": 1e-4}
        costs = {"time": 0.25, "data_time": 0.01, "memory": 500.0 + seed}
        rows.append({"step": step, "split": "train", "loss": loss, **terms, **rates, **costs})
        if step in STEPS:
            means = {"mIoU": step / 1000, "mAcc": 0.5, "aAcc": 0.6}
            rows.append({"step": step, "split": "val", **means, "loss": 0.9, "IoU": {}})
    return rows


def make_run(path: Path, name: str, seed: int) -> RunFolder:
    """A finished run of two members with random weights, scored on nine drawn scenes."""
    run = RunFolder(path)
    run.create()
    run.recipe.write_text(RECIPE.format(name=path.name, seed=seed))
    recipe = load_recipe(run.recipe)
    val = engine.data.open_split(recipe.data, "val")
    members = []
    for step in STEPS:
        torch.manual_seed(step + seed)
        file = run.top / f"step-{step:07d}.safetensors"
        save_file(build_model(recipe.model, val.class_names).state_dict(), file)
        scores = {"mIoU": step / 1000 + seed / 10}
        members.append(Member(file=f"top/{file.name}", step=step, scores=scores, sha256=sha256_of(file)))
    data = DataIdentity(
        format="synthetic", train="train", val="val", train_fingerprint="", val_fingerprint=val.fingerprint()
    )
    manifest = Manifest(
        name=name, code_version="0", class_names=list(val.class_names), palette=list(val.palette), data=data,
        metric="mIoU", num_parameters=1234567, environment={"device": "an abacus"}, finished=True,
        members=members,
    )  # fmt: skip
    run.write_manifest(manifest)
    run.log.write_text("".join(json.dumps(row) + "\n" for row in log_rows(seed)))
    finding = {"check": "leak", "severity": "hurts", "what": "<u>two</u> images are one",
               "why": "it flatters", "remedy": "data.train=clean", "where": ["a.png"],
               "num_files": 3}  # fmt: skip
    write_json(run.doctor, {"findings": [finding]})
    candidates = group_candidates([run])[0].candidates
    _, val = open_val(candidates[0], ())
    scores = score_together(candidates, val, EvaluationProtocol(), torch.device("cpu"), 0, run.scores)
    write_json(run.ensemble, ensemble_report(candidates, scores, EvaluationProtocol(), val, run.path))
    return run


def count_more(run: RunFolder) -> None:
    """Outlines and confidence as `scores_file.py` describes them: half of 60 confident pixels are right."""
    with h5py.File(run.scores, "a") as file:
        num_images, num_classes, _ = file["confusion/step 400"].shape
        boundary = np.zeros((num_images, num_classes + 1, num_classes + 1), np.int64)
        boundary[:, 1, 1], boundary[:, 1, 0] = 3, 1
        reliability = np.zeros((num_images, 3, 15))
        reliability[:, :, -1] = [60, 57, 30]
        for name, counts in (("boundary", boundary), ("reliability", reliability)):
            if f"{name}/step 400" in file:
                del file[f"{name}/step 400"]
            file[f"{name}/step 400"] = counts


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs on the same scenes; the second has counts of outlines and confidence."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "plain", "a <i>plain</i> run", seed=0)
    count_more(make_run(folder / "better", "better", seed=1))
    return folder


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Started once; a test that asks for it is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: nothing checked in a real browser")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
