"""The cost of three members compared with one: decoded, predicted and counted, as `trident ensemble` does it.

    python benchmarks/ensemble.py --variants b0 b2 --out FILE.json

Photos are drawn scenes of 512 px with 21 classes, held as JPEG and PNG and decoded at each use. Weights are
random: they change no time. All contenders run in turn in each round; a ratio is taken within a round.
"""

import argparse
import io
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from rich.console import Console

from engine.benchmarks.measuring import environment, ratio
from engine.data.batches import Batch
from engine.data.formats.bands import decode_mask
from engine.data.formats.images import decode_image
from engine.data.synthetic import SyntheticScenes
from engine.reporting.console import counted
from engine.run_folder import write_json
from engine.scoring.combining import Combination
from engine.scoring.evaluation import evaluate
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.timing import interleaved
from models.segformer import SegFormer

NUM_CLASSES, VOID, SIZE_PX, MEMBERS = 21, 255, 512, 3
ONE = "one member, or a soup"
COMBINATIONS = {
    "mean of three": Combination.mean(MEMBERS),
    "mean logit of three": Combination.mean(MEMBERS, "logit"),
    "three weighted by class": Combination("probability", ((1 / 3,) * NUM_CLASSES,) * MEMBERS, (1.0,) * 3),
    "three at temperatures": Combination("probability", ((1 / 3,),) * MEMBERS, (1.2, 1.3, 1.4)),
}
Files = list[tuple[bytes, bytes]]  # JPEG, PNG


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=["b0", "b2"])
    parser.add_argument("--images", type=int, default=2, help="in each call (default 2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON of all times")
    arguments = parser.parse_args()
    console, files = Console(highlight=False), _draw(arguments.images)
    rows: list[dict[str, object]] = []
    for variant in arguments.variants:
        seconds = measure(variant, files, arguments.rounds, counted(console, variant))
        for name, times in seconds.items():
            dearer = ratio(times, seconds[ONE])
            images_per_s = len(files) / median(times)
            console.print(f"{variant}  {name:<24} {images_per_s:6.2f} images/s  {dearer:.2f} x one member")
            rows.append(
                {"variant": variant, "contender": name, "size_px": SIZE_PX, "images": len(files)}
                | {"seconds": times, "images_per_s": images_per_s, "times_one_member": dearer}
            )
    if arguments.out:
        write_json(arguments.out, {"environment": environment(torch.get_num_threads()), "rows": rows})
        console.print(f"written: {arguments.out}")


def measure(
    variant: str, files: Files, rounds: int, progress: Callable[[int, int], None]
) -> dict[str, list[float]]:
    """Seconds of each round, by contender."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = {
        f"member {number}": SegFormer(variant, NUM_CLASSES).to(device).eval() for number in range(MEMBERS)
    }
    predictor = Predictor(EvaluationProtocol(), nullcontext)

    def score(name: str) -> None:
        evaluate(
            models,
            _decoded(files, device),
            predictor,
            NUM_CLASSES,
            VOID,
            device,
            combinations=COMBINATIONS,
            counted=[name],
        )

    contenders = {ONE: partial(score, "member 0")} | {name: partial(score, name) for name in COMBINATIONS}
    return interleaved(contenders, rounds, progress)


def _draw(num_images: int) -> Files:
    scenes = SyntheticScenes("val", num_images, SIZE_PX, 0)
    return [
        (_encoded(scene.image.permute(1, 2, 0).numpy(), "JPEG"), _encoded(scene.labels.numpy(), "PNG"))
        for scene in (scenes[number] for number in range(num_images))
    ]


def _encoded(pixels, format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def _decoded(files: Files, device: torch.device) -> Iterator[Batch]:
    for number, (jpeg, png) in enumerate(files):
        image = torch.from_numpy(decode_image(io.BytesIO(jpeg))[0]).permute(2, 0, 1)[None]
        labels = torch.from_numpy(decode_mask(io.BytesIO(png)))[None]
        yield Batch(image.to(device), labels.to(device), [str(number)])


if __name__ == "__main__":
    main()
