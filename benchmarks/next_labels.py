"""Do images that `trident diagnose --next` chooses teach more than as many at random? On drawn scenes.

    python benchmarks/next_labels.py --work FOLDER --out next_labels.json
    python benchmarks/next_labels.py --work OTHER --out next_labels-rare.json --common 0.8

Of each seed: a model is trained on some labelled scenes; more of them are taken from a pool, once as
`--next` chooses and once at random; a new model is trained from random weights on the old and new ones
together, and scored after its last update on scenes of their own. It prints and writes the mIoU of both,
and their difference with a 95 % interval over scenes and seeds. A run that is in FOLDER is not trained again.

With --common 0.8 the pool is as a camera takes it, not as a collector chooses it: four of five scenes hold no
turtle and no jellyfish. The scenes that are scored are drawn as ever, with all classes alike.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import trident
from engine.benchmarks.measuring import environment
from engine.data.synthetic import SCENE_CLASSES, SyntheticScenes
from engine.diagnosis.next_labels import Pool, choose
from engine.run_folder import RunFolder, write_json
from engine.scoring.run import Run
from engine.scoring.seeds import SeedScores, difference
from engine.scoring.statistics import CONFIDENCE, Overlaps, draws

SIZE_PX, NUM_VAL = 64, 100
RARE = [SCENE_CLASSES.index(name) for name in ("turtle", "jellyfish")]  # with --common
MOST_DRAWN = 20_000
RECIPE = """
data: {{format: folder, root: {root}, train: {train}, val: val, classes: [{classes}], doctor: "off"}}
augment: {{crop: 64, scale: [0.75, 1.5], rotate_deg: 0.0, hue: 0.0}}
model: {{variant: b0, decoder_width: 64, from_scratch: true}}
optimizer: {{lr: 2.0e-3, head_lr_mult: 1.0, clip_norm: 1.0}}
schedule: {{name: cosine, warmup: 8%}}
train: {{steps: {updates}, batch: 8}}
log: {{to: [], images: 0}}
"""


def main() -> None:
    """Draw, train, choose, train again, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes and runs")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--pool", type=int, default=500, help="scenes, those labelled at the start included")
    parser.add_argument("--count", type=int, default=100, help="labelled at the start, and added (100)")
    parser.add_argument("--updates", type=int, default=400, help="of each training (400)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--common", type=float, default=0.0, help="share without rare classes (0)")
    arguments = parser.parse_args()
    work, count = arguments.work.absolute(), arguments.count
    names = draw_scenes(work, "train", arguments.pool, arguments.common)
    (work / "val.txt").write_text("\n".join(draw_scenes(work, "val", NUM_VAL)))
    found: dict[str, dict[int, Overlaps]] = {"chosen": {}, "at random": {}}
    for seed in range(arguments.seeds):
        drawn = np.random.default_rng(seed).permutation(names).tolist()
        labelled, others = drawn[:count], drawn[count:]
        first = trained(work, f"first-{seed}", labelled, seed, arguments.updates, "20%")
        added = {"chosen": next_of(first, work, others, seed, count), "at random": others[:count]}
        for how, more in added.items():
            name = f"{how.replace(' ', '-')}-{seed}"
            run = trained(work, name, [*labelled, *more], seed, arguments.updates, "100%")
            assert run.scores is not None
            found[how][seed] = run.scores.overlaps[run.best.name]
            print(f"seed {seed}, {how}: mIoU {run.best.scores['mIoU']:.4f}", flush=True)
    report(found, vars(arguments))


def report(found: dict[str, dict[int, Overlaps]], settings: dict[str, object]) -> None:
    """Print the difference, and write the file."""
    drawn = draws(NUM_VAL)
    chosen, at_random = (SeedScores.of(of_seeds, drawn) for of_seeds in found.values())
    gain = difference(chosen, at_random, CONFIDENCE)
    value, low, high = (float(of[0]) for of in (gain.value, gain.low, gain.high))
    print(f"chosen less at random: {value:+.4f} [{low:+.4f}, {high:+.4f}]")
    rows = {"chosen": chosen.scores[:, 0].tolist(), "at random": at_random.scores[:, 0].tolist()}
    result = {"mIoU": rows, "gain": {"value": value, "low": low, "high": high}}
    conditions = {name: value for name, value in settings.items() if name not in ("work", "out")}
    content = {"environment": environment(torch.get_num_threads()), "conditions": conditions, **result}
    write_json(Path(str(settings["out"])), content)


def draw_scenes(work: Path, split: str, number: int, common: float = 0.0) -> list[str]:
    """Images and masks as files, and their names.

    Args:
        common: the share of them that holds no class of RARE; 0: as drawn.
    """
    for kind in ("images", "masks"):
        (work / kind).mkdir(parents=True, exist_ok=True)
    scenes = SyntheticScenes(split, MOST_DRAWN, SIZE_PX)
    lacking = {False: number - round(common * number), True: round(common * number)}  # by: is it common
    names: list[str] = []
    for place, name in enumerate(scenes.ids):
        if len(names) == number:
            break
        scene = scenes[place]
        is_common = common > 0 and not np.isin(scene.labels.numpy(), RARE).any()
        if lacking[is_common] == 0:
            continue
        lacking[is_common] -= 1
        names.append(name)
        if not (work / "masks" / f"{name}.png").exists():
            Image.fromarray(scene.image.permute(1, 2, 0).numpy()).save(work / "images" / f"{name}.png")
            Image.fromarray(scene.labels.numpy()).save(work / "masks" / f"{name}.png")
    assert len(names) == number, "more scenes have to be drawn for such a share"
    return names


def trained(work: Path, name: str, ids: list[str], seed: int, updates: int, every: str) -> Run:
    """A run on these scenes, from random weights."""
    folder = RunFolder(work / "runs" / name)
    if folder.is_finished:
        return Run(folder)
    (work / f"{name}.txt").write_text("\n".join(ids))
    recipe = work / f"{name}.yaml"
    classes = ", ".join(SCENE_CLASSES)
    recipe.write_text(RECIPE.format(root=work, train=name, classes=classes, updates=updates))
    values = [f"name={name}", f"seed={seed}", f"eval.every={every}", f"output.dir={work / 'runs'}"]
    return trident.train(recipe, values, resume=True, quiet=True)


def next_of(run: Run, work: Path, others: list[str], seed: int, count: int) -> list[str]:
    """What `trident diagnose RUN --next COUNT --pool FOLDER` chooses of these scenes."""
    folder = work / f"pool-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in others:
        shutil.copyfile(work / "images" / f"{name}.png", folder / f"{name}.png")
    pool = Pool(run.path, [], folder, count, work / "out", torch.device("cpu"))
    measured = pool.measured(lambda done, total: None)
    bits = np.array([one.bits for one in measured])
    features = np.stack([one.features for one in measured])
    return [measured[number].image.path.stem for number in choose(bits, features, count)]


if __name__ == "__main__":
    main()
