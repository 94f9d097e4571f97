"""Files of rasterio in several threads."""

import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from engine.data.bands import band_names
from engine.data.doctor.image_facts import read_image
from engine.data.gdal import NotInstalled, open_quietly

rasterio = pytest.importorskip("rasterio")
PATIENCE_S = 0.2  # for what does not come where threads take turns


def test_files_without_georeference_opened_in_two_threads_warn_of_nothing(monkeypatch) -> None:
    """Filters of warnings are those of all threads: one that leaves must not bring back those of another."""
    second_is_in, first_is_out = threading.Event(), threading.Event()

    def opened(path: str, mode: str) -> None:
        if path == "first":
            second_is_in.wait(PATIENCE_S)
        else:
            second_is_in.set()
            first_is_out.wait(PATIENCE_S)
        warnings.warn("no geotransform", rasterio.errors.NotGeoreferencedWarning, stacklevel=2)

    def open_first() -> None:
        open_quietly("first")
        first_is_out.set()

    monkeypatch.setattr(rasterio, "open", opened)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        threads = [
            threading.Thread(target=open_first),
            threading.Thread(target=open_quietly, args=("second",)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not seen


def test_without_rasterio_the_doctor_names_it_and_finds_no_damage(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.tif"
    options = {"width": 8, "height": 8, "count": 5, "dtype": "uint8", "transform": rasterio.Affine.scale(2)}
    with rasterio.open(path, "w", driver="GTiff", **options) as file:
        file.write(np.zeros((5, 8, 8), np.uint8))
    assert read_image(path, band_names(5)).problem == ""
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(NotInstalled, match=r"pip install 'trident-seg\[geo\]'"):
        read_image(path, band_names(5))
