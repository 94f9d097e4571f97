"""scores.h5: confusion counts of each val image by predictor, so that later questions need no evaluation.

ids                      (N,) text
class_names              (C,) text
confusion/<predictor>    (N, C, C) int64, rows labels, columns predictions
skipped                  text, the ids that could not be read; their counts are 0
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
from torch import Tensor

Recorder = Callable[[list[str], dict[str, Tensor]], None]


@contextmanager
def recorder(
    path: Path,
    ids: Sequence[str],
    class_names: Sequence[str],
    predictors: Sequence[str],
    skipped: Callable[[], Sequence[str]] = tuple,
) -> Iterator[Recorder]:
    """A callback for `evaluate` that writes each batch to its place as it comes.

    Args:
        path: replaced if it is there.
        ids: of all images, which fixes the rows.
        predictors: the names that `evaluate` counts by.
        skipped: asked at the end for the ids of which nothing came.
    """
    rows = {id: row for row, id in enumerate(ids)}
    shape = (len(ids), len(class_names), len(class_names))
    with h5py.File(path, "w") as file:
        file["ids"] = list(ids)
        file["class_names"] = list(class_names)
        counts = {
            name: file.create_dataset(
                f"confusion/{name}", shape, "int64", chunks=(1, *shape[1:]), compression=1
            )
            for name in predictors
        }

        def record(batch_ids: list[str], matrices: dict[str, Tensor]) -> None:
            for name, batch in matrices.items():
                for id, matrix in zip(batch_ids, batch.cpu().numpy(), strict=True):
                    counts[name][rows[id]] = matrix

        yield record
        file.create_dataset("skipped", data=list(skipped()), dtype=h5py.string_dtype())
