"""The folder around the runs of a recipe with stages."""

from pathlib import Path
from typing import Any

from engine.going_on import STAGES
from engine.run_folder.files import RunFolderError, read_json


def last_stage(path: Path) -> Path:
    """The folder of the last stage that has kept a checkpoint; `path` itself where it is not of stages.

    Raises:
        RunFolderError: its stages.json is damaged.
    """
    if not (path / STAGES).is_file() or (path / "manifest.json").exists():
        return path
    names: list[str] = [stage["name"] for stage in read_stages(path)]
    kept = [path / name for name in names if any((path / name / "top").glob("*.safetensors"))]
    return kept[-1] if kept else path / names[0]


def read_stages(path: Path) -> list[dict[str, Any]]:
    """The stages in the stages.json of a folder, in their order: `name`, and `values` of the recipe by key.

    Raises:
        RunFolderError: it is damaged, or a name leaves the folder.
    """
    try:
        stages = list(read_json(path / STAGES, keys=("stages",))["stages"])
        is_intact = bool(stages) and all(_is_stage(stage) for stage in stages)
    except (RunFolderError, KeyError, TypeError):
        is_intact = False
    if not is_intact:
        raise RunFolderError(
            f"{path / STAGES} is damaged. Put the intact file back, or name one stage: stage=<its name> "
            f"where it is trained, elsewhere its folder below {path}."
        )
    return stages


def _is_stage(stage: Any) -> bool:
    """Raises KeyError or TypeError where it is something else."""
    name = stage["name"]
    return name == Path(name).name and name not in ("", "..") and isinstance(stage["values"], dict)
