"""Messages about finished and stopped runs, of all commands that take them."""

import contextlib
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from engine.command import main
from tests.engine.remedies import sandbox
from tests.engine.remedies.provoking import RUN, Case, every, require_remedies_work
from tests.engine.remedies.sandbox import draw_mask, photo, save, voc, write


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


def ensemble() -> None:
    run()
    assert main(["run", "r.yaml", "name=two", "eval.every=1", "data.doctor=off"]) == 0
    assert main(["ensemble", "checkpoints/two", "--save", "e"]) == 0
    write("g.yaml", sandbox.RECIPE.replace("name: r", "name: g"))


def floats() -> None:
    run()
    save("floats/0.tif", np.random.default_rng(0).random((40, 40), np.float32))


def large() -> None:
    run()
    photo("large/a photo.png", 1)
    Image.MAX_IMAGE_PIXELS = 2000


def run_without_state() -> None:
    run()
    shutil.rmtree("checkpoints/r/last")


CASES = [
    Case("To go on with this run type", "run checkpoints/r", run),
    Case("To compare its run, type", "compare r.yaml e", ensemble),
    Case("instead: trident run", "compare g.yaml e", ensemble, more="--dry-run"),
    Case("the encoder of this model has no BatchNorm",
         f"{RUN} model.weights=checkpoints/r model.from_scratch=false train.batch_norm=frozen", run),
    Case("pixels, whose value range is unknown. Type", "predict checkpoints/r floats --out o", floats,
         blanks={"lowest": "0", "highest": "1"}),
    Case("is too large to be predicted as a whole. Type", "predict checkpoints/r large --out o", large,
         add=("--max-pixels=2240",)),
    Case("--tile scores all of an image", "evaluate checkpoints/r --tile 32 --protocol=centercrop", run,
         add=("--protocol=native",), drop=("--protocol=centercrop",)),
    Case("yet. Train one: trident run <recipe>", "board empty --once",
         lambda: (voc(), Path("empty").mkdir()), more="--dry-run"),
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
    Case("whose classes are fixed, without the pixels of these ids", "evaluate checkpoints/r data.root=other",
         lambda: (run(), voc("other", mask=draw_mask(30, rest=15)))),
]  # fmt: skip


@every(CASES)
def test_what_is_typed_next_works(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_remedies_work(case, capsys)
