"""Words of other training programs, and Trident's for the same: commands, flags and recipe keys."""

import shlex
from collections.abc import Sequence

COMMANDS = {
    "train": "run",
    "fit": "run",
    "finetune": "run",
    "resume": "run",
    "test": "evaluate",
    "val": "evaluate",
    "eval": "evaluate",
    "validate": "evaluate",
    "evaluation": "evaluate",
    "score": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "detect": "predict",
    "segment": "predict",
    "init": "new",
    "create": "new",
    "check": "doctor",
    "download": "prepare",
    "tune": "lr_find",
    "find_lr": "lr_find",
    "onnx": "export",
    "bench": "benchmark",
}
LINES = {  # word -> recipe line, with `{}` for the value that was typed, and a value for where there was none
    "epochs": ("train.epochs={}", "50"),
    "num_epochs": ("train.epochs={}", "50"),
    "max_epochs": ("train.epochs={}", "50"),
    "n_epochs": ("train.epochs={}", "50"),
    "num_train_epochs": ("train.epochs={}", "50"),
    "iters": ("train.steps={}", "20000"),
    "max_iters": ("train.steps={}", "20000"),
    "max_steps": ("train.steps={}", "20000"),
    "steps": ("train.steps={}", "20000"),
    "lr": ("optimizer.lr={}", "1e-4"),
    "lr0": ("optimizer.lr={}", "1e-4"),
    "base_lr": ("optimizer.lr={}", "1e-4"),
    "learning_rate": ("optimizer.lr={}", "1e-4"),
    "wd": ("optimizer.weight_decay={}", "0.01"),
    "weight_decay": ("optimizer.weight_decay={}", "0.01"),
    "optimizer": ("optimizer.name={}", "adamw"),
    "optim": ("optimizer.name={}", "adamw"),
    "optimizer_type": ("optimizer.name={}", "adamw"),
    "scheduler": ("schedule.name={}", "poly"),
    "lr_scheduler": ("schedule.name={}", "poly"),
    "schedule": ("schedule.name={}", "poly"),
    "schedule_type": ("schedule.name={}", "poly"),
    "warmup": ("schedule.warmup={}", "5%"),
    "warmup_steps": ("schedule.warmup={}", "5%"),
    "warmup_epochs": ("schedule.warmup='{} epochs'", "3"),
    "batch": ("train.batch={}", "8"),
    "batch_size": ("train.batch={}", "8"),
    "bs": ("train.batch={}", "8"),
    "train_batch_size": ("train.batch={}", "8"),
    "per_device_train_batch_size": ("train.batch={}", "8"),
    "imgsz": ("augment.crop={}", "512"),
    "img_size": ("augment.crop={}", "512"),
    "image_size": ("augment.crop={}", "512"),
    "input_size": ("augment.crop={}", "512"),
    "crop_size": ("augment.crop={}", "512"),
    "data": ("data.root={}", "<its folder>"),
    "data_dir": ("data.root={}", "<its folder>"),
    "data_root": ("data.root={}", "<its folder>"),
    "data_path": ("data.root={}", "<its folder>"),
    "data_names": ("data.classes={}", "[background, object]"),
    "class_names": ("data.classes={}", "[background, object]"),
    "dataset": ("data.root={}", "<its folder>"),
    "root": ("data.root={}", "<its folder>"),
    "workers": ("data.workers={}", "8"),
    "num_workers": ("data.workers={}", "8"),
    "model": ("model.arch={}", "segformer"),
    "arch": ("model.arch={}", "segformer"),
    "model_name": ("model.arch={}", "segformer"),
    "model_type": ("model.arch={}", "segformer"),
    "encoder": ("model.encoder={}", "resnet34"),
    "backbone": ("model.encoder={}", "resnet34"),
    "weights": ("model.weights={}", "<a file>"),
    "pretrained": ("model.weights={}", "<a file>"),
    "checkpoint": ("model.weights={}", "<a file>"),
    "load_from": ("model.weights={}", "<a file>"),
    "seed": ("seed={}", "0"),
    "name": ("name={}", "another"),
    "project": ("output.dir={}", "<a folder>"),
    "output": ("output.dir={}", "<a folder>"),
    "output_dir": ("output.dir={}", "<a folder>"),
    "out_dir": ("output.dir={}", "<a folder>"),
    "output_root": ("output.dir={}", "<a folder>"),
    "output_path": ("output.dir={}", "<a folder>"),
    "output_folder": ("output.dir={}", "<a folder>"),
    "log_dir": ("output.dir={}", "<a folder>"),
    "work_dir": ("output.dir={}", "<a folder>"),
    "save_dir": ("output.dir={}", "<a folder>"),
    "amp": ("train.precision=fp16", ""),
    "fp16": ("train.precision=fp16", ""),
    "bf16": ("train.precision=bf16", ""),
    "ema": ("train.ema={}", "0.999"),
    "accumulate": ("train.accumulate={}", "2"),
    "gradient_accumulation_steps": ("train.accumulate={}", "2"),
    "grad_clip": ("optimizer.clip_norm={}", "1.0"),
    "eval_interval": ("eval.every={}", "10%"),
    "eval_steps": ("eval.every={}", "10%"),
    "eval_epochs": ("eval.every='{} epochs'", "1"),
    "log_interval": ("log.every={}", "50"),
    "log_steps": ("log.every={}", "50"),
    "logging_steps": ("log.every={}", "50"),
}
DEVICES = (
    "Trident takes the GPU, or the CPU where there is none: CUDA_VISIBLE_DEVICES=0 before the command "
    "chooses one, and torchrun --nproc-per-node=2 -m engine.run instead of trident run takes two."
)
SCORED_TOGETHER = "How many images are scored together follows from their sizes, and is not chosen."
SCORED_SIZE = "How images are resized for a scoring is that of eval.protocol (docs/evaluation.md)."
DISCRIMINATOR = "The discriminator is trained by Adam; adversarial.lr is its learning rate."
TEACHER = "The teacher is distill.teacher: the folder of a run, or a file of its top/."
NOTES_ON_KEYS = {  # words for which there is no recipe line
    **dict.fromkeys(("device", "devices", "gpu", "gpus", "gpu_ids", "cuda", "ngpu", "num_gpus"), DEVICES),
    **dict.fromkeys(
        ("num_classes", "n_classes", "nc"), "The number of classes is that of the names in data.classes."
    ),
    **{
        f"{section}_{word}": note
        for sections, words, note in (
            (("eval", "val", "test"), ("batch", "batch_size", "bs"), SCORED_TOGETHER),
            (("per_device_eval",), ("batch_size",), SCORED_TOGETHER),
            (("eval",), ("imgsz", "img_size", "image_size", "input_size", "crop_size", "crop"), SCORED_SIZE),
            (("adversarial",), ("optimizer", "optim", "optimizer_type", "wd", "weight_decay"), DISCRIMINATOR),
            (("distill",), ("model", "weights", "checkpoint", "load_from", "pretrained"), TEACHER),
        )
        for section in sections
        for word in words
    },
}
NOTES = {  # flags, besides
    **NOTES_ON_KEYS,
    **dict.fromkeys(("config", "cfg"), "The recipe is typed without a flag: trident run <recipe>."),
    **dict.fromkeys(("resume_from", "auto_resume"), "To go on with a run: --resume and the same recipe."),
}


