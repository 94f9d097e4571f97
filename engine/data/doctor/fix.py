"""A repaired copy of a data set: systematic errors in the values of its masks are corrected there.

The copy has the layout of the source, so that little more than `data.root` changes. The source is only read.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.doctor.listing import Listed
from engine.data.doctor.meaning import Meaning
from engine.data.doctor.repair import REPAIRED, repaired
from engine.data.doctor.scan import Facts
from engine.data.formats.files import FileDataset
from engine.data.formats.folder import list_of, rows_of
from engine.data.formats.masks import BlackAndWhite, Colours, MappedValues
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError, first_few
from engine.wording import quantity

LEFT_OUT = "left_out.txt"  # in the copy, where samples are missing


@dataclass(frozen=True)
class FixedCopy:
    """done: what was done, one line each. changes: values of the recipe's keys that the copy needs."""

    done: list[str]
    changes: dict[str, Any]


def write_fixed_copy(
    facts: Facts, meaning: Meaning, root: Path, out: Path, progress: Callable[[int, int], None]
) -> FixedCopy:
    """Copy images, masks and lists of the recipe's splits to `out`, repaired.

    Args:
        facts, meaning: of the source.
        root: the recipe's `data.root`.
        out: a folder that is new or empty, outside of `root`.
        progress: called with (samples done, samples in all).

    Raises:
        DataError: `out` is not such a folder, this data cannot be copied file by file, or masks hold values
            that cannot be written as label ids.
    """
    _require_copyable(facts, meaning, root)
    require_new_copy(out, root)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        done, left_out = _copy_samples(facts, meaning, root, draft, progress)
        _copy_lists(facts, left_out, root, draft)
        draft.chmod(0o777 & ~_umask())
        os.replace(draft, out)  # replaces an empty folder, but nothing else
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    lines = [
        f"{quantity(number, 'pixel' if kind == 'void' else 'mask')} {REPAIRED[kind]}"
        for kind, number in done.items()
    ]
    if left_out:
        names = first_few(facts.listing.names(left_out))
        lines.append(f"{quantity(len(left_out), 'sample')} left out: {names}. {out / LEFT_OUT} says why.")
    lines = lines or ["nothing that --fix can repair: the copy equals the source"]
    return FixedCopy(lines, {"data.root": str(out), **(_to_ids(facts) if meaning.as_ids else {})})


def _to_ids(facts: Facts) -> dict[str, Any]:
    """What a recipe has to change where the copy holds label ids instead of other values."""
    encoding = facts.listing.encoding
    if isinstance(encoding, MappedValues):
        return {"data.ids": None}
    if isinstance(encoding, BlackAndWhite):
        return {"data.folder.values": "ids"}
    assert isinstance(encoding, Colours)
    has_void = len(encoding.colours) > len(facts.listing.class_names)
    names = {"data.classes": list(facts.listing.class_names)}
    return {**names, "data.folder.void_colours": []} if has_void else names


def _copy_samples(
    facts: Facts, meaning: Meaning, root: Path, draft: Path, progress: Callable[[int, int], None]
) -> tuple[Counter[str], dict[int, str]]:
    """Returns the number of each repair, and the samples that were left out with the reason."""
    done: Counter[str] = Counter()
    left_out: dict[int, str] = {}
    samples = facts.listing.samples
    for i, sample in enumerate(samples):
        reason = facts.mask_problems.get(i) or facts.image_problems.get(i)
        size = facts.size_for_mask(i) if facts.is_broken[i] and not reason else None
        if facts.is_broken[i] and not size:
            (h, w), (mask_h, mask_w) = facts.image_sizes[i], facts.mask_sizes[i]
            left_out[i] = reason or f"the mask is {mask_w}x{mask_h} px, the image {w}x{h}"
        else:
            done.update(_copy_sample(sample, i, size, facts, meaning, root, draft))
        progress(i + 1, len(samples))
    if len(left_out) == len(samples):
        raise DataError(f"No sample of this data can be copied. The first: {left_out[0]}")
    if left_out:
        lines = [f"{samples[i].name}: {' '.join(reason.split())}\n" for i, reason in left_out.items()]
        (draft / LEFT_OUT).write_text("".join(lines), "utf-8")
    return done, left_out


