"""Puts pretrained weights into a model, and stops where they do not fit: no load fails silently.

`initialise` follows a recipe's `model` section, `load_weights` loads one source. Every tensor of the model
ends up as matched, missing or reshaped, every other tensor of the file as unexpected, and the report says so
by part. An encoder that is not filled to 95 % is an error, since training from there looks like training from
pretrained weights.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from models import ModelError
from models.layouts import LAYOUTS, Architecture, architecture, translate
from models.segformer import SegFormer
from models.sources import read_source, unreachable

NUM_SHOWN = 3  # keys named in a message
CLASSIFIERS = ("head.classifier.", "segmentation_head.")  # their shape follows the class list


@dataclass
class PartReport:
    """What a source gave to one part of the model; keys are in our layout, where they have a name there."""

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # stay at their initialisation
    unexpected: list[str] = field(default_factory=list)  # in the source only
    reshaped: list[str] = field(default_factory=list)  # "key (shape there -> here)", stay likewise
    num_values: int = 0  # of the model's tensors in this part
    num_matched_values: int = 0

    @property
    def share(self) -> float:
        """Of the values of this part, 0..1."""
        return self.num_matched_values / max(1, self.num_values)


@dataclass
class LoadReport:
    """Where weights came from and what they filled; `parts` are encoder, head and other (fits nowhere)."""

    source: str
    file: str
    layout: str | None
    num_parameters: int  # of the model
    parts: dict[str, PartReport]

    def summary(self) -> str:
        """One line for the source, one for each part."""
        layout = self.layout or "unknown"
        lines = [f"weights {self.source}, layout {layout}, {self.num_parameters:,} parameters"]
        for name, part in self.parts.items():
            counts = {kind: getattr(part, kind) for kind in ("matched", "missing", "unexpected", "reshaped")}
            found = ", ".join(f"{len(keys)} {kind}" for kind, keys in counts.items() if keys)
            if name == "other":
                lines += [f"  other    {found}: {_few(part.unexpected)}"] if found else []
            else:
                lines.append(f"  {name:8} {part.share:6.1%} loaded: {found}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For a manifest; matched keys as their number, the others by name."""
        report = asdict(self)
        for part in report["parts"].values():
            part["matched"] = len(part["matched"])
        return report


def initialise(model: nn.Module, section: Any) -> LoadReport | None:
    """Loads what a recipe's `model` section asks for: its `weights`, or nothing if it says `from_scratch`.

    Raises:
        ModelError: neither or both are given, or the weights do not fit.
    """
    if section.weights is not None and section.from_scratch:
        raise ModelError(
            f"model.weights={section.weights} and model.from_scratch=true contradict each other. Keep the "
            "weights with model.from_scratch=false, or train without them with model.weights=null."
        )
    if section.weights is not None:
        return load_weights(model, section.weights)
    if not section.from_scratch:
        raise ModelError(
            "model.weights is null, so the encoder would train from random values. Start from pretrained "
            f"weights with model.weights={_suggestion(model)}, or say that it is meant with "
            "model.from_scratch=true."
        )
    return None


def load_weights(model: nn.Module, source: str, min_encoder_share: float = 0.95) -> LoadReport:
    """Fills `model` from `source`, whatever layout its keys are in.

    A classifier of another number of classes stays at its initialisation and is reported as reshaped. A head
    of another kind or width is left out as a whole, since parts of it would be worth nothing.

    Args:
        model: from `build_model`.
        source: what `models.sources.read_source` takes; for a `ZooModel` also `smp:<tag>`, say smp:imagenet.
        min_encoder_share: of the encoder's values that must be found, 0..1.

    Raises:
        ModelError: the source cannot be read, is of another variant, or fills less of the encoder. The model
            is unchanged then.
    """
    file, state = _read(model, source)
    is_own = isinstance(model, SegFormer)
    layout, renamed, unknown = translate(state) if is_own else ("smp", state, [])
    own = model.state_dict()
    _check_architecture(source, architecture(renamed), architecture(own))
    parts = _compare(own, renamed) | {"other": PartReport(unexpected=unknown)}
    report = LoadReport(source, file, layout, sum(p.numel() for p in model.parameters()), parts)
    if report.parts["encoder"].share < min_encoder_share:
        raise ModelError(_refusal(report, min_encoder_share, _suggestion(model)))
    matched = {key for part in report.parts.values() for key in part.matched}
    model.load_state_dict({key: renamed[key] for key in matched}, strict=False)
    return report


