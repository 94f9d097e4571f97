"""A repaired copy of a data set: systematic errors in the values of its masks are corrected there.

The copy has the layout of the source, so that only `data.root` changes. The source is only read.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.doctor.listing import Listed
from engine.data.doctor.mask_facts import borders, has_colours, pack
from engine.data.doctor.meaning import Meaning, colour_of
from engine.data.doctor.scan import Facts
from engine.data.formats.files import FileDataset
from engine.data.formats.masks import Colours, SameIds
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError

REPAIRED = {
    "grey": "masks of three equal channels became ids",
    "rgb": "masks in class colours became ids",
    "bgr": "masks had red and blue swapped back",
    "wide": "masks became 8-bit ids",
    "scheme": "masks had their ids renumbered",
    "permuted": "masks took the ids of their colours",
    "rainbow": "masks had interpolated borders made void",
}


def write_fixed_copy(
    facts: Facts, meaning: Meaning, root: Path, out: Path, progress: Callable[[int, int], None]
) -> list[str]:
    """Copy images, masks and lists of the recipe's splits to `out`, repaired.

    Args:
        facts, meaning: of the source.
        root: the recipe's `data.root`.
        out: a folder that is new or empty, outside of `root`.
        progress: called with (samples done, samples in all).

    Returns:
        What was done, one line each.

    Raises:
        DataError: `out` is not such a folder, or this data cannot be copied file by file.
    """
    _require_copyable(facts, root)
    _require_new(out, root)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        done, left_out = _copy_samples(facts, meaning, root, draft, progress)
        _copy_lists(facts, left_out, root, draft)
        draft.chmod(0o777 & ~_umask())
        os.replace(draft, out)  # replaces an empty folder, but nothing else
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    lines = [f"{number} {REPAIRED[kind]}" for kind, number in done.items()]
    if left_out:
        lines.append(f"{len(left_out)} samples left out: damaged, or mask and image of different sizes")
    return lines or ["nothing that --fix can repair: the copy equals the source"]


def repaired(
    stored: NDArray[Any], i: int, facts: Facts, meaning: Meaning
) -> tuple[NDArray[np.uint8], list[str]]:
    """Mask i as the recipe reads it, (h, w) ids or (h, w, 3) colours, and the changes: see REPAIRED."""
    reading, void = meaning.reading[i], facts.listing.ignore_index
    kinds = [reading] if reading in REPAIRED else []
    if reading == "bgr" and meaning.takes_colours:
        return np.ascontiguousarray(stored[..., 2::-1]), kinds
    if reading in ("rgb", "bgr"):
        return _ids_of_colours(stored, meaning.table, reading == "bgr", void), kinds
    if reading == "colours" or (has_colours(facts.forms[i]) and not reading):
        return stored, []
    ids = stored[..., 0] if stored.ndim == 3 else stored  # (h, w)
    if reading == "wide" and ids.max(initial=0) > 255:
        return stored, []
    change = np.arange(256, dtype=np.uint8)
    if meaning.scheme and not reading:
        kinds.append("scheme")
        change = _renumbered(meaning.scheme, len(facts.listing.class_names))
    if meaning.is_permuted[i]:
        kinds.append("permuted")
        palette = facts.palettes[facts.palette_of[i]]
        for value in facts.counts_of(i):
            change[value] = meaning.table.get(colour_of(palette, value), value)
    labels = change[ids.astype(np.uint8)]
    if meaning.is_rainbow[i]:
        kinds.append("rainbow")
        labels[np.isin(ids, meaning.blends_of(i)) | borders(ids)[1]] = void
    return labels, kinds


def _renumbered(scheme: str, num_classes: int) -> NDArray[np.uint8]:
    change = np.arange(256, dtype=np.uint8)
    if scheme == "binary":
        change[255] = 1
    else:
        change[1 : num_classes + 1] = np.arange(num_classes)
    return change


def _ids_of_colours(
    stored: NDArray[Any], table: dict[int, int], is_bgr: bool, void: int
) -> NDArray[np.uint8]:
    """(h, w, channels) -> (h, w); a colour that is not in the table is interpolated and becomes void."""
    packed = pack(stored[..., 2::-1] if is_bgr else stored[..., :3])
    colours, place = np.unique(packed, return_inverse=True)
    ids = np.array([table.get(int(colour), void) for colour in colours], np.uint8)
    return ids[place].reshape(packed.shape)


def _copy_samples(
    facts: Facts, meaning: Meaning, root: Path, draft: Path, progress: Callable[[int, int], None]
) -> tuple[Counter[str], set[str]]:
    done: Counter[str] = Counter()
    left_out = set()
    samples = facts.listing.samples
    for i, sample in enumerate(samples):
        if facts.is_broken[i]:
            left_out.add(sample.id)
        else:
            assert sample.image is not None and sample.mask is not None
            assert isinstance(sample.dataset, FileDataset)
            pixels, kinds = repaired(sample.dataset.stored_mask(sample.index), i, facts, meaning)
            target = draft / sample.mask.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if kinds:
                _save_mask(pixels, target.with_suffix(".png"), facts)
            else:
                shutil.copyfile(sample.mask, target)
            image = draft / sample.image.relative_to(root)
            image.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sample.image, image)
            done.update(kinds)
        progress(i + 1, len(samples))
    if len(left_out) == len(samples):
        raise DataError("No sample of this data can be read, so there is nothing to copy.")
    return done, left_out


def _save_mask(pixels: NDArray[np.uint8], path: Path, facts: Facts) -> None:
    image = Image.fromarray(pixels)
    if pixels.ndim == 2:
        palette = [*facts.listing.palette, *voc_palette()[len(facts.listing.palette) :]]
        image.putpalette([value for colour in palette for value in colour])
    image.save(path)


def _copy_lists(facts: Facts, left_out: set[str], root: Path, draft: Path) -> None:
    """The lists of the recipe's splits, where the layout has them, without the samples left out."""
    for split in facts.listing.splits:
        for path in root.rglob(f"{split}.txt"):
            lines = [line for line in path.read_text().splitlines() if line.strip() not in left_out]
            target = draft / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("\n".join(lines) + "\n")


def _require_copyable(facts: Facts, root: Path) -> None:
    if facts.listing.refused:
        split, message = next(iter(facts.listing.refused.items()))
        raise DataError(f"--fix copies splits that can be opened, and {split} cannot: {message}")
    if not facts.listing.has_files:
        raise DataError("--fix copies files, and this data.format has no files.")
    encoding = facts.listing.encoding
    if not isinstance(encoding, SameIds | Colours):
        raise DataError(
            "--fix writes label ids or class colours, and masks of this data.format hold other values."
        )
    outside = [s for s in facts.listing.samples if not _is_below(s, root)]
    if outside:
        raise DataError(f"--fix copies the files in data.root, {root}; {outside[0].name} is elsewhere.")
    if len({s.mask for s in facts.listing.samples}) < len({s.image for s in facts.listing.samples}):
        raise DataError("--fix copies one mask file per image, but here several images share one.")


def _is_below(sample: Listed, root: Path) -> bool:
    assert sample.image is not None and sample.mask is not None
    return sample.image.is_relative_to(root) and sample.mask.is_relative_to(root)


def _require_new(out: Path, root: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--fix {out} is not empty, and nothing is overwritten. Name a new folder.")
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"--fix {out} is inside the source {root}, which is not changed. Name another folder."
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
