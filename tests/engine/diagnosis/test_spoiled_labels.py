"""The figure of docs/diagnose.md, with a model that was trained for it: minutes, so it is slow."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.diagnosis.label_check import LabelCheck
from engine.diagnosis.suspects import Suspicion
from engine.run import main as run_main
from tests.engine.diagnosis.corruption import corrupt_some, share_found

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_short_training_finds_seven_in_ten(tmp_path: Path) -> None:
    """The demo's recipe for 300 updates; 400 unseen scenes, 12 of them with wrong labels, five times."""
    more = ["train.steps=300", "eval.every=100", "log.images=0", f"output.dir={tmp_path}"]
    assert run_main([str(ROOT / "recipes/demo.yaml"), *more]) == 0
    check = LabelCheck(tmp_path / "demo", ["data.synthetic.val_samples=400"], None, torch.device("cpu"))
    scenes = [check.dataset[i] for i in range(len(check.dataset))]
    labels = {scene.id: scene.labels.numpy() for scene in scenes}
    seen = {scene.id: check.predict(scene.image[None])[0] for scene in scenes}
    num_classes, ignore_index = len(check.trained.class_names), check.dataset.ignore_index
    shares = []
    for seed in range(5):
        spoiled, kinds = corrupt_some(labels, 0.03, num_classes, ignore_index, np.random.default_rng(seed))
        suspicion = Suspicion(num_classes, ignore_index)
        for id, probabilities in seen.items():
            suspicion.add(id, probabilities, spoiled[id])
        shares.append(share_found([suspect.id for suspect in suspicion.ranking()], kinds))
    print(f"in the first tenth: {np.mean(shares):.2f} of the spoiled, by seed {shares}")
    assert np.mean(shares) >= 0.7
