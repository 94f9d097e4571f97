"""What is known about weights in addition to their tensors: the classes of their head, and their licence.

From the manifest of a run, the files next to a Hugging Face model, a package's metadata, or the publisher.
"""

import json
import re
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path
from typing import Any, NamedTuple

from engine.run_folder import SAVED
from models.errors import ModelError
from models.sources import beside

NVIDIA = "NVIDIA Source Code License, non-commercial"
OWN = "own, trained from random weights"
UNKNOWN = "unknown"


class Origin(NamedTuple):
    """Class names by logit, None where they are unknown; the licence, or UNKNOWN; bands, None for RGB."""

    class_names: tuple[str, ...] | None
    licence: str
    bands: tuple[str, ...] | None = None


def origin_of(source: str, file: Path) -> Origin:
    """The origin of weights that were read from `file` because a user named `source`.

    Raises:
        ModelError: a manifest.json or config.json that is damaged.
    """
    if file.parent.name in SAVED and (manifest := file.parent.parent / "manifest.json").is_file():
        return _origin_of_run(manifest)
    if source.startswith("package:"):
        return Origin(None, _licence_of_package(source.removeprefix("package:").partition("/")[0]))
    config = beside(source, file, "config.json")
    return Origin(_labels(config) if config else None, _published_licence(source, file))


def licence_of_run(weights: dict[str, Any] | None) -> str:
    """Of a trained run, by its manifest's `weights`: it keeps the licence of its initial weights."""
    if not weights:
        return OWN
    start = weights.get("source", "")
    return weights.get("licence") or (NVIDIA if _is_nvidia(start, Path(start)) else UNKNOWN)


def _origin_of_run(manifest: Path) -> Origin:
    content = _read_json(manifest)
    names = content.get("class_names")
    licence, bands = licence_of_run(content.get("weights")), content.get("bands")
    return Origin(tuple(names) if names else None, licence, tuple(bands) if bands else None)


def _labels(config: Path) -> tuple[str, ...] | None:
    """`id2label` in the order of its ids; None where transformers only numbered them."""
    labels = _read_json(config).get("id2label") or {}
    try:
        names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{config} is damaged: id2label is no map from ids to names ({error}).") from error
    return None if not names or all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def _licence_of_package(package: str) -> str:
    """As its metadata names it, or else the first line of its licence file."""
    names = packages_distributions().get(package)
    if not names:
        return UNKNOWN
    found: Distribution = distribution(names[0])
    metadata: Any = found.metadata
    for key in ("License-Expression", "License"):
        if (named := metadata.get(key)) and named.upper() != UNKNOWN.upper():
            return str(named).splitlines()[0]
    files = (file for file in found.files or [] if re.match("LICEN[CS]E", file.name.upper()))
    texts = (file.read_binary().decode(errors="replace") for file in files)
    return next((text.strip().splitlines()[0] for text in texts if text.strip()), UNKNOWN)


def _published_licence(source: str, file: Path) -> str:
    if _is_nvidia(source, file.parent):
        return NVIDIA
    readme = beside(source, file, "README.md")
    card = readme.read_text(encoding="utf-8", errors="replace") if readme else ""
    head = card.split("\n---", 1)[0] if card.startswith("---") else ""
    found = dict(re.findall(r"^(license|license_name): *['\"]?(.+?)['\"]? *$", head, re.MULTILINE))
    named: str = found.get("license", UNKNOWN)
    return found.get("license_name", named) if named == "other" else named


def _is_nvidia(source: str, folder: Path) -> bool:
    """hf:nvidia/<name>, or a copy of it in a folder nvidia/<name>."""
    return source.startswith("hf:nvidia/") or folder.parent.name == "nvidia"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged: it holds no JSON object.")
    return content
