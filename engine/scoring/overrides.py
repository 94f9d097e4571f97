"""Overrides of a finished run that change nothing of what a command does: they are named, and it goes on.

Scripts add the same overrides to every command, so they are not refused. Imports no torch.
"""

from collections.abc import Iterable, Sequence

from engine.data.formats import HELD_BY_PACKS

OF_A_TRAINING = ("data.sampler", "data.resident", "data.doctor", "data.unlabelled", "eval.every")
OF_WINDOWS = ("eval.window", "eval.stride")
PACKED = "a pack holds the splits and labels that it was written with"


def of_a_pack(keys: Iterable[str]) -> list[str]:
    """Those of some keys that the recipe of a pack may have, and that a pack ignores."""
    return [key for key in keys if any(key == one or key.startswith(f"{one}.") for one in HELD_BY_PACKS)]


def told_of_no_effect(
    overrides: Sequence[str], protocols: Sequence[str], without_data: str = "", data_format: str = ""
) -> list[str]:
    """A sentence for each key that has no effect on a score or a prediction.

    Args:
        protocols: under which images are predicted.
        without_data: why the data set of the recipe is not read; empty where it is.
        data_format: of the data set that is read.
    """
    keys = dict.fromkeys(text.partition("=")[0] for text in overrides)
    reasons = {key: _why(key, protocols, without_data) for key in keys}
    reasons |= dict.fromkeys(of_a_pack(keys) if data_format == "packed" else (), PACKED)
    return [f"{key} has no effect here: {why}." for key, why in reasons.items() if why]


def _why(key: str, protocols: Sequence[str], without_data: str) -> str:
    """Why a key has no effect; empty where it has one."""
    if any(key == one or key.startswith(f"{one}.") for one in OF_A_TRAINING):
        return "only a training uses it"
    if key in OF_WINDOWS and "slide" not in protocols:
        return f"it is for the protocol slide, and this is {protocols[0]}"
    is_unread = key.startswith("data.") and key != "data.range"
    return without_data if is_unread else ""
