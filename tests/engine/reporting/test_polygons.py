"""Polygons of label maps: their areas, holes, shared edges and coordinates."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from shapely.geometry import shape

from engine.data.rasters import Raster, new_map, open_map
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


def test_a_file_with_a_georeference_gives_the_polygons_of_its_pixels(tmp_path: Path) -> None:
    """GDAL outlines a file in map units, where its georeference is not left out."""
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    labels = np.zeros((300, 280), np.uint8)
    labels[100:260, 20:50] = 1
    labels[np.tri(300, 280, -200, bool)] = 2  # slanted, so that edges are simplified
    expected = written(tmp_path / "pixels.geojson", labels, place)
    with new_map(tmp_path / "map.tif", Raster(labels.shape, lambda *_: labels[None], place)) as file:
        file.write(labels, 1)
    with open_map(tmp_path / "map.tif") as file:
        found = written(tmp_path / "file.geojson", file, place)
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert all(one.equals(other) for (_, one), (_, other) in zip(found, expected, strict=True))
