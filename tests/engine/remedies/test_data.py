"""Messages about the data of a recipe, where it is and what it holds."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.engine.remedies import sandbox
from tests.engine.remedies.provoking import OWN, RUN, Case, every, require_remedies_work
from tests.engine.remedies.sandbox import (
    annotated,
    coco,
    damaged,
    draw_mask,
    forty,
    masks_of,
    own,
    save,
    voc,
    write,
)

COCO = f"{RUN} data.format=coco data.root=coco data.train=train2017 data.val=val2017"
LABELME = f"{OWN} data.format=labelme data.ignore_index=255"
MULTI = "run m.yaml --dry-run"


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


def a_mask_more() -> None:
    own("SPLIT/images/{}.jpg", "SPLIT/masks/{}_mask.png")
    for split in ("train", "val"):
        save(f"own/{split}/masks/0_edge.png", draw_mask(1))


def small_limit() -> None:
    voc()
    Image.MAX_IMAGE_PIXELS = 2000


CASES = [
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
    Case("Type data.doctor=off to train anyway", "run r.yaml", lambda: voc(mask=draw_mask(255))),
    Case("Type data.range=auto.", f"{RUN} data.range=[0,4095]"),
    Case("is refused as a decompression bomb", "run r.yaml data.doctor=off", small_limit,
         add=("--max-pixels=2240",), ignore=("data.on_error",)),
    Case("For those there is data.format=folder",
         f"{RUN} data.format=camvid data.root=own data.doctor=off data.train=train data.val=val",
         lambda: own("SPLIT/{}.png", "SPLITannot/{}.png", draw_mask(40)),
         more=f"data.classes=[{','.join(f'c{n}' for n in range(41))}] "
              "'data.folder.images=\"{split}\"' 'data.folder.masks=\"{split}annot\"'"),
    Case("data.on_error=skip leaves such images out", "run r.yaml data.doctor=off", damaged),
    Case("or, if all images have", f"{RUN} data.bands=4"),
    Case("is a colour, and", f"{RUN} 'data.bands=[a, b, c]' data.normalisation=auto"),
    Case("for all such labels, data.polygons.other", f"{LABELME} data.polygons.val_share=0.3",
         annotated("c")),
    Case("data.polygons.val_share=0.2 to take a fifth", LABELME, annotated()),
    Case("is not complete JSON", f"{LABELME} data.polygons.val_share=0.3", annotated(end="cut")),
    Case("no class would be anywhere", MULTI, overlapping(255)),
    Case("If it is not on these images, type", MULTI, overlapping(lacks="own/train/masks/a/0.png")),
    Case("a discriminator is for data.labels", f"{MULTI} adversarial={{}}", overlapping()),
    Case("the latest states are for data.labels", f"{MULTI} keep.tail=4", overlapping()),
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
]  # fmt: skip


@every(CASES)
def test_what_is_typed_next_works(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_remedies_work(case, capsys)
