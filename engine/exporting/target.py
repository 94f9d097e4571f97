"""Where an export goes, and what it says of itself. Nothing is overwritten."""

import json
from pathlib import Path

from engine import __version__
from engine.run_folder import require_reachable
from engine.scoring.segmenter import Segmenter
from models.origin import licence_of_run


class ExportError(ValueError):
    """What was asked for cannot be exported; the text says what can."""

    exit_code = 2


def require_new(out: Path) -> None:
    """Raises ExportError where a file or folder is there already, RunFolderError where none can be."""
    if out.exists():
        raise ExportError(f"--out {out} is there already, and nothing is overwritten. Name a new file.")
    require_reachable(out)


def metadata(segmenter: Segmenter) -> dict[str, str]:
    """What a graph has to say to whoever runs it; values that are no text are JSON."""
    trained, protocol = segmenter.trained, segmenter.protocol
    licences = list(dict.fromkeys(licence_of_run(weights) for weights in trained.weights))
    return {
        "name": trained.name,
        "class_names": json.dumps(trained.class_names),
        "palette": json.dumps(trained.palette),
        "input": "images (batch, 3, height, width), uint8, RGB; they are normalised inside",
        "output": "labels (batch, height, width), uint8; probabilities (batch, classes, height, width)",
        "members": json.dumps(list(trained.members)),
        "scales": json.dumps(protocol.scales),
        "flip": json.dumps(protocol.flip),
        "licence": "; ".join(licences),
        "trident": __version__,
    }
