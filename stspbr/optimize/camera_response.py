"""What a camera makes of radiance: exposure and white balance per view, vignetting, and a tone curve per camera.

A pixel of the photograph, linear behind the sRGB curve, is y = f(E) with E = gain(view, channel) · vignetting(r) ·
radiance. The curve f is monotone from 0 to 1 over E in [0, 1]; it goes on in a straight line above, so that what is
brighter than white still has a gradient. In between it is a spline in sRGB-encoded values whose slope is positive and
piecewise linear: with all slopes equal it is the identity, which is what an 8-bit file is taken for without a model.

Radiance and gains are known up to a common factor per channel: the mean of the views' logarithmic gains is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stspbr.errors import StspbrError, first_line
from stspbr.optimize.routing import STRICT_A, Term
from stspbr.scene import Camera, Frame
from stspbr.settings.camera import ResponseSettings

_FEWEST = 5  # views of a camera with a curve of its own: fewer share one
_AT_ONCE = 2**20  # pixels of a view that are worked on together
_INSIDE = 0.999  # coverage of pixels that show nothing else
NEARLY_WHITE = 0.95
"""Share of white from which a pixel says no more than that it is bright: clipped, then blurred, sharpened or coded."""


@dataclass
class PixelPlaces:
    """Where N pixels were photographed.

    Attributes:
        view: ``[N]`` int64. offset2: ``[N, 1]`` squared tangent of the angle between a pixel's ray and the optical
            axis, which cropping and scaling leave as it is.
    """

    view: Tensor
    offset2: Tensor

    def at(self, index: Tensor) -> PixelPlaces:
        """The pixels ``index`` ``[M]`` int64."""
        return PixelPlaces(self.view.index_select(0, index), self.offset2.index_select(0, index))


class CameraResponse(nn.Module):
    """The response of the cameras that took V views.

    Args:
        names, stated: of the views, and what their images were divided by (``Frame.divided_by``), ``[V, 3]``: that is
            multiplied again before the curve, and divided out after it.
        camera: ``[V]`` the camera of each view; keys: of the cameras, see ``camera_key``.
        farthest2: the largest ``offsets2`` of all views.
        settings: which parts are fitted, and how strongly each is held.

    Attributes:
        log_gains: ``[V, 3]`` natural logarithms, beside those that the capture states.
        log_slopes: ``[C, K + 1]`` of the curves' slopes at even knots; log_falloff: ``[C, 2]`` of the factors of r² and
            r⁴ in the logarithm of the vignetting, r = 1 at the farthest corner of all views.
    """

    stated: Tensor
    camera: Tensor

    def __init__(
        self,
        names: Sequence[str],
        stated: Sequence[Sequence[float]],
        camera: Sequence[int],
        keys: Sequence[tuple[float, float]],
        farthest2: float,
        settings: ResponseSettings,
    ) -> None:
        super().__init__()
        self.names, self.keys, self.farthest2 = list(names), [(key[0], key[1]) for key in keys], farthest2
        self.settings = settings
        self.register_buffer("stated", torch.tensor(stated, dtype=torch.float32))
        self.register_buffer("camera", torch.tensor(camera, dtype=torch.int64))
        self.log_gains = nn.Parameter(torch.zeros(len(self.names), 3), requires_grad=settings.exposure)
        self.log_slopes = nn.Parameter(torch.zeros(len(self.keys), settings.knots + 1), requires_grad=settings.curve)
        self.log_falloff = nn.Parameter(torch.zeros(len(self.keys), 2), requires_grad=settings.vignetting)

    @classmethod
    def of(cls, frames: Sequence[Frame], settings: ResponseSettings) -> CameraResponse:
        """The response that the capture states, behind the sRGB curve, of the cameras that took ``frames``."""
        cameras = [frame.camera for frame in frames]
        owners, keys = camera_groups(cameras)
        stated = [_stated(frame) for frame in frames]
        return cls([frame.name for frame in frames], stated, owners, keys, max(map(_farthest2, cameras)), settings)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, exactly; the inverse is ``from_json``."""
        learned = {name: own.detach().cpu().double().tolist() for name, own in self.named_parameters()}
        stated, camera = self.stated.cpu().double().tolist(), self.camera.tolist()
        return {"names": self.names, "stated": stated, "camera": camera, "keys": [list(key) for key in self.keys],
                "farthest2": self.farthest2, **learned}  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any], settings: ResponseSettings) -> CameraResponse:
        """What ``to_json`` gave; StspbrError if it is not that."""
        try:
            own_settings = settings.model_copy(update={"knots": len(data["log_slopes"][0]) - 1})
            out = cls(data["names"], data["stated"], data["camera"], data["keys"], data["farthest2"], own_settings)
            for name, own in out.named_parameters():
                own.data.copy_(torch.tensor(data[name], dtype=torch.float64))
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise StspbrError(f"a camera's response is damaged ({first_line(error)}): run its stage again") from error
        return out

    def photographed(self, radiance: Tensor, places: PixelPlaces) -> Tensor:
        """``[N, 3]`` as the views hold it, of straight linear ``radiance`` ``[N, 3]`` ≥ 0."""
        camera, stated = self.camera[places.view], self.stated[places.view]
        exposed = radiance * (stated * self._gain(places, camera))
        return self._curved(exposed, camera) / stated

    def radiance(self, pixels: Tensor, places: PixelPlaces) -> Tensor:
        """The inverse of ``photographed``; at white and above it is a lower bound."""
        camera, stated = self.camera[places.view], self.stated[places.view]
        return self._uncurved(pixels * stated, camera) / (stated * self._gain(places, camera))

    @torch.no_grad()
    def of_view(self, frame: Frame, rendered: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """A render ``[H, W, 3]`` of a view, premultiplied by ``alpha`` ``[H, W, 1]``, as the view holds it.

        Exposure and white balance of a view that was not fitted are found on its own pixels: the factors per channel
        that make the sums of the render and of the photograph's radiance equal, over the pixels that both cover and
        that are not nearly white.
        """
        number = self.names.index(frame.name) if frame.name in self.names else None
        owner = nearest_camera(frame.camera, self.keys) if number is None else int(self.camera[number])
        stated = torch.tensor(_stated(frame), dtype=torch.float32, device=self.log_slopes.device)
        if number is None:
            gain = self._gain_of(frame.loaded(), stated, rendered, alpha, owner)
        else:
            gain = stated.double() * self.log_gains[number].exp().double()
        out = np.empty(rendered.shape, dtype=np.float32)
        for rows in _strips(frame.camera):
            straight, cover = self._straight(rendered[rows], alpha[rows])
            camera, falloff = self._across(frame.camera, rows, owner)
            shown = self._curved(straight * falloff * gain.float(), camera) / stated * cover
            out[rows] = shown.reshape(out[rows].shape).cpu().numpy()
        return out

    def curve(self, camera: int, exposure: Tensor) -> Tensor:
        """Linear values behind the sRGB curve, of ``exposure`` (any shape, ≥ 0; 1 is white) by one camera."""
        flat = exposure.reshape(-1, 1)
        owner = torch.full((len(flat),), camera, dtype=torch.int64, device=exposure.device)
        return self._curved(flat, owner).reshape(exposure.shape)

    def regularizers(self) -> list[Term]:
        """What holds each part near what the capture states and near the sRGB curve."""
        own, gains = self.settings, self.log_gains
        grey = gains.mean(dim=1, keepdim=True)
        value = own.exposure_prior * grey.square().mean() + own.balance_prior * (gains - grey).square().mean()
        bends = self.log_slopes[:, 2:] - 2.0 * self.log_slopes[:, 1:-1] + self.log_slopes[:, :-2]
        value = value + own.curve_prior * (self.log_slopes.square().mean() + 4.0 * bends.square().mean())
        value = value + own.vignetting_prior * self.log_falloff.square().mean()
        return [Term("response", value, STRICT_A, closed=True)] if value.requires_grad else []

    @torch.no_grad()
    def constrain(self) -> None:
        """Fix what the images leave open: the common gain, and the slopes' common factor."""
        for learned, over in ((self.log_gains, 0), (self.log_slopes, 1)):
            learned.sub_(learned.mean(dim=over, keepdim=True))

    @torch.no_grad()
    def facts(self) -> dict[str, object]:
        """Plain numbers for ``metrics.json``: gains in stops, and each camera's curve and vignetting."""
        exposures = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9], device=self.log_slopes.device)
        corner = self.log_falloff.sum(dim=1).exp().tolist()
        return {
            "cameras": len(self.log_slopes),
            "exposure_stops": (self.log_gains.mean(dim=1) / np.log(2.0)).tolist(),
            "white_balance": (self.log_gains - self.log_gains.mean(dim=1, keepdim=True)).exp().tolist(),
            "curve": {
                "exposure": exposures.tolist(),
                "linear": [self.curve(k, exposures).tolist() for k in range(len(self.log_slopes))],
            },
            "vignetting_at_corner": corner,
        }

    def _gain_of(self, own: Frame, stated: Tensor, rendered: np.ndarray, alpha: np.ndarray, owner: int) -> Tensor:
        """``[3]`` float64: the factors with which a render sums up to the photograph's radiance."""
        sums = torch.zeros(2, 3, dtype=torch.float64, device=stated.device)
        for rows in _strips(own.camera):
            straight, cover = self._straight(rendered[rows], alpha[rows])
            pixels, mask = self._straight(own.image[rows], own.alpha[rows])
            pixels = pixels * stated
            camera, falloff = self._across(own.camera, rows, owner)
            exposed = self._uncurved(pixels, camera) / falloff
            good = (torch.minimum(mask, cover) > _INSIDE) & (pixels < NEARLY_WHITE) & (straight > 0)
            sums += torch.stack([torch.where(good, v, 0.0).double().sum(dim=0) for v in (exposed, straight)])
        return torch.where((sums > 0).all(dim=0), sums[0] / sums[1].clamp(min=1e-12), stated.double())

    def _straight(self, image: np.ndarray, alpha: np.ndarray) -> tuple[Tensor, Tensor]:
        """``[N, 3]`` pixels that are not premultiplied, and ``[N, 1]`` coverage."""
        cover = torch.as_tensor(alpha, device=self.log_slopes.device).reshape(-1, 1)
        return torch.as_tensor(image, device=cover.device).reshape(-1, 3) / cover.clamp(min=1e-6), cover

    def _across(self, camera: Camera, rows: slice, owner: int) -> tuple[Tensor, Tensor]:
        """The camera ``owner`` of each pixel in some rows of a view ``[N]``, and its vignetting there ``[N, 1]``."""
        places = torch.as_tensor(offsets2(camera, rows), device=self.log_slopes.device).reshape(-1, 1)
        owners = torch.full((len(places),), owner, dtype=torch.int64, device=places.device)
        return owners, self._falloff(places, owners)

    def _gain(self, places: PixelPlaces, camera: Tensor) -> Tensor:
        return self.log_gains[places.view].exp() * self._falloff(places.offset2, camera)

    def _falloff(self, offset2: Tensor, camera: Tensor) -> Tensor:
        radius2, own = offset2 / self.farthest2, self.log_falloff[camera]
        return (own[:, :1] * radius2 + own[:, 1:] * radius2.square()).exp()

    def _pieces(self) -> tuple[Tensor, Tensor]:
        """Slopes ``[C, K + 1]`` of curves through (0, 0) and (1, 1), and their values at the knots."""
        slopes = self.log_slopes.exp()
        steps = 0.5 * (slopes[:, 1:] + slopes[:, :-1]) / (slopes.shape[1] - 1)
        values = torch.nn.functional.pad(steps.cumsum(dim=1), (1, 0))
        return slopes / values[:, -1:], values / values[:, -1:]

    def _curved(self, exposed: Tensor, camera: Tensor) -> Tensor:
        slopes, values = self._pieces()
        count = slopes.shape[1] - 1
        x = _encoded(exposed) * count
        place = x.detach().floor().clamp(0, count - 1).long()
        part = x - place
        first = camera[:, None] * (count + 1) + place
        low, high, start = slopes.take(first), slopes.take(first + 1), values.take(first)
        inside = start + part * (low + 0.5 * (high - low) * part) / count
        beyond = 1.0 + (part - 1.0) * high / count
        return _decoded(torch.where(x <= count, inside, beyond))

    def _uncurved(self, pixels: Tensor, camera: Tensor) -> Tensor:
        slopes, values = self._pieces()
        count = slopes.shape[1] - 1
        v = _encoded(pixels)
        rows = values[camera].contiguous()
        place = (torch.searchsorted(rows, v.detach().contiguous(), right=True) - 1).clamp(0, count - 1)
        first = camera[:, None] * (count + 1) + place
        low, high, start = slopes.take(first), slopes.take(first + 1), values.take(first)
        rest = (v - start) * count
        root = (low.square() + 2.0 * (high - low) * rest).clamp(min=1e-12).sqrt()
        inside, beyond = 2.0 * rest / (low + root), 1.0 + (v - 1.0) * count / high
        return _decoded((place + torch.where(v <= 1.0, inside, beyond)) / count)


