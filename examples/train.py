"""Train on drawn scenes with your own loss and your own callback, then predict an image.

python examples/train.py [folder for the run]
"""

import sys
from pathlib import Path

from PIL import Image
from torch import Tensor, nn

import trident
from engine.data.synthetic import SyntheticScenes


class Poly1(nn.Module):
    """Cross-entropy + epsilon * (1 - probability of the label), arXiv 2204.12511."""

    def __init__(self, ignore_index: int = 255, epsilon: float = 1.0):
        super().__init__()
        self.ignore_index, self.epsilon = ignore_index, epsilon

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(logits, labels, ignore_index=self.ignore_index, reduction="none")
        return (loss + self.epsilon * (1 - (-loss).exp()))[labels != self.ignore_index].mean()


class PrintScores(trident.Callback):
    def on_evaluation(self, step: int, evaluation: trident.Evaluation) -> None:
        print(f"after {step} updates: mIoU {evaluation.scores.mIoU:.3f}")


if __name__ == "__main__":
    values = ["data.synthetic={size: 48, train_samples: 32, val_samples: 8}", "augment.crop=48"]
    values += ["model.arch=linknet", "model.encoder=tu-test_efficientnet", "train.steps=40", "eval.every=20"]
    values += [f"loss=[{{name: '{Path(__file__).stem}:Poly1', epsilon: 2.0}}]", "name=poly1"]
    run = trident.train("demo", [*values, *(f"output.dir={a}" for a in sys.argv[1:])], [PrintScores()])
    labels, probabilities = run.load().predict(SyntheticScenes("val", 1, size_px=48)[0].image)
    Image.fromarray(labels.numpy() * 40).save(run.path / "prediction.png")
