"""Predictions as annotations of LabelMe or COCO, to be corrected by hand, the most suspicious first."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.diagnosis.label_check import ShownSuspect
from engine.reporting.polygons import parts_of
from engine.run_folder import write_json, write_text

TOLERANCE_PX = 0.7  # finer than for maps: the masks drawn from the outlines are to be those of the prediction
DECIMALS = 2
LEAST_PIXELS = 4  # smaller parts are left to what is around them
VOID = "__ignore__"  # LabelMe's name for pixels that do not count
LABELME_VERSION = "5.5.0"  # the first digits are compared by LabelMe, which warns about others


class Export:
    """Writes images and annotations into a new folder, numbered by rank, so that tools list them in order.

    Args:
        folder: is made.
        kind: "labelme" or "coco".
        class_names: by label id.
        background: the id of the class of no object, or None.
    """

    def __init__(self, folder: Path, kind: str, class_names: Sequence[str], background: int | None):
        self.folder, self.kind = folder, kind
        self.class_names, self.background = class_names, background
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []

    def passing(self, shown: Iterable[ShownSuspect]) -> Iterator[ShownSuspect]:
        """The same suspects; each is written as it passes, and the file of COCO after the last."""
        pictures = self.folder if self.kind == "labelme" else self.folder / "images" / "corrected"
        pictures.mkdir(parents=True)
        for rank, one in enumerate(shown, 1):
            name = f"{rank:04}_{PurePosixPath(one.suspect.id).name}.png"
            Image.fromarray(one.sample.image.permute(1, 2, 0).numpy()).save(pictures / name)
            labels = one.predictions.astype(np.uint8)
            if self.kind == "labelme":
                content = labelme_content(labels, self.class_names, self.background, name)
                content["flags"] = {one.suspect.reason(self.background): True}
                write_text(pictures / f"{name[:-4]}.json", json.dumps(content))
            else:
                self._add(labels, name)
            yield one
        if self.kind == "coco":
            (self.folder / "annotations").mkdir()
            write_json(self.folder / "annotations" / "instances_corrected.json", self._coco())

    def _add(self, labels: NDArray[np.uint8], name: str) -> None:
        height, width = labels.shape
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for polygon, id in parts_of(labels, TOLERANCE_PX):
            if id == self.background or polygon.area < LEAST_PIXELS:
                continue
            left, top, right, bottom = polygon.bounds
            self._objects.append(
                {
                    "id": len(self._objects) + 1,
                    "image_id": image_id,
                    "category_id": id + 1,
                    "segmentation": _segmentation(polygon, height, width),
                    "area": round(polygon.area, DECIMALS),
                    "bbox": [round(n, DECIMALS) for n in (left, top, right - left, bottom - top)],
                    "iscrowd": 0,
                }
            )

    def _coco(self) -> dict[str, Any]:
        categories = [
            {"id": id + 1, "name": name} for id, name in enumerate(self.class_names) if id != self.background
        ]
        return {"images": self._images, "annotations": self._objects, "categories": categories}


def labelme_content(
    labels: NDArray[np.uint8],
    class_names: Sequence[str],
    background: int | None,
    image: str,
    ignore_index: int = 255,
) -> dict[str, Any]:
    """A file of LabelMe for a label map, (h, w).

    Its polygons have no holes, so the outer outlines are drawn from large to small: what lies in a hole comes
    later, the background too. Background at the edge of the image is in no hole and left out.
    """
    height, width = labels.shape
    shapes = []
    for polygon, id in sorted(parts_of(labels, TOLERANCE_PX), key=lambda part: -_outer_area(part[0])):
        left, top, right, bottom = polygon.bounds
        is_at_edge = left <= 0 or top <= 0 or right >= width or bottom >= height
        if polygon.area < LEAST_PIXELS or (id == background and is_at_edge):
            continue
        shapes.append(
            {
                "label": VOID if id == ignore_index else class_names[id],
                "points": np.round(polygon.exterior.coords[:-1], DECIMALS).tolist(),
                "group_id": None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
        )
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _outer_area(polygon: Any) -> float:
    import shapely

    return float(shapely.Polygon(polygon.exterior).area)


def _segmentation(polygon: Any, height: int, width: int) -> Any:
    """A list of one outline; with holes, which COCO's polygons cannot have, run lengths down the columns."""
    if not polygon.interiors:
        return [np.round(polygon.exterior.coords[:-1], DECIMALS).ravel().tolist()]
    from engine.data.formats.shapes import area_of

    rings = [np.asarray(ring.coords[:-1]).ravel() for ring in (polygon.exterior, *polygon.interiors)]
    area = area_of(rings[:1], height, width) & ~area_of(rings[1:], height, width)
    column = np.concatenate([[False], area.T.ravel(), [False]])
    edges = np.flatnonzero(column[1:] != column[:-1])
    counts = np.diff(np.concatenate([[0], edges, [] if area[-1, -1] else [area.size]]))
    return {"size": [height, width], "counts": counts.astype(int).tolist()}
