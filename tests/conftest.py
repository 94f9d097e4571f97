"""Settings of all tests, so that their result does not depend on where and how they were started.

One thread, so that workers do not compete for cores; a console so wide that no table wraps; no deadlines.
Garbage is not collected while pytest imports and collects: nearly all of those objects stay.
"""

import atexit
import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch loads, here and in the processes that tests start
os.environ["COLUMNS"] = "1000"

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# What libraries, and the processes that tests start, leave in the system's folder for temporary files.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # where pytest keeps `tmp_path`
os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="trident-tests-")
atexit.register(shutil.rmtree, os.environ["TMPDIR"], ignore_errors=True)

FROM_OUTSIDE = (  # of a launcher of processes, of a console with colours, of servers that are used instead
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_USE_AGENT_STORE", "RAY_ADDRESS"),
    *("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"),
    *("HF_ENDPOINT", "HF_HUB_OFFLINE", "WANDB_MODE", "MLFLOW_TRACKING_URI"),
)
for name in FROM_OUTSIDE:
    os.environ.pop(name, None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for `make test &`,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one

settings.register_profile("trident", deadline=None, derandomize=True)
settings.load_profile("trident")
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()  # later collections do not look at the objects of the collected tests and imported modules
    gc.enable()


VOC_SIZES = {  # (h, w) px
    "train": [(40, 56), (64, 48), (48, 48), (40, 56), (72, 41), (53, 64)],
    "val": [(40, 56), (48, 64), (40, 56), (45, 45)],
}


@pytest.fixture
def voc_folder(tmp_path: Path) -> Path:
    """A folder in VOC layout for classes voc21: splits train (6 images) and val (4), palette masks.

    Each image is a grey ground with one box, whose colour belongs to its class and whose border is void.
    """
    from engine.data.formats.voc import voc_palette  # here, so that tests of the recipe need no torch

    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    palette = voc_palette()
    for split, sizes in VOC_SIZES.items():
        ids = [f"{split}_{number:06d}" for number in range(len(sizes))]
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(ids) + "\n")
        for number, (id, (h, w)) in enumerate(zip(ids, sizes, strict=True)):
            class_id = (15, 8, 12)[number % 3]  # person, cat, dog
            labels = np.zeros((h, w), np.uint8)
            labels[h // 5 : -h // 5, w // 5 : -w // 5] = 255
            labels[h // 5 + 2 : -h // 5 - 2, w // 5 + 2 : -w // 5 - 2] = class_id
            image = np.full((h, w, 3), 90, np.uint8)
            image[labels > 0] = palette[class_id]
            Image.fromarray(image).save(root / "JPEGImages" / f"{id}.jpg", quality=95)
            mask = Image.fromarray(labels)
            mask.putpalette([value for colour in palette for value in colour])
            mask.save(root / "SegmentationClass" / f"{id}.png")
    return root


@pytest.fixture(scope="session")
def shared_voc() -> Path:
    """The real photos next to the checkout; tests that use them are skipped where they are absent."""
    root = Path(__file__).parents[2] / "shared/data/voc2012_animals"
    if not root.is_dir():
        pytest.skip("no ../shared/data/voc2012_animals next to this checkout: nothing checked on real photos")
    return root
