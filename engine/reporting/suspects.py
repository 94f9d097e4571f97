"""Suspicious labels: an HTML page for people, and the ranking as CSV and JSON for labelling tools."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from engine.data.bands import shown_bands
from engine.diagnosis.label_check import LabelCheck, ShownSuspect
from engine.diagnosis.suspects import LEAST_TRUST, Region, Suspect, Suspicion
from engine.reporting.colours import WRONG, display_colours
from engine.reporting.pages import template, webp_uri
from engine.reporting.pictures import Pixels, fitted, overlay
from engine.run_folder import write_json, write_text, written_in_place

TEMPLATE = Path(__file__).parent / "suspects.html"
PANEL_PX = 400
MAX_ENLARGED = 3
OUTLINE_PX = 1.5  # in a panel
WEBP_QUALITY = 80
MAX_REGIONS = 4  # listed per image on the page
COLUMNS = (
    "rank", "id", "image_score", "region_score", "why", "label", "prediction",
    "left", "top", "right", "bottom", "num_pixels", "confidence", "label_confidence",
)  # fmt: skip


def write_ranking(folder: Path, ranking: Sequence[Suspect], check: LabelCheck, suspicion: Suspicion) -> None:
    """ranking.csv with a row per region; ranking.json with every image, its regions and the thresholds."""
    names, background = check.trained.class_names, check.background
    images: list[dict[str, Any]] = [
        {
            "rank": rank,
            "id": suspect.id,
            "score": suspect.score,
            "regions": [
                {"score": score, **_region(region, names, background)} for score, region in suspect.regions
            ],
        }
        for rank, suspect in enumerate(ranking, 1)
    ]
    content = {
        "split": check.split,
        "trained_on_it": check.is_trained_on,
        "members": list(check.trained.members),
        "trust": suspicion.trust,
        "thresholds": dict(zip(names, suspicion.thresholds.tolist(), strict=True)),
        "images": images,
    }
    write_json(folder / "ranking.json", content)
    with written_in_place(folder / "ranking.csv") as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for image in images:
            whole = {"rank": image["rank"], "id": image["id"], "image_score": f"{image['score']:.5f}"}
            for region in image["regions"]:
                box = dict(zip(("left", "top", "right", "bottom"), region.pop("box"), strict=True))
                table.writerow(whole | {"region_score": f"{region.pop('score'):.5f}"} | box | region)


def write_page(
    folder: Path, shown: Iterable[ShownSuspect], num_images: int, check: LabelCheck, trust: float
) -> Path:
    """Write index.html, which needs no other file; returns its path."""
    page = template(TEMPLATE).render(
        name=check.trained.name,
        split=check.split,
        trained_on_it=check.is_trained_on,
        num_members=len(check.trained.members),
        num_images=num_images,
        trust=trust,
        least_trust=LEAST_TRUST,
        classes=list(zip(check.trained.class_names, display_colours(check.trained.palette), strict=True)),
        suspects=[_entry(rank, one, check) for rank, one in enumerate(shown, 1)],
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"


def _entry(rank: int, shown: ShownSuspect, check: LabelCheck) -> dict[str, Any]:
    """One image as the page shows it."""
    names, background = check.trained.class_names, check.background
    labels, predictions = shown.sample.labels, torch.from_numpy(shown.predictions)
    palette, ignore_index = display_colours(check.trained.palette), check.dataset.ignore_index
    image = shown_bands(shown.sample.image, check.dataset.bands)  # (3, h, w)
    views = {
        "image": image.permute(1, 2, 0).numpy(),
        "label": overlay(image, labels, palette, ignore_index),
        "prediction": overlay(image, predictions, palette, ignore_index),
    }
    masks = [mask for _, mask in shown.regions[:MAX_REGIONS]]
    height, width = labels.shape
    box_px = min(PANEL_PX, MAX_ENLARGED * max(height, width))
    panels = {name: fitted(_outlined(pixels, masks), box_px, box_px) for name, pixels in views.items()}
    return {
        "rank": rank,
        "id": shown.suspect.id,
        "score": f"{100 * shown.suspect.score:.1f}",
        "why": why(shown, background),
        "views": {
            name: (webp_uri(panel, quality=WEBP_QUALITY), panel.width, panel.height)
            for name, panel in panels.items()
        },
        "regions": [_region(region, names, background) for region, _ in shown.regions[:MAX_REGIONS]],
    }


def why(shown: ShownSuspect, background: int | None) -> str:
    """The probable errors in the labels of the image."""
    if shown.move is None:
        return shown.suspect.reason(background)
    right, down = shown.move
    ways = [
        f"{abs(n)} px {way}"
        for n, way in ((right, "right" if right > 0 else "left"), (down, "down" if down > 0 else "up"))
        if n
    ]
    return f"shifted mask: the label fits when moved {' and '.join(ways)}"


def _region(region: Region, names: Sequence[str], background: int | None) -> dict[str, Any]:
    return {
        "why": region.kind(background),
        "label": names[region.label],
        "prediction": names[region.prediction],
        "box": list(region.box),
        "num_pixels": region.num_pixels,
        "confidence": round(region.confidence, 4),
        "label_confidence": round(region.label_confidence, 4),
    }


def _outlined(pixels: Pixels, masks: Sequence[np.ndarray]) -> Pixels:
    """The outlines of (h, w) masks drawn into (h, w, 3) pixels, thick enough to be visible."""
    outlined = pixels.copy()
    thickness_px = max(1, round(OUTLINE_PX * max(pixels.shape) / PANEL_PX))
    for mask in masks:
        outlined[mask & ~ndimage.binary_erosion(mask, iterations=thickness_px)] = WRONG
    return outlined
