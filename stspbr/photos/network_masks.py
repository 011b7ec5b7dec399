"""Masks by a segmentation network that the user has: an ONNX file as rembg keeps them, read by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError, first_line, missing_extra
from stspbr.photos.grabcut import cleaned, require_opencv

_SIDE = 320  # pixels of the network's input, where the file leaves it open
_MEAN, _DEVIATION = (
    np.array([0.485, 0.456, 0.406]),
    np.array([0.229, 0.224, 0.225]),
)  # of ImageNet's photos, as is usual


class MaskNetwork:
    """A network from a picture ``[1, 3, S, S]`` (RGB, brought to the mean and deviation of ImageNet) to one map.

    Raises:
        StspbrError: onnxruntime is missing, there is no such file, or the network takes or gives something else.
    """

    def __init__(self, file: str | Path, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise missing_extra("onnxruntime", "masks", "masks by a network (--mask rembg)") from None
        self.file = Path(file)
        if not self.file.is_file():
            raise StspbrError(f"--mask-model {file}: no such file; give a segmentation network, e.g. u2net.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        try:
            self._session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            (given,) = self._session.get_inputs()
        except Exception as error:  # of onnxruntime's own kinds, which have no common base
            raise StspbrError(f"--mask-model {file}: not a network of one picture ({first_line(error)})") from error
        self._name, shape = given.name, given.shape
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            raise StspbrError(f"--mask-model {file}: it takes {shape}, not a picture of [1, 3, S, S]")
        self._size = tuple(side if isinstance(side, int) and side > 0 else _SIDE for side in shape[2:])

    def mask(self, image: np.ndarray) -> np.ndarray:
        """``[H, W]`` bool of an 8-bit sRGB image ``[H, W, 3]``."""
        cv2 = require_opencv()
        height, width = self._size
        small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.float64) / 255.0
        given = np.ascontiguousarray(((small - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None], np.float32)
        try:
            out = np.asarray(self._session.run(None, {self._name: given})[0], np.float32)
        except Exception as error:
            raise StspbrError(f"--mask-model {self.file}: it failed ({first_line(error)})") from error
        if out.ndim not in (3, 4) or out.shape[0] != 1 or (out.ndim == 4 and out.shape[1] != 1):
            raise StspbrError(f"--mask-model {self.file}: it gives {list(out.shape)}, not one map of [1, 1, S, S]")
        found: np.ndarray = out.reshape(out.shape[-2:])
        if found.min() < 0.0 or found.max() > 1.0:  # logits
            found = 1.0 / (1.0 + np.exp(-np.clip(found, -30.0, 30.0)))
        whole = cv2.resize(found, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return cleaned(whole > 0.5)
