"""Whether a label map lies beside its objects: the move that makes it fit the prediction best.

By phase-free cross-correlation of the maps of all classes, wrapped around at the edges, on a coarse grid.
"""

import numpy as np
from numpy.typing import NDArray

GRID = 128  # cells along the longer side
FARTHEST = 0.2  # of a side: no longer move is tried
MUCH_BETTER = 0.5  # of the wrong pixels may stay wrong after a move that is believed
LEAST_GAIN = 0.03  # of the labelled pixels, that become right


def fitting_move(
    labels: NDArray[np.uint8], predictions: NDArray[np.integer], ignore_index: int
) -> tuple[int, int] | None:
    """(right, down) in pixels, by which the (h, w) labels have to move; None where they fit as they lie."""
    step = -(-max(labels.shape) // GRID)
    coarse, predicted = labels[::step, ::step], predictions[::step, ::step]
    agreeing = np.zeros(coarse.shape)
    for id in np.unique(coarse[coarse != ignore_index]):
        label, prediction = (np.fft.rfft2(map_ == id) for map_ in (coarse, predicted))
        agreeing += np.fft.irfft2(label.conj() * prediction, coarse.shape)  # by move down, right
    rows, columns = (np.fft.fftfreq(side, 1 / side) for side in coarse.shape)
    too_far = (np.abs(rows)[:, None] > FARTHEST * len(rows)) | (np.abs(columns) > FARTHEST * len(columns))
    agreeing[too_far] = -1
    num_labelled = np.count_nonzero(coarse != ignore_index)
    wrong = num_labelled - agreeing
    best = np.unravel_index(wrong.argmin(), wrong.shape)
    is_believed = max(best) > 0 and wrong[best] <= MUCH_BETTER * wrong[0, 0]
    if not is_believed or wrong[0, 0] - wrong[best] < LEAST_GAIN * num_labelled:
        return None
    return step * int(columns[best[1]]), step * int(rows[best[0]])