def camera_key(camera: Camera) -> tuple[float, float]:
    """What tells cameras apart: the focal lengths in the image's longer side."""
    side = max(camera.width, camera.height)
    return round(camera.fx / side, 4), round(camera.fy / side, 4)


def camera_groups(cameras: Sequence[Camera]) -> tuple[list[int], list[tuple[float, float]]]:
    """The number of the camera of each view, and the cameras' keys; cameras with few views are one, the last."""
    keys = [camera_key(camera) for camera in cameras]
    counts = Counter(keys)
    own = [key for key in counts if counts[key] >= _FEWEST]
    rest = [key for key in keys if key not in own]
    owners = [own.index(key) if key in own else len(own) for key in keys]
    return owners, own + ([tuple(np.median(rest, axis=0).tolist())] if rest else [])


def nearest_camera(camera: Camera, keys: Sequence[tuple[float, float]]) -> int:
    """The place in ``keys`` of the one that is nearest to that of ``camera``."""
    return int(np.abs(np.array(keys) - np.array(camera_key(camera))).sum(axis=1).argmin())


def offsets2(camera: Camera, rows: slice = slice(None)) -> np.ndarray:
    """``[H, W]`` float32: ``PixelPlaces.offset2`` of a camera's pixels, or of those in some ``rows``."""
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height)[rows] + 0.5 - camera.cy) / camera.fy
    return (x[None, :] ** 2 + y[:, None] ** 2).astype(np.float32)


def _strips(camera: Camera) -> list[slice]:
    """The rows of a view, in parts of ``_AT_ONCE`` pixels: a large view would take gigabytes."""
    height = max(1, _AT_ONCE // camera.width)
    return [slice(start, start + height) for start in range(0, camera.height, height)]


def _stated(frame: Frame) -> tuple[float, float, float]:
    return frame.divided_by or (1.0, 1.0, 1.0)


def _farthest2(camera: Camera) -> float:
    x = max(camera.cx, camera.width - camera.cx) / camera.fx
    y = max(camera.cy, camera.height - camera.cy) / camera.fy
    return float(x * x + y * y)


def _encoded(linear: Tensor) -> Tensor:
    """sRGB-encoded values of linear ones ≥ 0, without an upper end."""
    curve = 1.055 * linear.clamp(min=0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curve, 12.92 * linear)


def _decoded(encoded: Tensor) -> Tensor:
    """The inverse of ``_encoded``."""
    curve = ((encoded.clamp(min=0.04045) + 0.055) / 1.055).pow(2.4)
    return torch.where(encoded > 0.04045, curve, encoded / 12.92)
