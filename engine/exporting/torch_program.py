"""A trained model as a torch.export program (.pt2): torch runs it without Trident."""

import json
from pathlib import Path

import torch

from engine.exporting.graph import Graph, largest_difference, trace
from engine.exporting.target import metadata
from engine.run_folder import written_in_place
from engine.scoring.segmenter import Segmenter

TOLERANCE = 1e-4  # of probabilities; sums run in another order than in the predictor


def export_program(segmenter: Segmenter, out: Path) -> float:
    """Write `out`; its largest difference from torch, after it was read again.

    The metadata are its extra file metadata.json.

    Raises:
        ExportError: it cannot be traced, or does not do the same.
    """
    graph = Graph(segmenter)
    program = trace(graph)
    about = json.dumps(metadata(segmenter))
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_in_place(out) as temporary:
        with temporary.open("wb") as file:
            torch.export.save(program, file, extra_files={"metadata.json": about})
        with temporary.open("rb") as file:
            run = torch.export.load(file).module()
        with torch.no_grad():
            return largest_difference(run, segmenter, graph.min_size_px, TOLERANCE)
