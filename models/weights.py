"""Puts pretrained weights into a model, and stops where they do not fit: no load fails silently.

`initialise` follows a recipe's `model` section, `load_weights` loads one source. Every tensor of the model
ends up as matched, missing or reshaped, every other tensor of the file as unexpected, and the report says so
by part. An encoder that is not filled to 95 %, or has a tensor of another shape, is an error, since training
from there looks like training from pretrained weights. A classifier of other classes starts from the rows
whose class names match.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.errors import ModelError
from models.heads import CLASSIFIERS, rows_by_name
from models.layouts import LAYOUTS, TIMM_PVT
from models.load_report import LoadReport, PartReport, few
from models.origin import Origin, origin_of
from models.segformer import SegFormer
from models.sources import read_source, unreachable
from models.translation import Architecture, architecture, translate


def initialise(model: nn.Module, section: Any, class_names: Sequence[str] = ()) -> LoadReport | None:
    """Loads what a recipe's `model` section asks for: its `weights`, or nothing if it says `from_scratch`.

    Args:
        model, class_names: as in `build_model`; without the names, no head moves by them.
        section: attributes `weights` and `from_scratch`.

    Raises:
        ModelError: neither or both are given, or the weights do not fit.
    """
    if section.weights is not None and section.from_scratch:
        raise ModelError(
            f"model.weights={section.weights} and model.from_scratch=true contradict each other. Keep the "
            "weights with model.from_scratch=false, or train without them with model.weights=null."
        )
    if section.weights is not None:
        return load_weights(model, section.weights, class_names=class_names)
    if not section.from_scratch:
        raise ModelError(
            "model.weights is null, so the encoder would train from random values. Start from pretrained "
            f"weights with model.weights={_suggestion(model)}, or say that it is meant with "
            "model.from_scratch=true."
        )
    return None


def load_weights(
    model: nn.Module, source: str, min_encoder_share: float = 0.95, class_names: Sequence[str] = ()
) -> LoadReport:
    """Fills `model` from `source`, whatever layout its keys are in.

    A classifier of other classes takes over the rows of the classes that both know by name; without names, a
    classifier of another size stays at its initialisation. A head of another kind or width is left out as a
    whole, since parts of it would be worth nothing.

    Args:
        model: from `build_model`.
        source: what `models.sources.read_source` takes; for a `ZooModel` also `smp:<tag>`, say smp:imagenet.
        min_encoder_share: of the encoder's values that must be found, 0..1.
        class_names: of the model, by logit.

    Raises:
        ModelError: the source cannot be read, is of another variant, or fills less of the encoder. The model
            is unchanged then.
    """
    file, state, origin = _read(model, source)
    layout, renamed, unknown = translate(state) if isinstance(model, SegFormer) else ("smp", state, [])
    own = model.state_dict()
    _check_architecture(source, architecture(renamed), architecture(own))
    parts = _compare(own, renamed) | {"other": PartReport(unexpected=unknown)}
    num_parameters = sum(p.numel() for p in model.parameters())
    report = LoadReport(source, file, layout, origin.licence, num_parameters, parts)
    encoder = parts["encoder"]
    if encoder.share < min_encoder_share or encoder.reshaped:
        raise ModelError(_refusal(report, min_encoder_share, _suggestion(model)))
    rows = {}
    if parts["head"].matched:
        rows, report.classes = rows_by_name(own, renamed, class_names, origin.class_names)
    for key in [key for key in parts["head"].matched if key in rows]:  # as many classes, but others
        parts["head"].leave_out(key, own[key].numel())
    matched = {key: renamed[key] for part in parts.values() for key in part.matched}
    model.load_state_dict(matched | rows, strict=False)
    return report


def _read(model: nn.Module, source: str) -> tuple[str, dict[str, Tensor], Origin]:
    if not source.startswith("smp:"):
        path, state = read_source(source)
        return str(path), state, origin_of(source, Path(path))
    if isinstance(model, SegFormer):
        raise ModelError(
            f"{source}: these weights are for encoders of segmentation_models_pytorch, which model.encoder "
            f"names. For Trident's SegFormer take model.weights={_suggestion(model)}."
        )
    try:
        state = model.pretrained_state(source.removeprefix("smp:"))
    except OSError as error:  # as huggingface_hub raises it
        way = (
            "Start the same run once where there is network, and copy its ~/.cache/huggingface (or what "
            "HF_HOME names) here."
        )
        raise unreachable(source, error, way) from error
    return source, state, Origin(None, model.pretrained_licence())


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
    reason = f"a run needs {min_share:.0%}, or it would quietly train from random values"
    if encoder.share >= min_share:
        reason = "but some of its tensors have another shape, so they are of another network"
    pvt = " Of timm's pvt_v2, only pvt_v2_b5 is such an encoder." if report.layout == TIMM_PVT.name else ""
    return (
        f"{report.source} fills {encoder.share:.1%} of the encoder; {reason}.\n"
        f"  file read:        {report.file}\n"
        f"  layout detected:  {report.layout or 'none'} (known: {layouts})\n"
        f"  missing here:     {few(encoder.missing)}\n"
        f"  another shape:    {few(encoder.reshaped)}\n"
        f"  unexpected there: {few(encoder.unexpected + report.parts['other'].unexpected)}\n"
        f"Take weights of this very encoder, for example model.weights={suggestion}, or train without any: "
        f"model.weights=null model.from_scratch=true.{pvt}"
    )


def _suggestion(model: nn.Module) -> str:
    if not isinstance(model, SegFormer):
        return "smp:imagenet"
    return f"hf:nvidia/mit-{architecture(model.state_dict()).name}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