def plain(word: str) -> str:
    return word.lower().replace("-", "_")


def recipe_line(word: str, value: str | None) -> str | None:
    """Trident's recipe line for a word of another program, such as train.batch=8 for batch-size and 8."""
    form, usual = LINES.get(plain(word), (None, ""))
    return form.format(usual if value is None else value) if form else None


def run_arguments(words: Sequence[str]) -> list[str]:
    """The arguments of another program's training as `trident run` takes them, the recipe first.

    Known flags and keys become recipe lines; what NOTES answers is left out, and the rest is kept.
    """
    recipes: list[str] = []
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        is_flag = word.startswith("--")
        is_known = plain(name) in {*LINES, *NOTES} and (is_flag or bool(equals))
        if is_flag and is_known and not equals and rest and not rest[0].startswith("-"):
            value, equals = rest.pop(0), "="
        if not is_known:
            is_recipe = not (recipes or equals or word.startswith("-"))
            (recipes if is_recipe else others).append(word)
        elif line := recipe_line(name, value if equals else None):
            others += shlex.split(line)
        elif plain(name) in ("config", "cfg"):
            recipes.append(value)
    return [*(recipes or ["<recipe>"]), *others]


def meant_by_flags(words: Sequence[str], flags: Sequence[int], takes: tuple[str, ...]) -> str | None:
    """A sentence for flags that other programs have, such as --epochs 50; None where one of them is unknown.

    Args:
        words: that were typed.
        flags: the places of these flags among the words.
        takes: how the recipe lines begin that the command takes.
    """
    names, about, lines = [], [], []
    for place in flags:
        flag, equals, value = words[place].partition("=")
        after = next(iter(words[place + 1 :]), "-")
        typed = value if equals else None if after.startswith("-") else after
        line = recipe_line(flag[2:], typed)
        if note := NOTES.get(plain(flag[2:])):
            about.append(note)
        elif line and line.startswith(takes):
            lines.append(line)
        elif line and line.startswith("model."):  # of a command that takes a finished run
            about.append("The run is typed first, without a flag.")
        else:
            return None
        names.append(flag)
    if not names:
        return None
    unknown = f"{' and '.join(names)} {'is no flag' if len(names) == 1 else 'are no flags'} of Trident"
    return " ".join([f"{unknown}; type {' '.join(lines)} instead." if lines else f"{unknown}.", *about])
