"""A run's weights in the layout of another library, with a card that says where they come from."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.components import is_import_path
from engine.exporting import ExportError
from engine.recipe import Recipe, load_recipe
from engine.run_folder import Manifest, Member, naming_disk_errors, save_tensors, write_json, write_text
from engine.scoring.trained import find_checkpoint, load_model
from engine.wording import quantity
from models import layouts
from models.origin import licence_of_run
from models.segformer import HEADS, MLP_RATIO, REDUCTIONS, SegFormer
from models.translation import export as rename


def export_weights(path: Path, step: int | None, layout_name: str, out: Path) -> list[str]:
    """Load a kept checkpoint, rename its tensors, write them and a card into the folder `out`.

    Args:
        path: a run folder, or a file of its top/.
        step: of the checkpoint; None takes the best.
        layout_name: of `models.layouts`.

    Returns:
        Lines for the user.

    Raises:
        ExportError: the layout does not describe this model.
        RunFolderError: no such checkpoint, or a damaged one.
    """
    run, manifest, member = find_checkpoint(path, step)
    recipe = load_recipe(run.recipe, imports=False)
    cpu = torch.device("cpu")
    model = load_model(run.path / member.file, member.sha256, recipe, manifest.class_names, cpu)
    if not isinstance(model, SegFormer):
        raise ExportError(
            f"{run.path} is not a SegFormer, and these layouts describe no other network. "
            f"{run.path / member.file} already has the tensor names of "
            f"{recipe.model.arch if is_import_path(recipe.model.arch) else 'segmentation_models_pytorch'}: "
            "load it with safetensors.torch.load_file."
        )
    layout = {layout.name: layout for layout in layouts.LAYOUTS}[layout_name]
    tensors, left_out = rename(model.state_dict(), layout)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}  # some are views of one tensor
    out.mkdir(parents=True, exist_ok=True)
    if layout_name == "huggingface":
        files = _write_hugging_face(out, tensors, model, None if left_out else manifest.class_names)
    else:
        files = _write_mmsegmentation(out, tensors, "backbone.pth" if left_out else "model.pth")
    _write_card(out / "README.md", manifest, member, recipe)
    lines = [
        f"{manifest.name} step {member.step}: {quantity(len(tensors), 'tensor')} in the layout of "
        f"{layout_name}"
    ]
    if left_out:
        lines.append(
            f"The encoder alone: {layout_name} has no head like this one, so of its "
            f"tensors {len(left_out)} {'is' if len(left_out) == 1 else 'are'} left out."
        )
    return lines + [f"written: {file}" for file in (*files, out / "README.md")]


def _write_hugging_face(
    out: Path, tensors: dict[str, Tensor], model: SegFormer, class_names: list[str] | None
) -> list[Path]:
    """model.safetensors and config.json; without class names, of the encoder alone."""
    weights, config = out / "model.safetensors", out / "config.json"
    with naming_disk_errors(weights):
        save_tensors(weights, tensors, {"format": "pt"})
    write_json(config, _hugging_face_config(model, class_names))
    return [weights, config]


def _hugging_face_config(model: SegFormer, class_names: list[str] | None) -> dict[str, object]:
    """The values from which transformers' SegformerConfig builds the same network."""
    stages: list[Any] = list(model.encoder.stages)
    head: Any = model.head
    embeddings = [stage.embed.proj for stage in stages]
    config: dict[str, object] = {
        "architectures": ["SegformerModel"],
        "model_type": "segformer",
        "num_channels": model.in_channels,
        "num_encoder_blocks": len(stages),
        "depths": [len(stage.blocks) for stage in stages],
        "hidden_sizes": list(model.encoder.channels),
        "patch_sizes": [conv.kernel_size[0] for conv in embeddings],
        "strides": [conv.stride[0] for conv in embeddings],
        "num_attention_heads": list(HEADS),
        "sr_ratios": list(REDUCTIONS),
        "mlp_ratios": [MLP_RATIO] * len(stages),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": stages[-1].blocks[-1].drop_path.drop_prob,
        "layer_norm_eps": stages[0].norm.eps,
        "reshape_last_stage": True,
        "semantic_loss_ignore_index": 255,
    }
    if class_names is None:
        return config
    return config | {
        "architectures": ["SegformerForSemanticSegmentation"],
        "decoder_hidden_size": head.classifier.in_channels,
        "classifier_dropout_prob": head.dropout.p,
        "id2label": {str(label): name for label, name in enumerate(class_names)},
        "label2id": {name: label for label, name in enumerate(class_names)},
    }


def _write_mmsegmentation(out: Path, tensors: dict[str, Tensor], name: str) -> list[Path]:
    torch.save({"state_dict": tensors}, out / name)
    return [out / name]


def _write_card(path: Path, manifest: Manifest, member: Member, recipe: Recipe) -> None:
    """A model card: where the weights come from, and their licence."""
    scores = ", ".join(f"{name} {value:.4f}" for name, value in member.scores.items())
    data = manifest.data
    start = manifest.weights["source"] if manifest.weights else "random weights"
    normalisation = recipe.data.normalisation
    if normalisation == "auto":
        how = "normalised with ImageNet's mean and deviation"
    else:
        how = f"normalised with mean {normalisation.mean} and deviation {normalisation.std} of 0..255"
    write_text(
        path,
        f"---\nlicense: other\nlicense_name: {licence_of_run(manifest.weights)}\n---\n"
        f"# {manifest.name}, step {member.step}\n\n"
        f"Trained with Trident {manifest.code_version} on {data.format} {data.train}, from {start}.\n"
        f"On {data.val}: {scores}. Pixels go in as {', '.join(manifest.bands or ['RGB'])}, {how}.\n"
        f"Classes: {', '.join(manifest.class_names)}.\n",
    )