def _read(model: nn.Module, source: str) -> tuple[str, dict[str, Tensor]]:
    if not source.startswith("smp:"):
        path, state = read_source(source)
        return str(path), state
    if isinstance(model, SegFormer):
        raise ModelError(
            f"{source}: these weights are for encoders of segmentation_models_pytorch, which model.encoder "
            f"names. For Trident's SegFormer take model.weights={_suggestion(model)}."
        )
    try:
        return source, model.pretrained_state(source.removeprefix("smp:"))
    except OSError as error:  # as huggingface_hub raises it
        way = (
            "Start the same run once where there is network, and copy its ~/.cache/huggingface (or what "
            "HF_HOME names) here."
        )
        raise unreachable(source, error, way) from error


def _compare(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, PartReport]:
    """Sorts every key of both sides into the parts, and takes the head out again if it is of another make."""
    parts = {"encoder": PartReport(), "head": PartReport()}
    for key, tensor in own.items():
        part = parts[_part(key)]
        part.num_values += tensor.numel()
        if key not in found:
            if tensor.is_floating_point():  # else a BatchNorm's counter, which older files leave out
                part.missing.append(key)
        elif found[key].shape != tensor.shape:
            part.reshaped.append(f"{key} ({_shape(found[key])} -> {_shape(tensor)})")
        else:
            part.matched.append(key)
            part.num_matched_values += tensor.numel()
    for key in found.keys() - own.keys():
        parts[_part(key)].unexpected.append(key)
    head = parts["head"]
    head.unexpected.sort()
    parts["encoder"].unexpected.sort()
    others = (*head.missing, *head.unexpected, *head.reshaped)
    if head.matched and not all(key.startswith(CLASSIFIERS) for key in others):
        head.missing, head.matched, head.num_matched_values = head.missing + head.matched, [], 0
    return parts


def _part(key: str) -> str:
    return "encoder" if key.startswith("encoder.") else "head"


def _check_architecture(source: str, there: Architecture | None, here: Architecture | None) -> None:
    """Without this, the weights of b2 would fill a b1 to 100 %: its blocks are a subset."""
    if there and here and there != here:
        switch = f"Set model.variant={there.name}, or take" if there.name else "Take"
        raise ModelError(
            f"{source}: these look like {there.name or 'other'} weights ({there}); the recipe asks for "
            f"{here.name} ({here}). {switch} weights of {here.name}, for example "
            f"model.weights=hf:nvidia/mit-{here.name}."
        )


def _refusal(report: LoadReport, min_share: float, suggestion: str) -> str:
    encoder = report.parts["encoder"]
    layouts = ", ".join(layout.name for layout in LAYOUTS)
    return (
        f"{report.source} fills {encoder.share:.1%} of the encoder; a run needs {min_share:.0%}, or it would "
        f"quietly train from random values.\n"
        f"  file read:        {report.file}\n"
        f"  layout detected:  {report.layout or 'none'} (known: {layouts})\n"
        f"  missing here:     {_few(encoder.missing)}\n"
        f"  another shape:    {_few(encoder.reshaped)}\n"
        f"  unexpected there: {_few(encoder.unexpected + report.parts['other'].unexpected)}\n"
        f"Take weights of this very encoder, for example model.weights={suggestion}, or train without any: "
        f"model.weights=null model.from_scratch=true."
    )


def _suggestion(model: nn.Module) -> str:
    if not isinstance(model, SegFormer):
        return "smp:imagenet"
    return f"hf:nvidia/mit-{architecture(model.state_dict()).name}"


def _few(keys: list[str]) -> str:
    more = f", ... ({len(keys)} in all)" if len(keys) > NUM_SHOWN else ""
    return ", ".join(keys[:NUM_SHOWN]) + more if keys else "nothing"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
