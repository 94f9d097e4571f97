"""The loss terms: how each is logged, where its code is, and its options, each declared once.

Recipes, their schema and the constructors read names, types, ranges and defaults from here. Does not import
torch, so that a recipe can be read without it.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from engine.components import ComponentError
from engine.options import STRICT, NotNegative, Section

PerImage = Annotated[
    bool, Field(description="compute the loss of each image and average; false: one loss over the batch")
]
ClassWeights = Literal["none", "inverse", "median", "enet", "effective"] | list[NotNegative]
WeightsOfMean = Annotated[
    ClassWeights, Field(description="of the mean over the classes present; as of cross_entropy")
]


class LossError(ComponentError):
    """A loss that cannot be built as asked for; the text says what to write instead."""


# A model, not a dataclass: within strict options, only a model may be given as a mapping.
class Ohem(Section, from_attributes=True):
    """Which pixels online hard example mining keeps."""

    thresh: float = Field(0.7, ge=0, lt=1, description="drop pixels whose label has a probability above this")
    min_kept: int = Field(
        100_000,
        ge=1,
        description="number of hardest pixels that are always kept, per image of the batch on average",
    )


HardPixels = Annotated[Ohem | None, Field(description="train on the hard pixels only; null: on all")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CrossEntropyOptions:
    class_weights: Annotated[
        ClassWeights,
        Field(description="a scheme based on class frequencies in training labels, or one number per class"),
    ] = "none"
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="share of the target spread over all classes")
    ] = 0.0
    ohem: HardPixels = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DiceOptions:
    per_image: PerImage = False
    class_weights: WeightsOfMean = "none"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FocalOptions:
    gamma: Annotated[
        NotNegative, Field(description="the higher, the lower the weight of easy pixels; 0: cross_entropy")
    ] = 2.0
    class_weights: Annotated[ClassWeights, Field(description="as of cross_entropy")] = "none"
    ohem: HardPixels = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LovaszOptions:
    per_image: PerImage = False
    class_weights: WeightsOfMean = "none"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TverskyOptions:
    alpha: Annotated[
        NotNegative, Field(description="cost of false positives; alpha and beta 0.5: dice, 1: jaccard")
    ] = 0.3
    beta: Annotated[float, Field(gt=0, description="cost of false negatives")] = 0.7
    gamma: Annotated[
        float, Field(gt=0, description="focal Tversky: the loss to the power of 1 / gamma; 1: plain Tversky")
    ] = 1.0
    class_weights: WeightsOfMean = "none"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class JaccardOptions:
    class_weights: WeightsOfMean = "none"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MCCOptions:
    class_weights: WeightsOfMean = "none"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BoundaryOptions:
    sigma_px: Annotated[
        float, Field(ge=1, description="standard deviation of the weight around boundaries, px")
    ] = 5.0
    ohem: Annotated[
        Ohem | None, Field(description="train on the hard ones of the pixels near boundaries; null: on all")
    ] = None


class Term(NamedTuple):
    """A loss term: its name in logs, `module:Class`, the dataclass of its options, and the kinds of labels.

    takes_multi: whether it is also defined where a pixel may have several classes (data.labels: multi).
    """

    log_name: str
    implementation: str
    options: Any
    takes_multi: bool = True


TERMS = {
    "cross_entropy": Term("loss_ce", "losses.cross_entropy:CrossEntropy", CrossEntropyOptions),
    "dice": Term("loss_dice", "losses.overlap:Dice", DiceOptions),
    "focal": Term("loss_focal", "losses.focal:Focal", FocalOptions),
    "lovasz": Term("loss_lovasz", "losses.lovasz:Lovasz", LovaszOptions, takes_multi=False),
    "tversky": Term("loss_tversky", "losses.overlap:Tversky", TverskyOptions),
    "jaccard": Term("loss_jaccard", "losses.overlap:Jaccard", JaccardOptions),
    "mcc": Term("loss_mcc", "losses.mcc:MCC", MCCOptions),
    "boundary": Term("loss_boundary", "losses.boundary:Boundary", BoundaryOptions),
}

SINGLE_ONLY = {
    "class_weights": "none",
    "ohem": None,
    "per_image": False,
}  # the only values with data.labels: multi


def require_multi(term: Any) -> None:
    """Raises LossError where a term of a recipe is not defined for data.labels: multi."""
    own = TERMS.get(term.name)
    if own and not own.takes_multi:
        names = ", ".join(name for name, other in TERMS.items() if other.takes_multi)
        raise LossError(
            f"{term.name} is for pixels of one class each (data.labels: single). For data.labels: multi "
            f"there are {names}. Type 'loss=[{{name: cross_entropy}}, {{name: dice}}]'"
        )
    for option, value in SINGLE_ONLY.items() if own else ():
        if getattr(term, option, value) != value:
            raise LossError(
                f"{term.name}: {option} is for pixels of one class each (data.labels: single). Leave it out, "
                f"or type 'loss=[{{name: {term.name}}}]'"
            )
