"""Loads pretrained weights into a model; weights that do not fit are an error, never ignored silently.

`initialise` follows a recipe's `model` section, `load_weights` loads one source. Every tensor of the model
ends up as matched, missing or reshaped, every other tensor of the file as unexpected, and the report says so
by part. An encoder that is not filled to 95 %, or has a tensor of another shape, is an error, since training
from there looks like training from pretrained weights. A classifier of other classes starts from the rows
whose class names match.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models import encoder_layouts
from models.architectures import PRETRAINED_PACKAGES
from models.channels import adapted_to_bands
from models.class_names import known_set, matching_rows
from models.errors import ModelError
from models.finite import broken_tensor
from models.layouts import LAYOUTS, TIMM_PVT
from models.load_report import ClassReport, LoadReport, PartReport, digest, few
from models.origin import Origin, origin_of
from models.segformer import SegFormer
from models.sources import NETWORK_ERRORS, read_source, unreachable
from models.state_dicts import StateDict, Translation, blocks_beyond, translate_without_prefix
from models.translation import EncoderShape, encoder_shape, translate

MIN_ENCODER_SHARE = 0.95  # of its values; of all values of a model without a submodule `encoder`
OF_OTHER_BANDS = re.compile(r"\S+ \((\d+)x(\d+)(x\d+x\d+) -> \1x\d+\3\)")  # a convolution
RGB = ("red", "green", "blue")
# Their first dimension is the class; of DPT's head only the last layer.
CLASSIFIERS = ("head.classifier.", "segmentation_head.0.", "segmentation_head.head.4.")


def initialise(
    model: nn.Module, section: Any, class_names: Sequence[str] = (), bands: Sequence[str] = RGB
) -> LoadReport | None:
    """Loads what a recipe's `model` section asks for: its `weights`, or nothing if it says `from_scratch`.

    Args:
        model, class_names: as in `build_model`; without the names, no classifier rows are matched by name.
        section: attributes `weights` and `from_scratch`.
        bands: names of the model's input channels.

    Raises:
        ModelError: neither or both are given, or the weights do not fit.
    """
    if section.weights is not None and section.from_scratch:
        raise ModelError(
            f"model.weights={section.weights} and model.from_scratch=true contradict each other. Keep the "
            "weights with model.from_scratch=false, or train without them with model.weights=null."
        )
    if section.weights is not None:
        return load_weights(model, section.weights, class_names=class_names, bands=bands)
    if not section.from_scratch:
        raise ModelError(
            "model.weights is null, so the encoder would train from random values. Start from pretrained "
            f"weights with model.weights={_suggestion(model)}, or confirm that this is intended with "
            "model.from_scratch=true."
        )
    return None


def load_weights(
    model: nn.Module,
    source: str,
    class_names: Sequence[str] = (),
    bands: Sequence[str] = RGB,
) -> LoadReport:
    """Fills `model` from `source`, whose keys may be in any layout.

    A classifier of other classes takes over the rows of the classes that both know by name; without names, a
    classifier of another size stays at its initialisation. A head of another kind or width is not loaded at
    all, since parts of it are useless.

    Args:
        model: from `build_model`.
        source: what `models.sources.read_source` takes; for a `ZooModel` also `smp:<tag>`, say smp:imagenet.
        class_names: of the model, by logit.
        bands: names of its input channels; its first layer takes over the filters of those that both know.

    Raises:
        ModelError: the source cannot be read, is of another variant or of a deeper network, fills less of
            the encoder than MIN_ENCODER_SHARE, or has NaN. The model is unchanged then.
    """
    return _fill(model, source, *_read(model, source), class_names, bands)


def fill_from(
    model: nn.Module,
    source: str,
    trained: nn.Module,
    origin: Origin,
    class_names: Sequence[str],
    bands: Sequence[str] = RGB,
) -> None:
    """Fill `model` as `load_weights` will from `source`, once `trained` is saved there.

    Args:
        trained: from `build_model`; origin: its classes and bands.
        model, source, class_names, bands: as in `load_weights`.

    Raises:
        ModelError: `trained` is another network.
    """
    state = StateDict(trained.state_dict(), [])
    _fill(model, source, source, state, origin, class_names, bands)


def _fill(
    model: nn.Module,
    source: str,
    file: str,
    state: StateDict,
    origin: Origin,
    class_names: Sequence[str],
    bands: Sequence[str],
) -> LoadReport:
    own = model.state_dict()
    layout, renamed, unknown = translate_without_prefix(state.tensors, _translation(model, own))
    renamed, adapted = adapted_to_bands(own, renamed, bands, origin.bands or RGB)
    _check_encoder_shape(source, encoder_shape(renamed), encoder_shape(own))
    parts = _compare(own, renamed) | {"other": PartReport(unexpected=unknown)}
    num_parameters = sum(p.numel() for p in model.parameters())
    report = LoadReport(
        source, file, layout, origin.licence, num_parameters, parts, others=state.others, bands=adapted
    )
    required = parts["encoder" if parts["encoder"].num_values else "head"]
    in_file = {id(tensor): key for key, tensor in state.tensors.items()}
    used = [in_file.get(id(tensor), "") for key, tensor in renamed.items() if _part(key) == "encoder"]
    beyond = blocks_beyond(used, unknown)
    if required.share < MIN_ENCODER_SHARE or parts["encoder"].reshaped or beyond:
        known = encoder_layouts.LAYOUTS if hasattr(model, "pretrained_state") else [x.name for x in LAYOUTS]
        keys = [*state.tensors]
        raise ModelError(_refusal(report, _suggestion(model), known, keys, beyond))
    rows: dict[str, Tensor] = {}
    if parts["head"].matched:
        rows, report.classes = _rows_by_name(own, renamed, class_names, origin.class_names)
    # rows of the same number of classes, but other ones
    for key in [key for key in parts["head"].matched if key in rows]:
        parts["head"].leave_out(key, own[key].numel())
    matched = {key: renamed[key] for part in parts.values() for key in part.matched}
    if name := broken_tensor(model, matched | rows):
        raise ModelError(
            f"{source}: {name} in {file} has NaN or infinite values, so nothing can be trained from it. Take "
            f"another file or checkpoint of that run, for example model.weights={_suggestion(model)}."
        )
    model.load_state_dict(matched | rows, strict=False)
    report.sha256 = digest({key: own[key] for key in matched | rows})  # `own` shares the model's memory
    return report


def _translation(
    model: nn.Module, own: Mapping[str, Tensor]
) -> Callable[[Mapping[str, Tensor]], Translation]:
    if isinstance(model, SegFormer):
        return translate
    if hasattr(model, "pretrained_state"):
        return partial(encoder_layouts.translate_encoder, own=own)
    return lambda state: (
        None,
        {key: tensor for key, tensor in state.items() if key in own},
        [key for key in state if key not in own],
    )


def _read(model: nn.Module, source: str) -> tuple[str, StateDict, Origin]:
    if not source.startswith("smp:"):
        path, state = read_source(source)
        return str(path), state, origin_of(source, Path(path))
    if not hasattr(model, "pretrained_state"):
        raise ModelError(
            f"{source}: these weights are for encoders of segmentation_models_pytorch, which model.encoder "
            f"names. For a {type(model).__name__} take model.weights={_suggestion(model)}."
        )
    zoo: Any = model
    try:
        state = zoo.pretrained_state(source.removeprefix("smp:"))
    except NETWORK_ERRORS as error:
        way = (
            "Start the same run once on a machine with network access, and copy its ~/.cache/huggingface (or "
            "what HF_HOME names) here."
        )
        raise unreachable(source, error, way) from error
    return source, StateDict(state, []), Origin(None, zoo.pretrained_licence())


def _compare(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, PartReport]:
    """Sorts every key of both sides into the parts, and leaves out the head if it is of another kind."""
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
    if (
        parts["encoder"].num_values
        and head.matched
        and not all(key.startswith(CLASSIFIERS) for key in others)
    ):
        head.missing, head.matched, head.num_matched_values = head.missing + head.matched, [], 0
    return parts


def _rows_by_name(
    own: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    here: Sequence[str],
    there: Sequence[str] | None,
) -> tuple[dict[str, Tensor], ClassReport | None]:
    """The model's classifier with the rows of `found` whose classes it has too.

    Args:
        own: the model's state dict, freshly initialised.
        found: loaded tensors under the model's names.
        here, there: class names of both. If those of the file are unknown, a classifier of another size is
            assumed to be that of the well-known data set with that number of classes, if there is one.

    Returns:
        The tensors and what was moved; nothing and None where there is nothing to move, because the classes
        are unknown or the same.
    """
    keys = [key for key in own if key.startswith(CLASSIFIERS) and key in found]
    if not keys or not here or any(own[key].shape[1:] != found[key].shape[1:] for key in keys):
        return {}, None
    num_there, source = len(found[keys[0]]), "the file's own list"
    if there is None and num_there != len(here) and (known := known_set(num_there)):
        source, there = f"{known[0]}, by their number", known[1]
    if there is None or len(there) != num_there or tuple(there) == tuple(here):
        return {}, None
    pairs = [(row, old) for row, old in enumerate(matching_rows(here, there)) if old is not None]
    rows, old_rows = [row for row, _ in pairs], [old for _, old in pairs]
    tensors = {key: own[key].clone() for key in keys}
    for key, tensor in tensors.items():
        tensor[rows] = found[key][old_rows].to(tensor)
    moved = {here[row]: there[old] for row, old in pairs}
    return tensors, ClassReport(source, moved, [name for name in here if name not in moved])


def _part(key: str) -> str:
    return "encoder" if key.startswith("encoder.") else "head"


def _check_encoder_shape(source: str, there: EncoderShape | None, here: EncoderShape | None) -> None:
    """Without this, the weights of b2 would fill a b1 to 100 %: its blocks are a subset."""
    if there and here and there != here:
        switch = f"Set model.variant={there.name}, or take" if there.name else "Take"
        raise ModelError(
            f"{source}: these look like {there.name or 'other'} weights ({there}); the recipe asks for "
            f"{here.name} ({here}). {switch} weights of {here.name}, for example "
            f"model.weights=hf:nvidia/mit-{here.name}."
        )


def _refusal(
    report: LoadReport,
    suggestion: str,
    layouts: Iterable[str],
    keys: list[str],
    beyond: list[str],
) -> str:
    name = "encoder" if report.parts["encoder"].num_values else "head"
    part = report.parts[name]
    reason = f"a run needs {MIN_ENCODER_SHARE:.0%}, or it would silently train from random values"
    if part.share >= MIN_ENCODER_SHARE and beyond:
        reason = "but it has further blocks, so it is of a deeper network"
    elif part.share >= MIN_ENCODER_SHARE:
        reason = "but some of its tensors have another shape, so they are of another network"
    first_layer = OF_OTHER_BANDS.fullmatch(", ".join(part.reshaped))
    if first_layer and not part.missing:
        reason = (
            f"but its first layer is for images of {first_layer[2]} bands. If yours have them, type "
            f"data.bands={first_layer[2]}"
        )
    pvt = " Of timm's pvt_v2, only pvt_v2_b5 is such an encoder." if report.layout == TIMM_PVT.name else ""
    return (
        f"{report.source} fills {part.share:.1%} of the {name}; {reason}.\n"
        f"  file read:        {report.file}\n"
        f"  its first keys:   {few(keys)}\n"
        f"  nearest layout:   {report.layout or 'none'} (known: {', '.join(layouts)})\n"
        f"  missing here:     {few(part.missing)}\n"
        f"  another shape:    {few(part.reshaped)}\n"
        f"  unexpected there: {few(beyond or part.unexpected + report.parts['other'].unexpected)}\n"
        f"Take weights of exactly this network, for example model.weights={suggestion}, or train without "
        f"any: model.weights=null model.from_scratch=true.{pvt}"
    )


def _suggestion(model: nn.Module) -> str:
    if isinstance(model, SegFormer):
        shape = encoder_shape(model.state_dict())
        return f"hf:nvidia/mit-{shape.name if shape else 'b0'}"
    if not hasattr(model, "pretrained_state"):
        return "<a file of its weights>"
    package = PRETRAINED_PACKAGES.get(str(model.encoder_name))
    return f"package:{package}" if package else "smp:imagenet"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
