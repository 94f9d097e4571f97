"""python -m engine.export weights RUN --layout NAME --out FOLDER: a run's weights for other libraries."""

import argparse
from pathlib import Path

from engine.command import new_parser, run_command

LAYOUTS = ("huggingface", "mmsegmentation")
EXAMPLES = """
examples:
  python -m engine.export weights checkpoints/b2_adv --layout huggingface --out exported/b2_adv
  python -m engine.export weights checkpoints/b2_mmseg --layout mmsegmentation --out exported/b2 --step 38000

huggingface     model.safetensors and config.json, for SegformerForSemanticSegmentation.from_pretrained
mmsegmentation  a .pth of tensors, for load_from (model.pth) or the backbone's init_cfg (backbone.pth)

The head model.head=paper is that of Hugging Face, model.head=mmseg that of MMSegmentation; a run with the
other one gives its encoder alone.
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    parser = new_parser(
        "export", "Write the weights of a finished run in the layout of another library.", EXAMPLES
    )
    parser.add_argument("what", choices=["weights"], help="what to export")
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--layout", choices=LAYOUTS, required=True, help="of the library that will read them")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a folder that is new or empty"
    )
    parser.add_argument("--step", type=int, help="of the kept checkpoint (default: the best one)")
    return run_command(parser, export, argv)


def export(arguments: argparse.Namespace) -> int:
    """Load a kept checkpoint, rename its tensors, write them."""
    from engine.run_folder import RunFolder, RunFolderError

    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(
            f"--out {out} holds something already, and nothing is overwritten. Name a new folder."
        )
    run = RunFolder(arguments.run)
    manifest = run.read_manifest()
    member = _choose(run, manifest.members, arguments.step)

    import torch

    from engine.scoring.ensembling import Candidate, load_member
    from models import layouts
    from models.segformer import SegFormer
    from models.translation import export as rename

    model = load_member(Candidate(run, manifest, member), torch.device("cpu"))
    if not isinstance(model, SegFormer):
        raise RunFolderError(
            f"{run.path} holds no SegFormer of Trident, whose layouts these are. {run.path / member.file} "
            "has the names of segmentation_models_pytorch already: load it with safetensors.torch.load_file."
        )
    layout = {layout.name: layout for layout in layouts.LAYOUTS}[arguments.layout]
    tensors, left_out = rename(model.state_dict(), layout)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}  # keys and values were one tensor
    out.mkdir(parents=True, exist_ok=True)
    if arguments.layout == "huggingface":
        files = _write_hugging_face(out, tensors, model, None if left_out else manifest.class_names)
    else:
        files = _write_mmsegmentation(out, tensors, "backbone.pth" if left_out else "model.pth")
    _write_card(out / "README.md", manifest, member)
    print(f"{manifest.name} step {member.step}: {len(tensors)} tensors in the layout of {arguments.layout}")
    if left_out:
        print(
            f"The encoder alone: {arguments.layout} has no head like this one, so its {len(left_out)} "
            "tensors are left out."
        )
    for file in (*files, out / "README.md"):
        print(f"written: {file}")
    return 0


def _choose(run, members: list, step: int | None):
    """The best checkpoint, or that of a step; manifests list the best first."""
    from engine.run_folder import RunFolderError

    found = [member for member in members if step in (None, member.step)]
    if not found:
        kept = ", ".join(str(member.step) for member in members) or "none yet"
        raise RunFolderError(f"{run.path} has kept no checkpoint of this kind. Steps kept: {kept}.")
    return found[0]


def _write_hugging_face(out: Path, tensors: dict, model, class_names: list[str] | None) -> list[Path]:
    """model.safetensors and config.json; without class names, of the encoder alone."""
    from safetensors.torch import save_file

    from engine.run_folder import write_json

    weights, config = out / "model.safetensors", out / "config.json"
    save_file(tensors, weights, metadata={"format": "pt"})
    write_json(config, _hugging_face_config(model, class_names))
    return [weights, config]


def _hugging_face_config(model, class_names: list[str] | None) -> dict:
    """What transformers' SegformerConfig needs to build this very network."""
    from models.segformer import HEADS, MLP_RATIO, REDUCTIONS

    stages = model.encoder.stages
    embeddings = [stage.embed.proj for stage in stages]
    config = {
        "architectures": ["SegformerModel"],
        "model_type": "segformer",
        "num_channels": 3,
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
        "decoder_hidden_size": model.head.classifier.in_channels,
        "classifier_dropout_prob": model.head.dropout.p,
        "id2label": {str(label): name for label, name in enumerate(class_names)},
        "label2id": {name: label for label, name in enumerate(class_names)},
    }


def _write_mmsegmentation(out: Path, tensors: dict, name: str) -> list[Path]:
    import torch

    torch.save({"state_dict": tensors}, out / name)
    return [out / name]


def _write_card(path: Path, manifest, member) -> None:
    """A model card: where the weights come from, and the licence that they still have."""
    from engine.run_folder import write_text
    from models.origin import licence_of_run

    scores = ", ".join(f"{name} {value:.4f}" for name, value in member.scores.items())
    data = manifest.data
    start = manifest.weights["source"] if manifest.weights else "random weights"
    write_text(
        path,
        f"---\nlicense: other\nlicense_name: {licence_of_run(manifest.weights)}\n---\n"
        f"# {manifest.name}, step {member.step}\n\n"
        f"Trained with Trident {manifest.code_version} on {data.format} {data.train}, from {start}.\n"
        f"On {data.val}: {scores}. Pixels go in as RGB, normalised with ImageNet's mean and deviation.\n"
        f"Classes: {', '.join(manifest.class_names)}.\n",
    )


if __name__ == "__main__":
    raise SystemExit(main())
