"""Files of rasterio in several threads."""

import threading
import warnings

import pytest

from engine.data.gdal import open_quietly

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
