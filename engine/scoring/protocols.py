"""Evaluation protocols: how an image is resized, padded, cropped or cut into windows for the model.

    native      the image unchanged; the model pads it where it needs to
    mmseg       resized to fit (2048, 512), ratio kept; logits go to that size, then to the original one
    paddle      padded with grey at the right and bottom to 512 x 512; larger sides are unchanged
    centercrop  the centre square, resized to 513 x 513; the rest is neither seen nor scored
    slide       windows; each is an image under `native`, and where they overlap they are averaged

Under each of them the sides of what the model sees can be rounded up to multiples, as in SegFormer's
evaluation on ADE20K (AlignResize in its code, ResizeToMultiple in MMSegmentation).

`mmseg` takes the rule and the rounding of mmcv.rescale_size and the two upsamplings of MMSegmentation's
EncoderDecoder; `paddle` the Padding of PaddleSeg's VOC recipe, which grey-pads before it normalises and
refuses larger images; `centercrop` the crop_val of the common PyTorch DeepLabV3+, but its labels are not
resized: original pixels are counted.

Shapes: (h, w) in pixels.
"""

from dataclasses import dataclass
from typing import NamedTuple

from engine.scoring.options import Eval

Size = tuple[int, int]
Span = tuple[int, int]  # from the first row or column to before the last

MMSEG_LONG_PX, MMSEG_SHORT_PX = 2048, 512
PADDLE_PX, PADDLE_GREY = 512, 127.5
CROP_PX = 513


class Rectangle(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> Span:
        return self.top, self.top + self.height

    @property
    def columns(self) -> Span:
        return self.left, self.left + self.width


@dataclass(frozen=True)
class View:
    """One input of the model made from an image.

    Args:
        box: the part of the image that the model sees, and that its logits describe.
        canvas: the size to which the box is padded with grey at the right and bottom.
        size: the size to which the canvas is then resized.
        antialias: of that resizing.
        mirrored: flipped horizontally before the model, and back after it.
        stops: intermediate sizes of the logits on their way back to the canvas.
    """

    box: Rectangle
    canvas: Size
    size: Size
    antialias: bool = True
    mirrored: bool = False
    stops: tuple[Size, ...] = ()

    @property
    def geometry(self) -> tuple[object, ...]:
        """Equal where logits describe the same places, mirrored or not: their mean commutes with resizing."""
        return self.box, self.canvas, self.size, self.stops


@dataclass(frozen=True)
class EvaluationProtocol:
    """A protocol with its settings; each view is taken at every scale and, with `flip`, also mirrored.

    Args:
        name: one of `engine.scoring.options.PROTOCOLS`.
        scales: factors of the size at which the model sees a view.
        flip: also take each view mirrored.
        average: what is averaged over views, "probability" or "logit".
        window_px, stride_px: of `slide`, in pixels of the original image.
        multiple: the sides of what the model sees are rounded up to multiples of this.
    """

    name: str = "native"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    average: str = "probability"
    window_px: int = 512
    stride_px: int = 384
    multiple: int = 1

    @classmethod
    def of(cls, section: Eval) -> "EvaluationProtocol":
        """From a recipe's `eval` section."""
        return cls(
            section.protocol,
            tuple(section.scales),
            section.flip,
            section.average,
            section.window,
            section.stride,
            section.multiple,
        )

    @property
    def is_whole(self) -> bool:
        """Whether all of an image is seen and scored."""
        return self.name != "centercrop"

    def region(self, h: int, w: int) -> Rectangle:
        """The part of an image that is scored: all of it, except under `centercrop`."""
        if self.is_whole:
            return Rectangle(0, 0, h, w)
        side = min(h, w)
        return Rectangle((h - side) // 2, (w - side) // 2, side, side)

    def views(self, h: int, w: int) -> list[View]:
        """All views of an image of this size. Together they cover its region."""
        boxes = (
            _windows(h, w, self.window_px, self.stride_px) if self.name == "slide" else [self.region(h, w)]
        )
        return [
            self._view(box, scale, mirrored)
            for box in boxes
            for scale in self.scales
            for mirrored in (False, True)[: 1 + self.flip]
        ]

    def card(self) -> dict[str, object]:
        """The settings that are reported with every score."""
        resize = {
            "mmseg": f"to fit {MMSEG_LONG_PX} x {MMSEG_SHORT_PX} px, ratio kept",
            "centercrop": f"centre square to {CROP_PX} x {CROP_PX} px",
        }
        is_paddle, slides = self.name == "paddle", self.name == "slide"
        resized = [resize[self.name]] if self.name in resize else []
        resized += [f"up to multiples of {self.multiple} px"] if self.multiple > 1 else []
        return {
            "name": self.name,
            "resize": ", then ".join(resized) or "none",
            "pad": f"grey to {PADDLE_PX} x {PADDLE_PX} px" if is_paddle else "inside the model",
            "window": f"{self.window_px} px, stride {self.stride_px} px" if slides else "none",
            "scales": list(self.scales),
            "flip": self.flip,
            "average": self.average,
            "resolution": "original",
            "whole_image": self.is_whole,
        }

    def _view(self, box: Rectangle, scale: float, mirrored: bool) -> View:
        own = box.height, box.width
        if self.name == "mmseg":
            factor = scale * min(MMSEG_LONG_PX / max(own), MMSEG_SHORT_PX / min(own))
            size = self._up((max(1, int(own[0] * factor + 0.5)), max(1, int(own[1] * factor + 0.5))))
            return View(box, own, size, antialias=False, mirrored=mirrored, stops=(size,))
        canvas = (max(PADDLE_PX, own[0]), max(PADDLE_PX, own[1])) if self.name == "paddle" else own
        seen = (CROP_PX, CROP_PX) if self.name == "centercrop" else canvas
        size = self._up((max(1, round(scale * seen[0])), max(1, round(scale * seen[1]))))
        return View(box, canvas, size, mirrored=mirrored)

    def _up(self, size: Size) -> Size:
        """The size with sides that are multiples."""
        h, w = (-(-side // self.multiple) * self.multiple for side in size)
        return h, w


def _windows(h: int, w: int, window_px: int, stride_px: int) -> list[Rectangle]:
    """The last window of a row or column is shifted inside, so that all are of one size."""
    height, width = min(window_px, h), min(window_px, w)
    return [
        Rectangle(top, left, height, width)
        for top in _starts(h, height, stride_px)
        for left in _starts(w, width, stride_px)
    ]


def _starts(length: int, window: int, stride: int) -> list[int]:
    return [*range(0, length - window, stride), length - window]
