"""Words of other training programs, and Trident's for the same: commands, flags and recipe keys."""

import shlex
from collections.abc import Sequence

COMMANDS = {
    word: command
    for command, words in {
        "run": "train fit finetune resume",
        "evaluate": "test val eval validate evaluation score",
        "predict": "infer inference detect segment",
        "new": "init create",
        "doctor": "check",
        "prepare": "download",
        "lr_find": "tune find_lr",
        "export": "onnx",
        "benchmark": "bench",
    }.items()
    for word in words.split()
}
FOLDERS = "project output output_dir out_dir output_root output_path output_folder log_dir work_dir save_dir"
LINES = {  # word -> recipe line, with `{}` for the value that was typed, and a value for where there was none
    word: (line, usual)
    for line, usual, words in (
        ("train.epochs={}", "50", "epochs num_epochs max_epochs n_epochs num_train_epochs"),
        ("train.steps={}", "20000", "iters max_iters max_steps steps"),
        ("optimizer.lr={}", "1e-4", "lr lr0 base_lr learning_rate"),
        ("optimizer.weight_decay={}", "0.01", "wd weight_decay"),
        ("optimizer.name={}", "adamw", "optimizer optim optimizer_type"),
        ("schedule.name={}", "poly", "scheduler lr_scheduler schedule schedule_type"),
        ("schedule.warmup={}", "5%", "warmup warmup_steps"),
        ("schedule.warmup='{} epochs'", "3", "warmup_epochs"),
        ("train.batch={}", "8", "batch batch_size bs train_batch_size per_device_train_batch_size"),
        ("augment.crop={}", "512", "imgsz img_size image_size input_size crop_size"),
        ("data.root={}", "<its folder>", "data data_dir data_root data_path dataset root"),
        ("data.classes={}", "[background, object]", "data_names class_names"),
        ("data.unlabelled.root={}", "<a folder>", "unlabelled"),
        ("data.workers={}", "8", "workers num_workers"),
        ("model.arch={}", "segformer", "model arch model_name model_type"),
        ("model.encoder={}", "resnet34", "encoder backbone"),
        ("model.weights={}", "<a file>", "weights pretrained checkpoint load_from"),
        ("distill.teacher={}", "<a run>", "distill teacher"),
        ("seed={}", "0", "seed"),
        ("name={}", "another", "name"),
        ("output.dir={}", "<a folder>", FOLDERS),
        ("train.precision=fp16", "", "amp fp16"),
        ("train.precision=bf16", "", "bf16"),
        ("train.ema={}", "0.999", "ema"),
        ("train.accumulate={}", "2", "accumulate gradient_accumulation_steps"),
        ("optimizer.clip_norm={}", "1.0", "grad_clip"),
        ("eval.every={}", "10%", "eval_interval eval_steps"),
        ("eval.every='{} epochs'", "1", "eval_epochs"),
        ("log.every={}", "50", "log_interval log_steps logging_steps"),
    )
    for word in words.split()
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
    if "." in word:  # a key of a recipe, typed as a flag
        return f"{word}={shlex.quote(value)}" if value is not None else None
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
