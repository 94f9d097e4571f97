"""From a configuration of MMSegmentation (1.x or 0.x) to a recipe, and what the recipe does not hold of it.

Each module takes settings out of the configuration (`Settings.take`); those that are left in the end were not
carried over.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.recipe.mmseg.data import augment_section, data_section
from engine.recipe.mmseg.model import decode_head, loss_section, model_section
from engine.recipe.mmseg.reading import Config, read_config
from engine.recipe.mmseg.settings import Notes, NotRead, short
from engine.recipe.mmseg.training import training_sections
from engine.recipe.text import RecipeError, dump_yaml
from engine.wording import quantity

LOGS_AND_TESTS = """
default_scope env_cfg vis_backends visualizer log_processor log_level log_config dist_params workflow
cudnn_benchmark resume resume_from work_dir gpu_ids auto_resume device launcher opencv_num_threads
mp_start_method find_unused_parameters default_hooks checkpoint_config test_dataloader test_evaluator
val_evaluator val_dataloader test_pipeline tta_pipeline tta_model img_ratios val_cfg test_cfg evaluation fp16
"""
IMPLIED = """
num_workers persistent_workers workers_per_gpu sampler test collate_fn img_size pretrain_img_size patch_size
patch_sizes norm_cfg norm_eval act_cfg in_channels in_index in_chans input_transform feature_strides
num_stages out_indices out_channels align_corners style contract_dilation loss_name avg_non_ignore strides
mlp_ratio mlp_ratios num_heads sr_ratios qkv_bias qk_scale patch_norm window_size bgr_to_rgb pad_val
seg_pad_val size to_rgb interpolate_mode c1_in_channels c1_channels palette
"""
# Not listed: at the top, what does not change a training; anywhere, what follows from architecture and data.
SILENT_AT_TOP, SILENT = frozenset(LOGS_AND_TESTS.split()), frozenset(IMPLIED.split())
CROP_MULTIPLE = 32  # px, with an auxiliary head
ENTRIES = {"model", "data", "train_dataloader", "optim_wrapper", "param_scheduler", "lr_config"}


class Carried(NamedTuple):
    """The text of a recipe, and one line for each setting that it does not hold."""

    text: str
    not_carried: list[str]


def carry_over(path: Path, name: str) -> Carried:
    """Read a configuration, without running it, and write the recipe that is nearest to it.

    Raises:
        RecipeError: the file, or one that it is based on, is missing or no configuration of a segmentation.
    """
    config = read_config(path)
    values, notes = config.values, Notes()
    if not decode_head(values):
        raise RecipeError(f"{path}: {_no_model(config, path)}")
    model = values.section("model")
    model.taken.add("type")
    what = f"{decode_head(values).get('type')} on {model.section('backbone').get('type')}"
    sections: dict[str, Any] = {
        "data": data_section(values, notes),
        "augment": augment_section(values, notes),
        "model": model_section(values, notes),
        "loss": loss_section(values, notes),
        **training_sections(values, path, notes),
    }
    crop = sections["augment"].get("crop", 0)
    if "auxiliary" in sections["model"] and crop % CROP_MULTIPLE:
        sections["augment"]["crop"] = crop = max(1, crop // CROP_MULTIPLE) * CROP_MULTIPLE
        notes.append(f"crop_size: {crop} px, as model.auxiliary takes sides that divide by {CROP_MULTIPLE}")
    if "seed" in sections["train"]:
        sections = {"seed": sections["train"].pop("seed"), **sections}
    not_carried = list(dict.fromkeys([*notes, *_left(config)]))
    return Carried(_text(path, name, what, sections, not_carried), not_carried)


def _no_model(config: Config, path: Path) -> str:
    settings = [*config.values.values(), *config.values.section("model").values()]
    unread = [value for value in settings if isinstance(value, NotRead)] + config.not_read
    if not unread:
        return "no model with a decode_head, so it is no configuration of a segmentation."
    code = unread[0]
    return (
        f"no model with a decode_head. It may be made by code, which is not run: {code.place}: {code.text}. "
        "Where MMSegmentation is installed, write its values to a file of their own, and name that: "
        f'python -c "from mmengine import Config; Config.fromfile({str(path)!r}).dump({"plain.py"!r})"'
    )


def _left(config: Config) -> Iterator[str]:
    """The settings that were not taken, and the code that was not read."""
    for place, path, value in config.values.left():
        top, key = path.partition(".")[0], path.rpartition(".")[2]
        silent = top in SILENT_AT_TOP | (config.variables - ENTRIES) or key in SILENT
        is_off = not value and not key.endswith("_mult")  # None, False, 0, nothing
        if not (silent or is_off or path.startswith("data.val.pipeline")):
            why = "code, which is not run" if isinstance(value, NotRead) else "a recipe has no key for it"
            yield f"{place}: {path}={short(value)}: {why}"
    for code in config.not_read:
        yield f"{code.place}: {code.text}: code, which is not run"


def _text(path: Path, name: str, what: str, sections: dict[str, Any], not_carried: list[str]) -> str:
    rest = f"{quantity(len(not_carried), 'setting')}, at the end" if not_carried else "nothing"
    lines = [
        f"# Written by trident new --from-mmseg {path}. Every key and its default: docs/recipe.md.",
        f"# Not carried over: {rest}.\n",
        f"name: {name}",
    ]
    for key, value in sections.items():
        comment = {
            "data": " # paths are relative to where the command runs",
            "model": f" # there: {what}",
        }.get(key, "")
        lines.append(dump_yaml({key: value}).rstrip().replace("\n", f"{comment}\n", 1))
    if not_carried:
        lines += ["\n# Not carried over:", *(f"#   {line}" for line in not_carried)]
    return "\n".join(lines) + "\n"
