"""A data set of picture files: pairs of an image and its mask, and how the mask's values become labels.

A format (voc.py, folder.py, ...) is a function that finds the pairs and builds a `FileDataset`; below stand
the checks that the formats share. Knows nothing of batches, augmentation or any one layout.
"""

import difflib
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.images import decode_image, decode_mask, orientation_of, shown_size, turn
from engine.data.masks import Labels, Mapping
from engine.data.sample import DataError, Palette, Sample, first_few


@dataclass(frozen=True)
class Pair:
    """One image and its mask; where one file holds the masks of all images, `mask` is that file."""

    id: str
    image: Path
    mask: Path


def stored_in_file(pair: Pair) -> NDArray:
    """The mask as its picture file holds it: (h, w), or (h, w, channels)."""
    return decode_mask(pair.mask)


def colours_in_file(pair: Pair) -> NDArray:
    """The mask as colours, (h, w, 3), those of its palette included."""
    return decode_mask(pair.mask, "RGB")


def bytes_of_file(pair: Pair) -> bytes:
    """What the fingerprint sees of a mask: its file."""
    return pair.mask.read_bytes()


class FileDataset:
    """One split of any format that keeps its images as files; a `Dataset`.

    Args:
        pairs: in the order of the split.
        class_names, palette: by label id.
        ignore_index: the id of void pixels.
        to_labels: from the stored mask to label ids.
        read_mask: a pair's stored mask; the default decodes its file.
        mask_bytes: what the fingerprint sees of a pair's mask.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        class_names: tuple[str, ...],
        palette: Palette,
        ignore_index: int,
        to_labels: Mapping,
        read_mask: Callable[[Pair], NDArray] = stored_in_file,
        mask_bytes: Callable[[Pair], bytes] = bytes_of_file,
    ):
        self.ids = [pair.id for pair in pairs]
        self.class_names, self.palette, self.ignore_index = class_names, palette, ignore_index
        self._pairs = list(pairs)
        self._to_labels, self._read_mask, self._mask_bytes = to_labels, read_mask, mask_bytes

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[index]
        image, orientation = decode_image(pair.image)  # (h, w, 3)
        labels = self._labels(pair, (image.shape[0], image.shape[1]), orientation)
        pixels = torch.from_numpy(image).permute(2, 0, 1).contiguous()  # (3, h, w)
        return Sample(pair.id, pixels, torch.from_numpy(labels))

    def image_path(self, index: int) -> Path:
        return self._pairs[index].image

    def mask_path(self, index: int) -> Path:
        return self._pairs[index].mask

    @property
    def mapping(self) -> Mapping:
        """What turns a stored mask into label ids."""
        return self._to_labels

    def stored_mask(self, index: int) -> NDArray:
        """The mask as the file holds it: ids (h, w) or colours (h, w, channels), not turned."""
        return self._read_mask(self._pairs[index])

    def labels(self, index: int) -> Tensor:
        """(h, w) uint8: those of `self[index]`; of the image only the header is read."""
        pair = self._pairs[index]
        return torch.from_numpy(self._labels(pair, shown_size(pair.image), orientation_of(pair.image)))

    def sizes(self) -> list[tuple[int, int]]:
        """(h, w) in pixels of each image as it is shown, without decoding it."""
        return [shown_size(pair.image) for pair in self._pairs]

    def fingerprint(self) -> str:
        """Of classes, mapping, ids, bytes of masks and, as those take long to read, file sizes of images."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for pair in self._pairs:
            try:
                mask = hashlib.sha256(self._mask_bytes(pair)).hexdigest()
                num_bytes = pair.image.stat().st_size
            except OSError as error:
                raise DataError(f"{pair.id} cannot be read: {error}.") from error
            digest.update(f"{pair.id} {num_bytes} {mask}\n".encode())
        digest.update(self._to_labels.identity().encode())
        return digest.hexdigest()

    def _labels(self, pair: Pair, shown: tuple[int, int], orientation: int) -> Labels:
        """(h, w), fitting the shown image.

        A mask of the shown size was drawn on the photo as viewers show it. One that fits the stored pixels
        alone was drawn on those, so it is turned as the image is. Where both sizes are the same, nobody can
        tell; annotation tools show photos upright, so that is taken.
        """
        labels = self._to_labels(self._read_mask(pair), pair.mask)
        if labels.shape != shown and labels.shape[::-1] == shown and orientation >= 5:
            labels = turn(labels, orientation)
        if labels.shape != shown:
            (h, w), (mask_h, mask_w) = shown, labels.shape
            raise DataError(f"{pair.mask} is {mask_w}x{mask_h} px, but its image {pair.image} is {w}x{h}.")
        return labels


def names_in(folder: Path) -> set[str]:
    """File names directly in a folder; none where it does not exist.

    Raises:
        DataError: it may not be read.
    """
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error


def require_files(pairs: Sequence[Pair]) -> None:
    """Raises DataError with the number and the first few of the images, or masks, that are not there."""
    for what in ("image", "mask"):
        paths: list[Path] = [getattr(pair, what) for pair in pairs]
        there = {folder: names_in(folder) for folder in {path.parent for path in paths}}
        missing = [str(path) for path in paths if path.name not in there[path.parent]]
        if missing:
            raise DataError(f"{len(missing)} of {len(paths)} {what} files are missing: {first_few(missing)}.")


def ids_in_list(path: Path) -> list[str]:
    """The ids that a text file names, one a line.

    Raises:
        DataError: it cannot be read, names none, or names one twice.
    """
    try:
        ids = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The list {path} cannot be read: {error}.") from error
    if not ids:
        raise DataError(f"Split {path.stem!r} is empty: {path} names no image.")
    twice = sorted(id for id, uses in Counter(ids).items() if uses > 1)
    if twice:
        raise DataError(f"{path} names {first_few(twice)} more than once; keep one line an image.")
    return ids


def no_split(split: str, missing: Path, there: Sequence[str]) -> DataError:
    """The error for a split that does not exist, with those that do."""
    close = difflib.get_close_matches(split, there, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return DataError(
        f"No split {split!r}: {missing} is missing. Splits there: {', '.join(there) or 'none'}.{hint}"
    )
