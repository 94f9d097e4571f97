"""The `loss` section of a recipe: one section a term, told apart by `name`.

Their names, options and defaults are those of `losses.TERMS`, which a test holds.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.options import Count, Duration, NotNegative, Positive, Section, key

ClassWeights = Literal["none", "inverse", "median", "enet", "effective"] | list[NotNegative]


class Ramp(Section):
    begin: NotNegative = key(0.0, "the weight until `start`")
    end: NotNegative = key(1.0, "the weight from `ramp` steps after `start`")
    start: Duration = key(0, "when it begins to change")
    ramp: Duration = key("10%", "how long it takes")


Weight = NotNegative | Ramp


class Ohem(Section):
    thresh: float = key(0.7, "drop pixels whose label has more probability than this", ge=0, lt=1)
    min_kept: Count = key(100000, "but keep the hardest: this many times the images of a batch")


class CrossEntropy(Section):
    name: Literal["cross_entropy"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    class_weights: ClassWeights = key(
        "none", "a scheme that counts the training labels, or one number a class, by label id"
    )
    label_smoothing: float = key(0.0, "share of the target spread over all classes", ge=0, lt=1)
    ohem: Ohem | None = key(None, "only hard pixels count; null: all")


class Dice(Section):
    name: Literal["dice"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    per_image: bool = key(False, "each image by itself, then their mean; false: over the whole batch")


class Focal(Section):
    name: Literal["focal"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    gamma: NotNegative = key(2.0, "the higher, the less pixels count that are nearly right; 0: cross_entropy")
    class_weights: ClassWeights = key("none", "as of cross_entropy")


class Lovasz(Section):
    name: Literal["lovasz"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    per_image: bool = key(False, "each image by itself, then their mean; false: over the whole batch")


class Tversky(Section):
    name: Literal["tversky"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    alpha: NotNegative = key(0.3, "cost of false positives; alpha and beta 0.5: dice, 1: jaccard")
    beta: Positive = key(0.7, "cost of false negatives")
    gamma: Positive = key(1.0, "focal form: the power is 1 / gamma; 1: plain")


class Jaccard(Section):
    name: Literal["jaccard"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")


class Boundary(Section):
    name: Literal["boundary"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    sigma_px: float = key(5.0, "how far from a boundary pixels count", ge=1)


Loss = Annotated[
    CrossEntropy | Dice | Focal | Lovasz | Tversky | Jaccard | Boundary, Field(discriminator="name")
]
