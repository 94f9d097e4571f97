"""The result of loading weights, part by part, for the console, the log and the manifest."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.wording import quantity

NUM_SHOWN = 3  # keys named in a message
OTHER_CLASSIFIER = re.compile(r"(?:.*\.)?(?:_?fc|classifier|heads?|last_linear)\.(?:.*\.)?weight")


@dataclass
class PartReport:
    """The keys of one part of the model after loading, in our layout where they have a name in it."""

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # keep their initial values
    unexpected: list[str] = field(default_factory=list)  # in the source only
    # "key (shape there -> here)", keep their initial values too
    reshaped: list[str] = field(default_factory=list)
    num_values: int = 0  # of the model's tensors in this part
    num_matched_values: int = 0

    @property
    def share(self) -> float:
        """Of the values of this part that were loaded, 0..1."""
        return self.num_matched_values / max(1, self.num_values)

    def leave_out(self, key: str, num_values: int) -> None:
        """Moves a matched key, whose rows are for other classes, to the reshaped ones."""
        self.matched.remove(key)
        self.num_matched_values -= num_values
        self.reshaped.append(f"{key} (other classes)")


@dataclass
class ClassReport:
    """A classifier for other classes.

    source: how the class names of the weights are known.
    moved: class here -> class there whose row it starts from.
    initialised: classes whose rows start from random values.
    """

    source: str
    moved: dict[str, str]
    initialised: list[str]

    def summary(self) -> str:
        moved = [here if here == there else f"{here} from {there}" for here, there in self.moved.items()]
        return (
            f"  classes  {quantity(len(moved), 'row')} by name ({self.source}): "
            f"{', '.join(moved) or 'none'}; "
            f"{len(self.initialised)} initialised: {', '.join(self.initialised) or 'none'}"
        )


@dataclass
class LoadReport:
    """Where weights came from and what they filled; `parts` are encoder, head and other (fits nowhere)."""

    source: str
    file: str
    layout: str | None
    licence: str
    num_parameters: int  # of the model
    parts: dict[str, PartReport]
    classes: ClassReport | None = None  # None: the classifier was loaded unchanged, or not at all
    others: list[str] = field(default_factory=list)  # keys of further state dicts in the file
    bands: str = ""  # how the first layer was made to take other bands
    sha256: str = ""  # of the tensors that were loaded, by `digest`

    def summary(self) -> str:
        """A line for the source, each part, classes that moved, and what else the file holds."""
        layout = self.layout or "unknown"
        lines = [f"weights {self.source}, layout {layout}, licence: {self.licence}"]
        for name, part in self.parts.items():
            counts = {kind: getattr(part, kind) for kind in ("matched", "missing", "unexpected", "reshaped")}
            found = ", ".join(f"{len(keys)} {kind}" for kind, keys in counts.items() if keys)
            if name == "other":
                left_out = [key for key in part.unexpected if OTHER_CLASSIFIER.fullmatch(key)]
                what = f"; {', '.join(left_out)} is the source's own classifier" if left_out else ""
                lines += [f"  other    {found}: {few(part.unexpected)}{what}"] if found else []
            elif part.num_values:  # a model may have no encoder
                percent = math.floor(1000 * part.share) / 10  # 100 % means all of it
                shapes = f" ({few(part.reshaped)}: at random values)" if part.reshaped else ""
                lines.append(f"  {name:8} {percent:5.1f}% loaded: {found}{shapes}")
        if self.bands:
            lines.append(f"  bands    {self.bands}")
        if self.classes:
            lines.append(self.classes.summary())
        if self.others:
            file = self.source.partition("#")[0]
            lines.append(f"  not read {', '.join(f'{file}#{key}' for key in self.others)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For a manifest; matched keys as their number, the others by name."""
        report = asdict(self)
        for part in report["parts"].values():
            part["matched"] = len(part["matched"])
        return report


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values, as hex: equal wherever the file was and whatever its layout."""
    sha256 = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        sha256.update(f"{key} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        if not tensor.is_meta:
            sha256.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def few(keys: list[str]) -> str:
    """The first of some keys, and how many there are."""
    more = f", ... ({len(keys)} in all)" if len(keys) > NUM_SHOWN else ""
    return ", ".join(keys[:NUM_SHOWN]) + more if keys else "nothing"
