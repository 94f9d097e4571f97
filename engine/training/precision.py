"""fp32, bf16 or fp16: the autocast context of a forward pass, and the scaler of a loss."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """`name` is fp32, bf16 or fp16."""

    name: str
    device_type: str

    @classmethod
    def choose(cls, wish: str, device: torch.device) -> "Precision":
        """`auto` is bf16 on a GPU that supports it, fp16 on an older one, and fp32 on the CPU."""
        if wish == "auto" and device.type == "cuda":
            wish = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        elif wish == "auto":
            wish = "fp32"
        return cls(wish, device.type)

    def autocast(self) -> AbstractContextManager[object]:
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device_type, DTYPES[self.name])

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss for fp16 only."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")

    def skipping_scaler(self) -> torch.amp.GradScaler:
        """One that skips an update with NaN or infinite gradients at any precision.

        With a fused optimiser, torch's scaler does so without waiting for the device. Without fp16 its scale
        starts at 1 and only halves, which changes no bit of a gradient.
        """
        if self.name == "fp16":
            return self.scaler()
        return torch.amp.GradScaler(self.device_type, init_scale=1.0, growth_interval=1 << 30)
