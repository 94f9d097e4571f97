"""The folder around the runs of a recipe with stages."""

from pathlib import Path

from engine.run_folder.files import RunFolderError, read_json

STAGES = "stages.json"  # in that folder: the names of the stages in their order, and their values


def last_stage(path: Path) -> Path:
    """The folder of the last stage that has kept a checkpoint; `path` itself where it is not of stages.

    Raises:
        RunFolderError: its stages.json is damaged.
    """
    if not (path / STAGES).is_file() or (path / "manifest.json").exists():
        return path
    names = stage_names(path)
    kept = [path / name for name in names if any((path / name / "top").glob("*.safetensors"))]
    return kept[-1] if kept else path / names[0]


def stage_names(path: Path) -> list[str]:
    """The names in the stages.json of a folder, in their order.

    Raises:
        RunFolderError: it is damaged, or a name leaves the folder.
    """
    try:
        names = [stage["name"] for stage in read_json(path / STAGES, keys=("stages",))["stages"]]
        if names and all(name == Path(name).name and name not in ("", "..") for name in names):
            return names
    except (KeyError, TypeError):
        pass
    raise RunFolderError(f"{path / STAGES} is damaged. Name the folder of one stage, below {path}.")
