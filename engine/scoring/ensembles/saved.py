"""Writes the folder of an ensemble: combination.json, and members/ with the weights and recipe of each.

`engine.scoring.trained.open_trained` reads it.
"""

import math
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from engine import __version__
from engine.recipe import load_recipe
from engine.run_folder import (
    CombinationValues,
    DataIdentity,
    EnsembleFolder,
    EnsembleManifest,
    EnsembleMember,
    RunFolderError,
    naming_disk_errors,
    require_folder,
    require_reachable,
    save_tensors,
    sha256_of,
    write_text,
)
from engine.scoring.combining import Combination, EarlyExit
from engine.scoring.ensembles.selection import Ensemble
from engine.scoring.ensembling import Candidate, distinct_names


def require_unused(path: Path) -> None:
    """Raises RunFolderError where the folder is not empty, or cannot be written."""
    require_folder(path, "--save")
    require_reachable(_part(path), "--save")  # where it is written first
    if path.is_dir() and any(path.iterdir()):
        raise RunFolderError(f"--save {path} is there already and is not empty; name a new folder.")
    require_no_remains(path)


def require_no_remains(path: Path) -> None:
    """Raises RunFolderError if a process was killed while it wrote an ensemble to this folder."""
    if _part(path).exists():
        raise RunFolderError(
            f"{_part(path)} was left behind by a process that was stopped, unless another one is writing it: "
            f"remove it (rm -r {shlex.quote(str(_part(path)))}), or name another folder."
        )


def _part(path: Path) -> Path:
    """Where an ensemble is written before the folder is renamed to `path`."""
    return path.resolve().with_name(path.resolve().name + ".part")


def is_saved(
    path: Path,
    method: str,
    ensemble: Ensemble,
    candidates: Sequence[Candidate],
    soup: nn.Module | None = None,
) -> bool:
    """Whether the folder holds this ensemble, with the same early exit; fitted weights are not compared.

    Args:
        soup: the model, if the ensemble is a soup.

    Raises:
        RunFolderError: there is no ensemble, or its files are altered.
    """
    manifest = EnsembleFolder(path).read_manifest()
    if soup is not None:
        same = [member.name for member in manifest.members] == [_soup_name(ensemble, candidates)]
        same = same and _has_weights(path / manifest.members[0].file, soup)
    else:
        used = [candidates[number].member.sha256 for number in ensemble.combination.used]
        same = [member.sha256 for member in manifest.members] == used
    exits = [
        ensemble.combination.of_used().early_exit,
        Combination.from_dict(manifest.combination.model_dump()).early_exit,
    ]
    return same and manifest.method == method and _are_alike(*exits)


def _are_alike(one: EarlyExit | None, other: EarlyExit | None) -> bool:
    """Whether both are None, or the same exit up to rounding, as machines differ."""
    if one is None or other is None:
        return one is other
    return one.member == other.member and math.isclose(one.certainty, other.certainty, rel_tol=1e-5)


def _has_weights(path: Path, model: nn.Module) -> bool:
    """Whether a file has the values of a model up to rounding, as machines differ."""
    saved, own = load_file(path), {key: value.cpu() for key, value in model.state_dict().items()}
    return saved.keys() == own.keys() and all(
        saved[key].shape == value.shape and torch.allclose(saved[key], value, rtol=1e-3, atol=1e-5)
        for key, value in own.items()
    )


def _soup_name(ensemble: Ensemble, candidates: Sequence[Candidate]) -> str:
    names = distinct_names(candidates)
    return f"soup of {', '.join(names[number] for number in ensemble.soup)}"


def save_ensemble(
    path: Path,
    method: str,
    ensemble: Ensemble,
    scores: dict[str, float],
    candidates: Sequence[Candidate],
    overrides: Sequence[str],
    soup: nn.Module | None = None,
    data: DataIdentity | None = None,
) -> None:
    """Write the whole folder, or nothing; members without weight are left out.

    Args:
        path: new or empty.
        candidates: all members, in the order that `ensemble` numbers them.
        scores: the metrics of the ensemble; empty if it was not scored.
        overrides: applied to the members' recipes when `scores` were computed.
        soup: the model, if the ensemble is a soup.
        data: what it was trained and scored on; None: the data of its first member.

    Raises:
        RunFolderError: the folder is not empty.
        DiskError: the disk refuses a file.
    """
    require_unused(path)
    first = candidates[0].manifest
    part = EnsembleFolder(_part(path))
    try:
        with naming_disk_errors(path, "Then repeat the command."):
            part.members.mkdir(parents=True)
            members, combination = _write_members(part, ensemble, candidates, overrides, soup)
            manifest = EnsembleManifest(
                name=path.name,
                code_version=__version__,
                method=method,
                class_names=first.class_names,
                palette=first.palette,
                data=data or first.data,
                members=members,
                combination=CombinationValues.model_validate(combination.to_dict()),
                scores=scores,
            )
            part.write_manifest(manifest)
            part.path.replace(path.resolve())
    finally:
        shutil.rmtree(part.path, ignore_errors=True)


def _write_members(
    folder: EnsembleFolder,
    ensemble: Ensemble,
    candidates: Sequence[Candidate],
    overrides: Sequence[str],
    soup: nn.Module | None,
) -> tuple[list[EnsembleMember], Combination]:
    """The entries of the members with weight, and the combination of these alone."""
    names = distinct_names(candidates)
    if soup is not None:
        averaged = [candidates[number] for number in ensemble.soup]
        name = _soup_name(ensemble, candidates)
        file = folder.members / "soup.safetensors"
        tensors = soup.state_dict().items()  # copied, as safetensors refuses those that share memory
        save_tensors(file, {key: value.cpu().clone().contiguous() for key, value in tensors})
        origins = [candidate.manifest.weights for candidate in averaged]
        return [_member(folder, name, file, averaged[0], overrides, _origin(origins))], Combination.mean(1)
    members: list[EnsembleMember] = []
    for number in ensemble.combination.used:
        candidate = candidates[number]
        file = folder.members / f"{number}-{candidate.run.path.resolve().name}-{candidate.path.name}"
        shutil.copyfile(candidate.path, file)
        origin = candidate.manifest.weights
        members.append(_member(folder, names[number], file, candidate, overrides, origin))
    return members, ensemble.combination.of_used()


def _member(
    folder: EnsembleFolder,
    name: str,
    file: Path,
    candidate: Candidate,
    overrides: Sequence[str],
    weights: dict[str, object] | None,
) -> EnsembleMember:
    recipe = file.with_suffix(".yaml")
    write_text(recipe, load_recipe(candidate.run.recipe, overrides, imports=False).to_yaml())
    return EnsembleMember(
        name=name,
        file=str(file.relative_to(folder.path)),
        recipe=str(recipe.relative_to(folder.path)),
        sha256=sha256_of(file),
        recipe_sha256=sha256_of(recipe),
        weights=weights,
        thresholds=candidate.member.thresholds,
    )


def _origin(origins: Sequence[dict[str, object] | None]) -> dict[str, object] | None:
    """The pretrained weights of the members of a soup, with every source and every licence."""
    known = [origin for origin in origins if origin]
    if not known:
        return None
    if all(origin == known[0] for origin in known):
        return known[0]
    return {
        key: "; ".join(dict.fromkeys(str(origin.get(key)) for origin in known))
        for key in ("source", "licence")
    }
