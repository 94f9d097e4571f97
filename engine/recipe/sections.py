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
    LogInterval,
    Minutes,
    PathText,
    Positive,
    SaveInterval,
    Section,
    Text,
    key,
    mistake,
)
from engine.recipe.components import section_with_options
from engine.reporting.loggers import LOGGERS
from engine.scoring.options import MEAN_OF, MetricName
from models.architectures import ARCHITECTURES, EncoderOptions, ViTOptions

if TYPE_CHECKING:
    LoggerName = str
else:
    LoggerName = Literal[tuple(LOGGERS)]
MOST_LOG_STEPS = 50  # a signal is noticed, and the disk's state saved, at a log step
ImportPath = Annotated[str, Field(pattern=f"^{IMPORT_PATH}$")]


class Auxiliary(Section):
    layer: Text = Field(
        description="module of the encoder whose map (B, C, h, w) the head takes, such as encoder.stages.2 "
        "of SegFormer or encoder.layer3 of a ResNet"
    )
    weight: Positive = key(0.4, "factor of its loss, which has the terms of `loss`")
    channels: Count = key(256, "of its convolution")


class ModelSection(Section):
    arch: Text = key(
        "segformer",
        "segformer; an architecture of segmentation-models-pytorch (SMP), such as unet; or an import path",
    )
    encoder: Text | None = key(None, "encoder of an SMP architecture, such as resnet34")
    from_scratch: bool = key(False, "start from random weights instead of pretrained ones")
    weights: PathText | None = key(
        None,
        "initial weights: hf:<repository>, smp:<tag>, package:<name>, a file, or a run folder; with #<key> "
        "at the end, such as #ema, one of several state dicts in a file",
    )
    freeze: Text | Annotated[list[Text], Field(min_length=1)] | None = key(
        None, "parameters that are not trained: encoder, or patterns of names such as ['encoder.stages.[01]']"
    )

    auxiliary: Auxiliary | None = key(
        None, "a second head on a layer of the encoder, which only the training uses; null is off"
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
for _options in (
    *(architecture.options for architecture in ARCHITECTURES.values()),
    ViTOptions,
    EncoderOptions,
):
    Model = section_with_options(Model, _options)


class Adversarial(Section):
    weight: Positive = key(0.01, "factor of the adversarial loss in the loss of the segmentation model")
    objective: Literal["hinge", "bce", "lsgan", "wgan_gp"] = key(
        "hinge", "objective of model and discriminator"
    )
    start: Duration = key("10%", "when adversarial training starts")
    ramp: Duration = key("10%", "how long the weight then takes to rise from 0")
    lr: Positive = key(1e-4, "learning rate of the discriminator")
    channels: Count = key(64, "channels of the discriminator's first layer")
    layers: Count = key(4, "number of strided convolutions")
    resolution: Literal["full", "logits"] = key(
        "full",
        "resolution of the predictions and labels for the discriminator: that of the crop or of the logits; "
        "at a quarter of the resolution two layers see as far as four, at a sixteenth of the cost",
    )
    sees_image: bool = key(True, "whether the discriminator sees the image next to predictions or labels")
    watchdog: bool = key(
        True, "lower the weight while the discriminator is too accurate, raise it while it guesses"
    )


class Distill(Section):
    teacher: PathText = Field(
        description="folder of a run, whose best checkpoint teaches, a file of its top/, or the folder of a "
        "saved ensemble; with the classes of this recipe"
    )
    weight: Positive = key(1.0, "factor of the divergence from the teacher in the loss")
    temperature: Positive = key(
        1.0,
        "divides the logits of both models, arXiv 1503.02531; above 1 small probabilities count more",
    )


class Train(Section):
    steps: Length = key(40000, "number of updates")
    epochs: Positive | None = key(
        None,
        "length in passes over the train split, instead of steps: 12 is `steps: 12 epochs`",
        exclude=True,
    )
    batch: Literal["auto"] | Count = key(
        16,
        "images per update, over all processes; auto: as many as fit into the memory, chosen at the start",
    )
    accumulate: Literal["auto"] | Count = key(
        1,
        "number of parts in which each batch is computed, to save memory; auto: the fewest with which a part "
        "fits into the memory",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key(
        "auto", "precision of the forward pass; auto: bf16 or fp16 on a GPU, fp32 on a CPU"
    )
    compile: Literal["auto", "max"] | bool = key(
        "auto",
        "compile the model with torch.compile; auto: on a GPU; max: on one GPU, also try several kernels for "
        "each operation, and record whole updates as CUDA graphs; not measured yet",
    )
    shard: bool = key(
        False,
        "each of several processes holds a part of the parameters, gradients and moments, for a model whose "
        "training does not fit on one device (FSDP)",
    )
    save_every: SaveInterval = key(
        "10 min", "updates or time between two savings of the state; it is also saved at each evaluation"
    )
    timeout: Minutes = key(
        "10 min",
        "if one of several processes does not respond for this time, such as a stopped one, all end",
    )
    patience: Count | None = key(
        None,
        "evaluations without a gain of keep.metric beyond noise after which the training ends; null is off",
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = key(
        None, "decay of the moving average of the weights, such as 0.999; null is off"
    )
    ema_widths: list[Annotated[float, Field(ge=0.01, le=0.25)]] = key(
        [],
        "averages of the weights that are tracked and kept with the latest states (keep.tail), such as "
        "[0.05, 0.1], for the method ema_post_hoc of trident ensemble; a width is the standard "
        "deviation of the averaged updates, as a share of the training: sigma_rel of arXiv 2312.02696",
    )
    batch_norm: Literal["sync", "local", "frozen"] = key(
        "sync",
        "statistics of BatchNorm layers: sync: of the batch over all processes (SyncBN); local: of the "
        "images of a process; frozen: the encoder keeps those of its weights; scale and shift still train",
    )
    on_nan: Literal["stop", "skip", "rollback"] = key(
        "skip",
        "an update whose loss or gradient is NaN or infinite is skipped; stop: the run stops at the first; "
        "skip: it stops after max_skipped in a row; rollback: it then goes on from the last state with half "
        "the learning rate, once",
    )
    max_skipped: Count = key(10, "updates in a row that are skipped because of NaN before the run stops")
    deterministic: bool = key(False, "bitwise reproducible training, which is slower")

    @field_validator("epochs")
    @classmethod
    def _one_length(cls, value: float | None) -> float | None:
        if value is not None:  # epochs alone were read as steps (engine/recipe/epochs.py)
            raise mistake("train.steps is given here as well; keep one of the two")
        return value

    @field_validator("ema_widths")
    @classmethod
    def _each_width_once(cls, value: list[float]) -> list[float]:
        if len({f"{width:g}" for width in value}) < len(value):
            raise mistake(f"a width is given twice; keep one, such as {sorted(set(value))}")
        return value

    @field_validator("accumulate")
    @classmethod
    def _of_a_batch(cls, value: int | str, info: ValidationInfo) -> int | str:
        if value == "auto" and info.data.get("batch") == "auto":
            raise mistake(
                "auto keeps the batch that the recipe says, but train.batch is auto too. Type train.batch=16 "
                "or train.accumulate=1"
            )
        return value

    @field_validator("shard")
    @classmethod
    def _on_one_device(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "auto" in (info.data.get("batch"), info.data.get("accumulate")):
            raise mistake(
                "true, but the search of train.batch=auto and train.accumulate=auto needs the whole model on "
                "one device. Type train.batch=16 train.accumulate=1"
            )
        return value


class Keep(Section):
    top: Count = key(3, "number of checkpoints that are kept")
    metric: MetricName = key("mIoU", "score by which the best checkpoints are selected")
    smooth: Count = key(
        1,
        "checkpoints are selected by their mean score over this many evaluations, their own and those before "
        "it; more than 1 helps if there are few images and the score rises to the end",
    )
    spacing: Duration = key(
        0,
        "keep only the best checkpoint of each interval of this length, so that members differ; 0: no limit",
    )
    tail: int = key(
        0,
        "number of latest states that are kept in addition, whatever their scores, for the mean of their "
        "weights (the methods lawa and swa of trident ensemble)",
        ge=0,
    )
    tail_every: LogInterval = key(
        "auto",
        "updates between two of these, counted back from the last update; auto: spread over the last quarter "
        "of the training; with schedule.name: cyclic, a state at the end of each cycle",
    )

    @property
    def score(self) -> str:
        """The name of the score that chooses."""
        return self.metric if self.smooth == 1 else f"{self.metric}{MEAN_OF}{self.smooth}"


class LoggerSection(Section):
    """A logger with options; a subclass adds them."""

    name: Text = Field(description="tensorboard, csv, wandb, mlflow, or the import path of a Callback")


class Logger(LoggerSection):
    """A logger of Trident; its constructor checks the options, since its package may not be installed."""

    model_config = ConfigDict(extra="allow")

    name: LoggerName = Field(description=LoggerSection.model_fields["name"].description)


class Log(Section):
    every: LogInterval = key(
        "auto",
        "updates between two log steps; auto: a fiftieth of the training, at most 50",
    )
    to: list[LoggerName | ImportPath | Logger] = key(
        ["tensorboard"],
        "loggers used next to log.jsonl: tensorboard, csv, wandb, mlflow, or the import path of a Callback; "
        "with options as {name: wandb, project: mine}",
    )
    images: int = key(8, "number of pictures of predictions at each evaluation", ge=0)
    features: int = key(
        0, "number of images whose activation maps are drawn at each evaluation; 0 is off", ge=0
    )
    feature_layers: list[Text] = key(
        ["encoder"],
        "layers whose activation maps are drawn; * matches one part of a name, as in encoder.stages.*",
    )
    gradients: int = key(
        0,
        "updates between two measurements of each block's gradient, a multiple of log.every; 0 is off",
        ge=0,
    )
    loss_gradients: bool = key(
        False,
        "log the norm of each loss term's gradient, at the cost of a backward pass of the loss for each",
    )

    @field_validator("to")
    @classmethod
    def _each_once(cls, value: list[Any]) -> list[Any]:
        names = [entry if isinstance(entry, str) else entry.name for entry in value]
        for name in LOGGERS:
            if names.count(name) > 1:
                raise mistake(
                    f"{name} is given {names.count(name)} times, and would write over itself; keep one"
                )
        return value


def tail_steps(section: Keep, total_steps: int) -> int:
    """What `keep.tail_every: auto` is: the last quarter is what arXiv 1803.05407 averages over."""
    return max(1, total_steps // (4 * max(1, section.tail)))


def log_steps(section: Log, total_steps: int) -> int:
    """What `log.every: auto` is; a divisor of `log.gradients`, which are measured at log steps."""
    most = max(1, min(MOST_LOG_STEPS, total_steps // 50))
    return next(every for every in range(most, 0, -1) if section.gradients % every == 0)


class Output(Section):
    dir: PathText = key("checkpoints", "folder of all runs; a run is written to <dir>/<name>/")
