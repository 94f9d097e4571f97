"""The archive for the VOC server: complete, in its layout, and checked."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data.formats.voc import voc_images, voc_palette
from engine.data.sample import DataError
from engine.exporting import ExportError
from engine.exporting.voc import export_voc, require_complete
from engine.scoring.segmenter import open_segmenter


def png(ids: np.ndarray, mode: str = "P") -> bytes:
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette([value for colour in voc_palette() for value in colour])
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def test_a_split_without_masks_in_the_layout_of_the_server(voc_run, voc_folder: Path, tmp_path: Path) -> None:
    for mask in (voc_folder / "SegmentationClass").iterdir():
        mask.unlink()
    (voc_folder / "ImageSets/Segmentation/val.txt").rename(voc_folder / "ImageSets/Segmentation/test.txt")
    segmenter = open_segmenter(voc_run(), "cpu")
    out, seen = tmp_path / "deep/results.tar.gz", []
    assert export_voc(segmenter, "test", out, lambda done, total: seen.append((done, total))) == 4
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with tarfile.open(out) as archive:
        names = archive.getnames()
        assert names == [
            f"results/VOC2012/Segmentation/comp6_test_cls/val_{number:06d}.png" for number in range(4)
        ]
        for name in names:
            image = Image.open(io.BytesIO(archive.extractfile(name).read()))
            photo = voc_folder / "JPEGImages" / f"{Path(name).stem}.jpg"
            assert image.mode == "P" and tuple(image.getpalette()) == sum(voc_palette(), ())
            assert np.array_equal(np.asarray(image), segmenter.predict(photo).labels.numpy())
    export_voc(segmenter, "test", tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == out.read_bytes()


def test_a_missing_split_or_image_is_named(voc_run, voc_folder: Path, tmp_path: Path) -> None:
    segmenter = open_segmenter(voc_run(), "cpu")
    with pytest.raises(DataError, match="No split 'test': .* Splits there: train, val"):
        export_voc(segmenter, "test", tmp_path / "out.tar.gz")
    (voc_folder / "JPEGImages/val_000002.jpg").unlink()
    with pytest.raises(DataError, match="1 of 4 image files is missing: .*val_000002.jpg"):
        export_voc(segmenter, "val", tmp_path / "out.tar.gz")
    assert not (tmp_path / "out.tar.gz").exists()


def test_other_classes_are_refused(two_small, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"the 21 classes of VOC .* small predicts others: ground, cat, dog"
    ):
        export_voc(two_small, "val", tmp_path / "out.tar.gz")


@pytest.mark.parametrize(
    ("id", "content", "message"),
    [
        ("val_000001", None, "val_000001 is missing"),
        ("stranger", png(np.zeros((3, 3), np.uint8)), "stranger is not in the list"),
        ("val_000001", png(np.zeros((64, 48), np.uint8)), "val_000001 is 48x64 px, its image 64x48"),
        ("val_000001", png(np.zeros((48, 64), np.uint8), "L"), "val_000001 has mode L"),
        ("val_000001", png(np.full((48, 64), 255, np.uint8)), "val_000001 holds id 255"),
        ("val_000001", png(np.full((48, 64), 21, np.uint8)), "holds id 21, and the last class is 20"),
    ],
)
def test_archives_that_the_server_would_refuse_are_an_error(
    id: str, content: bytes | None, message: str, voc_folder: Path
) -> None:
    images = voc_images(voc_folder, "val")
    pictures = {
        name: png(np.full(Image.open(path).size[::-1], 20, np.uint8)) for name, path in images.items()
    }
    require_complete(pictures, images, 21)
    if content is None:
        del pictures[id]
    else:
        pictures[id] = content
    with pytest.raises(ExportError, match=message):
        require_complete(pictures, images, 21)
