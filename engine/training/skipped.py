"""Reports at the end which images could not be read and were left out, with data.on_error: skip."""

import torch
from rich.console import Console

from engine.data.sample import skipped_ids
from engine.data.sets import scored_further
from engine.reporting.console import skipped_images
from engine.training.distributed import sum_in_place
from engine.training.session import Session

NEXT_ONE = "The next image of the split was used in its place."
NOT_SCORED = "It was left out of the scores."


def report_skipped_images(session: Session, console: Console) -> None:
    """Print which images any process could not read, and what was done instead."""
    data, further = session.recipe.data, scored_further(session.recipe.data)
    splits = [
        (data.train, session.train, NEXT_ONE),
        ("data.unlabelled", session.unlabelled, NEXT_ONE),
        (data.evaluated_on, session.val, NOT_SCORED),
        *((further[name], dataset, NOT_SCORED) for name, dataset in session.further.items()),
    ]
    for what, dataset, done in splits:
        if dataset is None or dataset.skipped is None:
            continue
        here = set(skipped_ids(dataset))
        flags = torch.tensor([id in here for id in dataset.ids], dtype=torch.int64)
        flags = flags.to(session.process.device)
        sum_in_place(session.process, [flags])
        ids = [id for id, flag in zip(dataset.ids, flags.tolist(), strict=True) if flag]
        if ids:
            console.print(f"{what}: {skipped_images(ids)} {done}")
