"""The sections of a recipe that configure no component of their own: each key with type, range and default.

A check of two keys together is done at the later one, so that all mistakes are found at once.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from engine.components import IMPORT_PATH
from engine.options import (
    Count,
    Duration,
    Length,
    Positive,
    Section,
    Text,
    key,
    mistake,
)
from engine.recipe.components import section_with_options
from engine.reporting.loggers import LOGGERS
from engine.scoring.options import MetricName
from models.architectures import ARCHITECTURES

if TYPE_CHECKING:
    LoggerName = str
else:
    LoggerName = Literal[tuple(LOGGERS)]
ImportPath = Annotated[str, Field(pattern=f"^{IMPORT_PATH}$")]


class ModelSection(Section):
    arch: Text = key(
        "segformer", "segformer; an architecture of segmentation-models-pytorch, such as unet; an import path"
    )
    encoder: Text | None = key(None, "builds model.arch from SMP on this encoder, such as resnet34")
    from_scratch: bool = key(False, "start from random weights, knowingly")
    weights: Text | None = key(
        None, "where training starts: hf:<repository>, smp:<tag>, a file, or a run folder"
    )
    freeze: Text | Annotated[list[Text], Field(min_length=1)] | None = key(
        None, "what is not trained: encoder, or patterns of parameter names such as ['encoder.stages.[01]']"
    )

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The options of the architecture."""

    @field_validator("weights")
    @classmethod
    def _one_start(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("from_scratch"):
            raise mistake(
                "from_scratch: true and weights exclude each other: set one of model.from_scratch=false and "
                "model.weights=null"
            )
        return value


Model: Any = ModelSection
for _architecture in ARCHITECTURES.values():
    Model = section_with_options(Model, _architecture.options)


class Adversarial(Section):
    weight: Positive = key(0.01, "factor of the adversarial loss of the segmenter")
    objective: Literal["hinge", "bce", "lsgan", "wgan_gp"] = key("hinge", "of both players")
    start: Duration = key("10%", "when the discriminator joins")
    ramp: Duration = key("10%", "how long the weight rises from 0 after that")
    lr: Positive = key(1e-4, "learning rate of the discriminator")
    channels: Count = key(64, "of its first layer")
    layers: Count = key(4, "strided convolutions")
    watchdog: bool = key(True, "lowers the weight while the discriminator wins, raises it while it guesses")


class Train(Section):
    steps: Length = key(40000, "updates of the weights")
    batch: Count = key(16, "images an update, over all processes")
    accumulate: Count = key(1, "parts in which each batch is computed")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key("auto", "of the forward pass")
    compile: Literal["auto"] | bool = key("auto", "torch.compile")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = key(
        None, "decay of averaged weights, such as 0.999; null is off"
    )
    deterministic: bool = key(False, "bitwise repeatable, slower")


class Keep(Section):
    top: Count = key(3, "checkpoints kept")
    metric: MetricName = key("mIoU", "by which the best are chosen")


class LoggerSection(Section):
    """A logger with options; a subclass adds them."""

    name: Text = Field(description="tensorboard, csv, wandb, mlflow, or the import path of a Callback")


class Logger(LoggerSection):
    """One of our own, whose constructor checks the options: it may need a package that is not installed."""

    model_config = ConfigDict(extra="allow")

    name: LoggerName = Field(description=LoggerSection.model_fields["name"].description)


class Log(Section):
    every: Count = key(50, "steps between two lines")
    to: list[LoggerName | ImportPath | Logger] = key(
        ["tensorboard"],
        "beside log.jsonl: tensorboard, csv, wandb, mlflow, or the import path of a Callback; {name: wandb, "
        "project: mine} gives options",
    )
    images: int = key(8, "pictures at each evaluation", ge=0)
    features: int = key(0, "images whose activation maps are drawn at each evaluation; 0 is off", ge=0)
    feature_layers: list[Text] = key(
        ["encoder"], "layers that are drawn; * stands for one part of a name, as in encoder.stages.*"
    )
    gradients: int = key(
        0, "updates between two looks at each block's gradient, a multiple of log.every; 0 is off", ge=0
    )
    loss_gradients: bool = key(
        False, "norm of each loss term's gradient; costs a backward pass of the loss each"
    )

    @field_validator("gradients")
    @classmethod
    def _looked_at_when_logged(cls, value: int, info: ValidationInfo) -> int:
        every = info.data.get("every", 1)
        if value % every:
            raise mistake(f"expected a multiple of log.every, {every}: {-(-value // every) * every}")
        return value


class Output(Section):
    dir: Text = key("checkpoints", "the run lives in <dir>/<name>/")
