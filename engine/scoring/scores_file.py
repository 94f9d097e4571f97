"""scores.h5: the counts of each val image by predictor, so that later analysis needs no evaluation.

ids                       (N,) text
class_names               (C,) text
skipped                   text, the ids that could not be read; their counts are 0
confusion/<predictor>     (N, C, C) int64, rows labels, columns predictions
boundary/<predictor>      (N, C+1, C+1) int64, of bands along outlines (`boundary.py`); last: no band
edges/<predictor>         (N, 2, 2) int64, rows: inside, near an outline of the label; columns: correct, wrong
by_class/<predictor>      (N, C, 2, 2) int64, instead, of classes that may overlap: rows labels, columns
                          predictions, not and that class
reliability/<predictor>   (N, 3, 15) float64, by bin of confidence: pixels, sum of confidence, right pixels

Each exists only if it was counted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from engine.data.hdf5 import require_own_content, require_readable
from engine.run_folder import RunFolderError, written_in_place
from engine.scoring.baselines import Baselines, Everywhere
from engine.scoring.calibration import NUM_BINS
from engine.scoring.counting import Counts
from engine.scoring.metrics import overlaps, overlaps_of_masks

Recorder = Callable[[list[str], dict[str, Counts]], None]
ByPredictor = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class ImageScores:
    """The content of a scores.h5, without the rows of skipped images; dictionaries by predictor."""

    ids: list[str]
    class_names: list[str]
    skipped: list[str]
    confusion: ByPredictor
    boundary: ByPredictor
    edges: ByPredictor
    reliability: dict[str, NDArray[np.float64]]
    by_class: ByPredictor = field(default_factory=dict)

    def __repr__(self) -> str:
        """In one line: the arrays would fill pages."""
        return f"ImageScores of {len(self.ids)} images by {', '.join(self.overlaps)}"

    @cached_property
    def overlaps(self) -> ByPredictor:
        """(N, 2, C) intersection and union of each image and class, of all predictors."""
        of_masks = {name: overlaps_of_masks(counts) for name, counts in self.by_class.items()}
        return {name: overlaps(counts) for name, counts in self.confusion.items()} | of_masks

    def baselines(self, predictor: str) -> Baselines:
        """What predictors that do not look at the images would score."""
        if predictor in self.confusion:
            labelled = self.confusion[predictor].sum(axis=(0, 2))
            return Baselines.of(labelled, tuple(self.class_names))
        return Everywhere.of(self.by_class[predictor].sum(axis=0))


def read_scores(path: Path, is_verified: bool = False) -> ImageScores:
    """The content of a file; one that was not verified by its SHA-256 is first read by another process.

    Raises:
        FileNotFoundError: there is none.
        RunFolderError: it is damaged.
    """
    try:
        if not is_verified:
            require_readable(path)
        return _read(path)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        raise RunFolderError(
            f"{path} is damaged ({error}). Move it away: the rest can be read without it."
        ) from error


def _read(path: Path) -> ImageScores:
    with h5py.File(path) as file:
        require_own_content(file)
        ids, class_names, skipped = (
            [text.decode() for text in file[name][:]] for name in ("ids", "class_names", "skipped")
        )
        scored = ~np.isin(ids, skipped)
        counts = {
            name: {predictor: rows[:][scored] for predictor, rows in file.get(name, {}).items()}
            for name in ("confusion", "boundary", "edges", "by_class", "reliability")
        }
    C = len(class_names)
    for name, by_predictor in counts.items():
        shape = shapes(C)[name]
        for predictor, rows in by_predictor.items():
            if rows.shape != (scored.sum(), *shape) or not (rows >= 0).all():
                raise ValueError(f"{name}/{predictor} does not hold counts of these images and classes")
    kept = [id for id, is_scored in zip(ids, scored, strict=True) if is_scored]
    return ImageScores(kept, class_names, skipped, **counts)


def shapes(C: int) -> dict[str, tuple[int, ...]]:
    """Of the counts of one image of C classes, by name."""
    return {
        "confusion": (C, C),
        "boundary": (C + 1, C + 1),
        "edges": (2, 2),
        "by_class": (C, 2, 2),
        "reliability": (3, NUM_BINS),
    }


@contextmanager
def recorder(
    path: Path,
    ids: Sequence[str],
    class_names: Sequence[str],
    predictors: Sequence[str],
    skipped: Callable[[], Sequence[str]] = tuple,
    is_multi: bool = False,
) -> Iterator[Recorder]:
    """A callback for `evaluate` that puts the counts of each batch into their rows.

    The file is made in memory, compressed, and written at the end: HDF5 crashes on a disk that fills up.

    Args:
        path: replaced as a whole if it exists.
        ids: of all images; they fix the rows.
        predictors: the names that `evaluate` counts by; no paths, which would be groups within groups.
        skipped: called at the end for the ids that were not scored.
        is_multi: classes may overlap.

    Raises:
        DiskError: at the end, where it cannot be written; an old file is intact.
    """
    assert not any("/" in name for name in predictors), "HDF5 would make groups of such a name"
    rows, C = {id: row for row, id in enumerate(ids)}, len(class_names)
    with h5py.File(path, "w", driver="core", backing_store=False) as file:
        file["ids"] = list(ids)
        file["class_names"] = list(class_names)

        def written(kind: str, predictor: str) -> h5py.Dataset:
            """A data set of zeros at first; one chunk per image."""
            name, shape = f"{kind}/{predictor}", shapes(C)[kind]
            dtype = "float64" if kind == "reliability" else "int64"
            if name in file:
                return file[name]
            return file.create_dataset(name, (len(ids), *shape), dtype, chunks=(1, *shape), compression=1)

        for name in predictors:
            written("by_class" if is_multi else "confusion", name)

        def record(batch_ids: list[str], counts: dict[str, Counts]) -> None:
            for name, of_batch in counts.items():
                for kind, images in of_batch.items():
                    target = written(kind, name)
                    for id, of_image in zip(batch_ids, images.cpu().numpy(), strict=True):
                        target[rows[id]] = of_image

        yield record
        file.create_dataset("skipped", data=list(skipped()), dtype=h5py.string_dtype())
        file.flush()
        with written_in_place(path) as temporary:
            temporary.write_bytes(file.id.get_file_image())
