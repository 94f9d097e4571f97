"""Optimiser, schedule, length and scoring of a configuration of MMSegmentation, as sections of a recipe."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.recipe.mmseg.settings import NUMBER, Notes, Settings

OPTIMIZERS = {"AdamW": "adamw", "Adam": "adam", "SGD": "sgd"}
NEARLY_0 = 0.01  # factor on the rate at which a rise begins
USUAL_SIZE = [2048, 512]  # of the validation, and of the protocol mmseg
GPUS = re.compile(r"(\d+)xb(\d+)")  # in the name of a file: GPUs x batch


def training_sections(values: Settings, path: Path, notes: Notes) -> dict[str, dict[str, Any]]:
    """`optimizer`, `schedule`, `train` and `eval`."""
    train = _length(values) | {"batch": _batch(values, path, notes)}
    wrapper = values.section("optim_wrapper")
    if (parts := wrapper.take("accumulative_counts", int, 1)) > 1:
        train |= {"batch": train["batch"] * parts, "accumulate": parts}
    wrapper.taken |= {"type", "loss_scale"}  # train.precision: auto is mixed on a GPU
    hooks = [hook for hook in values.take("custom_hooks", list, []) if isinstance(hook, Settings)]
    for hook in hooks:
        if hook.get("type") == "EMAHook" and hook.take("type", str):
            train["ema"] = 1 - float(hook.take("momentum", NUMBER, 0.0002))
    if isinstance(seed := values.section("randomness").take("seed", int, values.take("seed", int)), int):
        train["seed"] = seed
    return {
        "optimizer": _optimizer(values, notes),
        "schedule": _schedule(values, notes),
        "train": train,
        "eval": _evaluation(values, notes),
        "log": _log(values),
    }


def _length(values: Settings) -> dict[str, Any]:
    loop, runner = values.section("train_cfg"), values.section("runner")
    loop.take("type", str), runner.take("type", str)
    for where in (loop, runner):
        if steps := where.take("max_iters", int):
            return {"steps": steps}
        if epochs := where.take("max_epochs", int):
            return {"steps": f"{epochs} epochs"}
    epochs = values.take("total_epochs", int)
    return {"steps": f"{epochs} epochs" if epochs else values.take("total_iters", int, 40_000)}


def _batch(values: Settings, path: Path, notes: Notes) -> int:
    """Of an update: the name of the file may say how many GPUs there are."""
    loader, old = values.section("train_dataloader"), values.section("data")
    settings, key = (loader, "batch_size") if "batch_size" in loader else (old, "samples_per_gpu")
    batch: int = settings.take(key, int, 2)
    if named := GPUS.search(path.stem):
        return batch * int(named[1])
    if key in settings:
        notes.add(settings, key, "of each GPU; train.batch is that of all, so multiply it by their number")
    return batch


def _optimizer(values: Settings, notes: Notes) -> dict[str, Any]:
    wrapper = values.section("optim_wrapper")
    optimizer = wrapper.section("optimizer") or values.section("optimizer")
    kind = optimizer.take("type", str, "SGD")
    section: dict[str, Any] = {"name": OPTIMIZERS.get(kind, "adamw")}
    if kind not in OPTIMIZERS:
        notes.add(optimizer, "type", "adamw takes its place")
    section["lr"] = float(optimizer.take("lr", NUMBER, 0.01))
    section["weight_decay"] = float(optimizer.take("weight_decay", NUMBER, 0.0))
    if section["name"] == "sgd":
        section["momentum"] = float(optimizer.take("momentum", NUMBER, 0.0))
    elif betas := optimizer.numbers("betas", []):
        section["betas"] = betas
    section["head_lr_mult"] = 1.0
    clip = wrapper.section("clip_grad") or values.section("optimizer_config").section("grad_clip")
    if norm := clip.take("max_norm", NUMBER):
        section["clip_norm"] = float(norm)
    if clip.get("norm_type") == 2:
        clip.taken.add("norm_type")
    paramwise = wrapper.section("paramwise_cfg") or optimizer.section("paramwise_cfg")
    return section | _head_factor(paramwise.section("custom_keys"))


def _head_factor(patterns: Settings) -> dict[str, Any]:
    """The factor of the head. Norms and biases have no weight decay here, as most configurations say."""
    found = {}
    for name in patterns:
        options = patterns.section(name)
        if name in ("head", "decode_head") and (factor := options.take("lr_mult", NUMBER)):
            found["head_lr_mult"] = float(factor)
        if name in ("norm", "bias") and options.get("decay_mult") == 0:
            options.taken.add("decay_mult")
    return found


def _schedule(values: Settings, notes: Notes) -> dict[str, Any]:
    old = values.section("lr_config")
    if old:
        return _old_schedule(old, notes)
    section: dict[str, Any] = {"name": "constant", "warmup": 0}
    given = values.take("param_scheduler", (list, Settings), [])
    for part in given if isinstance(given, list) else [given]:
        if not isinstance(part, Settings):
            continue
        part.taken |= {"begin", "by_epoch", "convert_to_iter_based"}
        kind = part.take("type", str)
        if kind == "LinearLR":
            section["warmup"] = _span(part, part.take("end", int, 0))
            if part.take("start_factor", NUMBER, 0) > NEARLY_0:
                notes.add(part, "start_factor", "the rise begins at 0")
        elif kind in ("PolyLR", "CosineAnnealingLR"):
            part.taken |= {"end", "T_max"}
            section["name"] = "poly" if kind == "PolyLR" else "cosine"
            if kind == "PolyLR":
                section["power"] = float(part.take("power", NUMBER, 1.0))
            section["min_lr"] = float(part.take("eta_min", NUMBER, 0.0))
        elif kind == "MultiStepLR":
            part.taken.add("end")
            section |= {"name": "step", "gamma": float(part.take("gamma", NUMBER, 0.1))}
            section["milestones"] = [_span(part, step) for step in part.take("milestones", list, [])]
        elif "type" in part:
            notes.whole(part, "there is no such schedule")
    return section


def _span(part: Settings, steps: int) -> int | str:
    return f"{steps} epochs" if part.get("by_epoch") is True else steps


def _old_schedule(config: Settings, notes: Notes) -> dict[str, Any]:
    """`lr_config` of 0.x."""
    config.taken |= {"by_epoch", "warmup_by_epoch"}
    policy = config.take("policy", str, "fixed").lower()
    section: dict[str, Any] = {"name": "constant", "warmup": 0}
    if policy == "poly":
        section |= {"name": "poly", "power": float(config.take("power", NUMBER, 1.0))}
        section["min_lr"] = float(config.take("min_lr", NUMBER, 0.0))
    elif policy == "cosineannealing":
        section |= {"name": "cosine", "min_lr": float(config.take("min_lr", NUMBER, 0.0))}
    elif policy == "step":
        steps = config.take("step", (list, int), [])
        section |= {"name": "step", "gamma": float(config.take("gamma", NUMBER, 0.1))}
        section["milestones"] = [
            _span(config, step) for step in (steps if isinstance(steps, list) else [steps])
        ]
    elif policy != "fixed":
        notes.add(config, "policy", "there is no such schedule")
    if config.take("warmup", str):
        section["warmup"] = config.take("warmup_iters", int, 0)
        if config.take("warmup_ratio", NUMBER, 0) > NEARLY_0:
            notes.add(config, "warmup_ratio", "the rise begins at 0")
    return section


def _evaluation(values: Settings, notes: Notes) -> dict[str, Any]:
    test = values.section("model").section("test_cfg")
    section: dict[str, Any] = {"protocol": "native"}
    every = values.section("train_cfg").take("val_interval", int) or values.section("evaluation").take(
        "interval", int
    )
    if every:
        by_epoch = values.section("train_cfg").get("type") == "EpochBasedTrainLoop"
        section["every"] = f"{every} epochs" if by_epoch else every
    if test.take("mode", str) == "slide":
        section["protocol"] = "slide"
        for key, name in (("crop_size", "window"), ("stride", "stride")):
            if sides := test.numbers(key, []):
                section[name] = int(min(sides))
    loaders = [values.get("val_dataloader"), *map(values.section("data").get, ("val", "test"))]
    for step in _steps(loaders):
        if step.get("type") in ("ResizeToMultiple", "AlignedResize"):
            divisor = step.get("size_divisor", 32)
            sides = divisor if isinstance(divisor, list) else [divisor]
            if all(isinstance(side, int) and side > 0 for side in sides):
                section["multiple"] = math.lcm(*map(int, sides))
    _note_sizes(loaders, notes)
    return section


def _note_sizes(loaders: list[Any], notes: Notes) -> None:
    """List the sizes to which images are resized for the scores, but for that of the protocol mmseg."""
    sizes = [
        (step, key)
        for step in _steps(loaders)
        for key in ("scale", "img_scale")
        if step.get("type") in ("Resize", "MultiScaleFlipAug") and step.get(key) not in (None, USUAL_SIZE)
    ]
    for step, key in {step.places[key]: (step, key) for step, key in sizes}.values():
        notes.add(step, key, "of the scores; here images keep their size, or 2048 x 512 by --protocol mmseg")


def _steps(value: Any) -> Iterator[Settings]:
    """Every section inside a value."""
    if isinstance(value, Settings):
        yield value
    children = value.values() if isinstance(value, Settings) else value if isinstance(value, list) else []
    for child in children:
        yield from _steps(child)


def _log(values: Settings) -> dict[str, Any]:
    logger = values.section("default_hooks").section("logger") or values.section("log_config")
    return {"every": logger.take("interval", int, 50)}
