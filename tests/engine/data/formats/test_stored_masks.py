"""Masks of pixel types that Pillow does not know."""

import sys
from pathlib import Path

import numpy as np
import pytest

from engine.data.formats.bands import declared_nodata, stored_values
from engine.data.sample import UnreadableSample

rasterio = pytest.importorskip("rasterio")
VALUES = np.array([[0, 1, 2], [-1, 7, 255]])


def write(path: Path, values: np.ndarray, nodata: float | None = None) -> Path:
    bands = values if values.ndim == 3 else values[None]
    count, h, w = bands.shape
    with rasterio.open(path, "w", driver="GTiff", height=h, width=w, count=count, dtype=values.dtype,
                       nodata=nodata) as file:  # fmt: skip
        file.write(bands)
    return path


@pytest.mark.parametrize("dtype", ["float64", "int64", "float32", "int32"])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_every_pixel_type_keeps_its_values_and_nodata(tmp_path: Path, dtype: str) -> None:
    path = write(tmp_path / "m.tif", VALUES.astype(dtype), nodata=-1)
    stored = stored_values(path)
    assert stored.shape == (2, 3) and (stored == VALUES).all()
    assert declared_nodata(path) == -1
    assert declared_nodata(write(tmp_path / "n.tif", VALUES.astype(dtype))) is None


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_channels_are_the_last_axis(tmp_path: Path) -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    stored = stored_values(write(tmp_path / "m.tif", values))
    assert (stored == np.moveaxis(values, 0, 2)).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_without_rasterio_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.tif", VALUES.astype("float64"))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(UnreadableSample, match=r"m\.tif cannot be read.*64 bits.*pip install") as caught:
        stored_values(path)
    assert "data.on_error=skip" in str(caught.value)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    path.write_bytes(b"II*\0 not a TIFF")
    for read in (stored_values, declared_nodata):
        with pytest.raises(UnreadableSample, match="m.tif cannot be read"):
            read(path)