def _copy_sample(
    sample: Listed,
    i: int,
    size: tuple[int, int] | None,
    facts: Facts,
    meaning: Meaning,
    root: Path,
    draft: Path,
) -> Counter[str]:
    """The numbers of a sample's repairs; with `size`, (h, w), its mask is resized to that."""
    assert sample.image is not None and sample.mask is not None and isinstance(sample.dataset, FileDataset)
    pixels, kinds = repaired(sample.dataset.stored_mask(sample.index), i, facts, meaning)
    num_void = int((pixels == facts.listing.ignore_index).sum()) if "soft" in kinds else 0
    if size and pixels.dtype == np.uint8:
        kinds = [*kinds, "size"]
        pixels = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.NEAREST))
    target = draft / _place_of_mask(sample.mask, bool(kinds), root)
    target.parent.mkdir(parents=True, exist_ok=True)
    if kinds:
        _save_mask(pixels, target, facts)
    else:
        shutil.copyfile(sample.mask, target)
    image = draft / sample.image.relative_to(root)
    if image == target:
        raise DataError(
            f"--fix would write the mask of {sample.image} over it. Give masks a folder of their own."
        )
    image.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sample.image, image)
    return Counter(kinds) + Counter(void=num_void)


def _place_of_mask(mask: Path, is_repaired: bool, root: Path) -> Path:
    """Below the root of the copy: a repaired mask is a PNG."""
    place = mask.relative_to(root)
    return place.with_suffix(".png") if is_repaired else place


def _save_mask(pixels: NDArray[np.uint8], path: Path, facts: Facts) -> None:
    image = Image.fromarray(pixels)
    if pixels.ndim == 2:
        palette = [*facts.listing.palette, *voc_palette()[len(facts.listing.palette) :]]
        image.putpalette([value for colour in palette for value in colour])
    image.save(path)


def _copy_lists(facts: Facts, left_out: dict[int, str], root: Path, draft: Path) -> None:
    """The lists of the recipe's splits, where the layout has them, without the samples left out.

    They are written again: UTF-8, one id a line, or an image and its mask where the source has both.
    """
    for split, indices in facts.listing.splits.items():
        path = list_of(root, split)
        if path is None:
            continue
        kept = [facts.listing.samples[i] for i in indices if i not in left_out]
        has_pairs = all(len(row) == 2 for row in rows_of(path, (sample.id for sample in kept)))
        target = (draft / path.relative_to(root)).with_suffix(".txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            "".join(f"{_pair(sample, root, draft) if has_pairs else sample.id}\n" for sample in kept), "utf-8"
        )


def _pair(sample: Listed, root: Path, draft: Path) -> str:
    assert sample.image is not None and sample.mask is not None
    mask = sample.mask.relative_to(root)
    mask = mask if (draft / mask).exists() else mask.with_suffix(".png")
    return f"{sample.image.relative_to(root).as_posix()} {mask.as_posix()}"


def _require_copyable(facts: Facts, meaning: Meaning, root: Path) -> None:
    if facts.listing.refused:
        split, message = next(iter(facts.listing.refused.items()))
        raise DataError(f"--fix copies splits that can be opened, and {split} cannot: {message}")
    if not facts.listing.has_files:
        raise DataError("--fix copies files, and this data.format has no files.")
    if not facts.listing.has_a_mask_file_each:
        raise DataError("--fix copies one mask file per image, but here several images share one.")
    if meaning.is_gray_scale:
        raise DataError(
            "--fix would make nearly all pixels void: these are soft masks of two classes, and the recipe "
            "takes ids. Type data.format=folder data.folder.values=binary for the threshold."
        )
    outside = [s for s in facts.listing.samples if not _is_below(s, root)]
    if outside:
        raise DataError(f"--fix copies the files in data.root, {root}; {outside[0].name} is elsewhere.")
    unclear = np.flatnonzero(meaning.is_unclear) if meaning.as_ids else ()
    if len(unclear):
        names = first_few(facts.listing.names(unclear))
        raise DataError(
            f"--fix would write label ids, and {quantity(len(unclear), 'mask holds', 'masks hold')} values "
            f"that have none: {names}. First name these values in the recipe, as unknown_values says."
        )


def _is_below(sample: Listed, root: Path) -> bool:
    assert sample.image is not None and sample.mask is not None
    return sample.image.is_relative_to(root) and sample.mask.is_relative_to(root)


def require_new_copy(out: Path, root: Path) -> None:
    """Raises DataError where a copy in `out` would meet other files or the source itself."""
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
