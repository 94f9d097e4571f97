"""Messages of trident doctor and trident new."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.command import main
from tests.engine.remedies import sandbox
from tests.engine.remedies.provoking import OWN, Case, every, require_remedies_work
from tests.engine.remedies.sandbox import coco, damaged, draw_mask, forty, masks_of, own, save, voc

COCO_DATA = "data.format=coco data.root=coco data.train=train2017 data.val=val2017"


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


def from_one() -> None:
    mask = draw_mask(2, 1)
    mask[0, :21] = np.arange(1, 22)
    voc(mask=mask)


def twelve_bits() -> None:
    own("SPLIT/images/{}.png", "SPLIT/masks/{}.png")
    for number, path in enumerate(sorted(Path("own").glob("*/images/*.png"))):
        values = np.random.default_rng(number).integers(0, 4096, (sandbox.H, sandbox.W))
        save(str(path), values.astype(np.uint16))


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


CASES = [
    Case("auto chooses the batch when", "doctor r.yaml train.batch=auto"),
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
    Case("data.val=<a split of other images>", "doctor r.yaml data.val=train"),
    Case("data.select=<a split of other images>", "doctor r.yaml data.select=train"),
    Case("For more, first type: trident new", "doctor own --fix mended", masks_of(1)),
    Case("Next: trident new", "doctor own", masks_of(1)),
    Case("write a recipe: trident new", "run own", masks_of(1)),
    Case("the folder of both: trident new", "new own/images", forty),
    Case("Next: trident run", "new own", masks_of(1),
         more="--dry-run augment.crop=32 train.batch=2 model.weights=null model.from_scratch=true"),
    Case("'data.ids=…'", "doctor r.yaml", lambda: voc(mask=draw_mask(99)), ignore=("data.ignore_index",)),
    Case("else 'data.range=[<lowest>, <highest>]'", "doctor f.yaml", twelve_bits,
         blanks={"lowest": "0", "highest": "4095"}),
    Case("which holds all of them", "doctor f.yaml data.range=[0,100]", twelve_bits),
    Case("What is left does not stop a training: …", "doctor r.yaml --fix mended", from_one,
         more="--dry-run"),
    Case("Next: …", "new voc", damaged),
    Case("If there are more than two classes: data.folder", "doctor f.yaml data.folder.values=binary",
         masks_of(3), more="data.classes=[a,b,c,d]"),
    Case("data.bands=4, if the fourth", "doctor f.yaml", transparent, then=OWN),
    Case("exists already, and nothing is overwritten. Type", "doctor r.yaml --out f.yaml",
         add=("--out",), more="new.json", drop=("--out", "f.yaml")),
]  # fmt: skip


@every(CASES)
def test_what_is_typed_next_works(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_remedies_work(case, capsys)


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
