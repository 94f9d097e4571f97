"""data.on_error: skip. Which errors are forgiven, and what trains in the place of an unreadable sample.

Knows nothing of batches.
"""

from engine.data.reading import read_or_error
from engine.data.sample import DataError, Dataset, Sample, UnreadableSample


def note_or_raise(dataset: Dataset, index: int, error: DataError) -> None:
    """Note an unreadable sample where the set skips those; any other error is raised."""
    if dataset.skipped is None or not isinstance(error, UnreadableSample):
        raise error
    dataset.skipped.note(dataset.ids[index], error)


def skipped_ids(dataset: Dataset) -> list[str]:
    """The samples of a set that this process has met and skipped, in the order of the set."""
    return [id for id in dataset.ids if id in dataset.skipped.reasons] if dataset.skipped else []


def next_readable(dataset: Dataset, index: int, error: DataError) -> Sample:
    """The first sample behind `index` that can be read, from the end on at the start again.

    That is a pure function of the files: it is the same in every process, with every number of workers, in
    memory and on disk, and the samples of all other places stay where they are.

    Raises:
        DataError: `error`, where it is not to be skipped; or no sample can be read.
    """
    note_or_raise(dataset, index, error)
    for offset in range(1, len(dataset)):
        place = (index + offset) % len(dataset)
        result = read_or_error(dataset, place)
        if isinstance(result, Sample):
            return result
        note_or_raise(dataset, place, result)
    raise DataError(f"None of the {len(dataset)} images can be read. The first: {error}")
