"""What is chosen for files that can be read in more than one way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileChoices:
    """How the images and masks of a capture are read.

    Attributes:
        layer: the part, layer or view of EXR images to read; None: the beauty, see :mod:`stspbr.formats.exr`.
        mask_label: what is the object in masks of labels: ``"1"``, ``"1,2"``, a colour ``"#00ff00"``, or ``"all"``.
        invert_masks: masks are 0 on the object.
    """

    layer: str | None = None
    mask_label: str | None = None
    invert_masks: bool = False


USUAL = FileChoices()
