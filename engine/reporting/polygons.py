"""Label maps as polygons, in GeoJSON (RFC 7946); by rasterio and shapely."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE_PX = 1.5  # edges are simplified by triangles of up to this squared; steps of one pixel vanish
DEGREES = 7  # decimals: 1 cm


def write_polygons(
    path: Path, labels: Any, class_names: Sequence[str], georeference: Mapping[str, Any]
) -> None:
    """Write the `polygon_features` of a label map as a GeoJSON file."""
    with path.open("w") as file:  # one after another: as Python objects they take far more memory
        file.write('{"type": "FeatureCollection", "features": [')
        for number, feature in enumerate(polygon_features(labels, class_names, georeference)):
            file.write(", " * (number > 0) + json.dumps(feature))
        file.write("]}")


def polygon_features(
    labels: Any, class_names: Sequence[str], georeference: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    """The features of GeoJSON, a polygon for each connected part of a class; neighbours share an edge.

    Args:
        labels: (h, w) uint8 class ids, or an open file of rasterio with them, which is read in parts; or
            masks (C, h, w) of classes that may overlap, or a list of files of them.
        georeference: `crs` and `transform`; coordinates are then longitude and latitude, else pixels from the
            top left corner, x to the right, y down.
    """
    import shapely

    if isinstance(labels, list) or (isinstance(labels, np.ndarray) and labels.ndim == 3):
        parts = ((polygon, id, value) for id, mask in enumerate(labels) for polygon, value in parts_of(mask))
        found = [(polygon, id) for polygon, id, value in parts if value]
    else:
        found = parts_of(labels)
    simple: Any = [polygon for polygon, _ in found]
    if georeference:
        simple = shapely.transform(simple, lambda xy: _longitude_and_latitude(xy, georeference))
    for polygon, (_, id) in zip(simple, found, strict=True):
        yield {
            "type": "Feature",
            "properties": {"class": class_names[id], "id": id},
            "geometry": shapely.geometry.mapping(polygon),
        }


def parts_of(labels: Any, tolerance_px: float = TOLERANCE_PX) -> list[tuple[Any, int]]:
    """A polygon of shapely and the label of each connected part; neighbours share their simplified edge.

    Args:
        labels: (h, w), or an open file, as in `polygon_features`.
        tolerance_px: see TOLERANCE_PX.
    """
    import rasterio.features
    import shapely

    source = labels if isinstance(labels, np.ndarray) else rasterio.band(labels, 1)
    parts, ids = [], []
    for part, value in rasterio.features.shapes(source, connectivity=4):
        parts.append(shapely.geometry.shape(part))
        ids.append(int(value))
    return list(zip(shapely.coverage_simplify(parts, tolerance_px), ids, strict=True))


def _longitude_and_latitude(xy: NDArray[Any], georeference: Mapping[str, Any]) -> NDArray[Any]:
    """(N, 2) columns and rows of pixels -> (N, 2) degrees."""
    from rasterio.warp import transform

    a, b, c, d, e, f = georeference["transform"][:6]  # affine
    x, y = a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f
    return np.round(np.stack(transform(georeference["crs"], "EPSG:4326", x, y), axis=1), DEGREES)
