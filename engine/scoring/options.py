"""The `eval` section of a recipe and the names of the protocols. Without torch, since the recipe reads it."""

import math
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from engine.options import Count, Interval, Section, key, mistake
from engine.scoring.metrics import METRICS

ProtocolName = Literal["native", "mmseg", "paddle", "centercrop", "slide"]  # explained in protocols.py
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[tuple(METRICS)]  # of keep.metric
MEAN_OF = "_mean_of_"  # between a metric and keep.smooth, the number of evaluations: the name of that score


class Eval(Section):
    every: Interval = key("5%", "updates between two evaluations")
    protocol: ProtocolName = key(
        "native", "how images are resized, padded or cut for the model: docs/evaluation.md"
    )
    flip: bool = key(False, "average with the prediction for the mirrored image")
    scales: list[Annotated[float, Field(gt=0, le=16)]] = key(
        [1.0], "average over the image resized by these factors", min_length=1
    )
    multiple: int = key(
        1,
        "the image is resized so that its sides are multiples of this, rounded up; SegFormer's protocol for "
        "ADE20K is mmseg with 32",
        ge=1,
        le=1024,
    )
    average: Literal["probability", "logit"] = key(
        "probability", "what is averaged over mirrored images, scales and windows"
    )
    window: Count = key(512, "side of the windows of slide, px of the original image")
    stride: Count = key(384, "distance from one window of slide to the next, px")

    @field_validator("stride")
    @classmethod
    def _windows_meet(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("window", math.inf):
            raise mistake(f"expected at most eval.window, {info.data['window']}: windows must not leave gaps")
        return value
