"""SHA-256 of tensors and what is saved beside them, to recognise a file that was altered."""

import hashlib

import torch
from torch import Tensor


def digest(tensors: dict[str, Tensor], header: str) -> str:
    """The SHA-256, as hex, of a header and of the names, types, shapes and bytes of tensors."""
    sha256 = hashlib.sha256(header.encode())
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        sha256.update(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()
