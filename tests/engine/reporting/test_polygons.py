"""Polygons of label maps: their areas, holes, shared edges and coordinates."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from shapely.geometry import shape

from engine.reporting.polygons import write_polygons

NAMES = ["field", "lake", "island"]


def written(path: Path, labels: np.ndarray, georeference=None) -> list[tuple[str, object]]:
    write_polygons(path, labels, NAMES, georeference or {})
    content = json.loads(path.read_text())
    assert content["type"] == "FeatureCollection"
    return [(f["properties"]["class"], shape(f["geometry"])) for f in content["features"]]


def test_each_connected_part_is_a_polygon_with_its_holes(tmp_path: Path) -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 10:30] = 1  # a lake with an island
    labels[15:25, 15:25] = 2
    labels[10:30, 40:50] = 1
    found = written(tmp_path / "a.geojson", labels)
    areas = sorted((name, polygon.area, len(polygon.interiors)) for name, polygon in found)
    assert areas == [
        ("field", 40 * 60 - 400 - 200, 2),
        ("island", 100, 0),
        ("lake", 200, 0),
        ("lake", 300, 1),
    ]
    assert next(p for name, p in found if name == "island").bounds == (15, 15, 25, 25)


def test_simplified_neighbours_share_their_edge(tmp_path: Path) -> None:
    labels = np.tri(50, dtype=np.uint8)  # a diagonal of steps
    found = dict(written(tmp_path / "a.geojson", labels))
    assert max(len(polygon.exterior.coords) for polygon in found.values()) < 12  # of more than 100
    field, lake = found["field"], found["lake"]
    assert field.intersection(lake).area == 0
    assert field.union(lake).area == pytest.approx(2500, rel=0.01)
    assert lake.area == pytest.approx(labels.sum(), rel=0.05)


def test_coordinates_are_longitude_and_latitude_where_the_place_is_known(tmp_path: Path) -> None:
    """The central meridian of UTM zone 33 is 15 degrees east; a degree of latitude is about 111 km."""
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(100, 0, 500_000, 0, -100, 5_000_000)}
    labels = np.zeros((100, 200), np.uint8)
    west, south, east, north = written(tmp_path / "a.geojson", labels, place)[0][1].bounds
    assert west == pytest.approx(15, abs=1e-3)
    assert north == pytest.approx(45.15, abs=0.01)
    assert (north - south) * 111 == pytest.approx(10, rel=0.02)
    assert (east - west) * 111 * np.cos(np.radians(45)) == pytest.approx(20, rel=0.02)
