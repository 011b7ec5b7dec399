"""Depth of an object's surface in each of its photographs: what lies where if neighbouring photographs show it, too.

From every pixel of a view, points are tried along its ray, from where the ray enters the visual hull inwards. Around
each, a small patch that is parallel to the hull is looked up in neighbouring views and compared by normalised cross
correlation, which exposure and white balance do not change. A depth counts if the correlation is high, if no other
depth has nearly as high a one, and if another view's depths agree with it. What is smooth, or shines, has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, normalize, pad

from stspbr.colour import linear_to_srgb, luminance_of
from stspbr.scene import Camera, Frame
from stspbr.scene.capture import WHOLLY_KNOWN

_SIDE = 512  # pixels along the longer side of a view, at most
_MOST_VIEWS = 48  # that get depths
_MARGIN = 8  # pixels about the object
_PATCH = 7  # pixels along the side of a patch
_NEIGHBOURS = 4
_ANGLES = (4.0, 45.0)  # degrees between the lines of sight of neighbours
_BEST_ANGLE = 18.0
_MOST_DEPTHS = 56
_AT_ONCE = 8  # depths: what is held in memory
_STEP = 0.75  # pixels in a neighbour between two depths
_DEEPEST = 0.4  # below the hull, as a fraction of the hull's diagonal
_MARCH = 96  # samples along a ray that look for the hull
_LEAST_SCORE = 0.6
_AMBIGUOUS = 0.04  # lead over the best score elsewhere on the ray
_ELSEWHERE = 3  # steps that are not elsewhere
_LEAST_CONTRAST = 0.015  # standard deviation of a patch, sRGB-encoded
_AGREE, _WITNESSES = 1.5, 2  # steps that two views' depths may differ, and the neighbours that must agree with a depth
_AROUND, _SMOOTH, _SUPPORT = 5, 3.0, 0.4  # pixels, steps, and the share of the pixels about one that must be as far
_FILLED = 0.6  # share of a patch that both views must show


@dataclass(frozen=True)
class Volume:
    """Values on a regular lattice ``[Z, Y, X]`` that spans the box from ``low`` to ``high`` ``[3]``, object units."""

    values: Tensor
    low: Tensor
    high: Tensor

    def at(self, points: Tensor) -> Tensor:
        """Trilinear values at ``points`` ``[..., 3]``; beyond the box those of its border."""
        place = (points - self.low) / (self.high - self.low) * 2.0 - 1.0
        found = grid_sample(
            self.values[None, None], place.reshape(1, 1, 1, -1, 3), align_corners=True, padding_mode="border"
        )
        return found.reshape(points.shape[:-1])

    def points(self) -> Tensor:
        """``[Z, Y, X, 3]`` places of the values."""
        axes = [
            torch.linspace(float(self.low[k]), float(self.high[k]), count)
            for k, count in zip((2, 1, 0), self.values.shape, strict=True)
        ]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        return torch.stack([x, y, z], dim=-1)


@dataclass(frozen=True)
class View:
    """One photograph, cut to the object.

    Attributes:
        camera: of the cut; from_object: ``[4, 4]`` float32, object to camera, OpenGL axes.
        pixels: ``[1, 2, H, W]``: sRGB-encoded brightness, and 1 where it shows the object.
        depth: ``[H, W]`` along the optical axis, NaN where not known; step: ``[H, W]`` between two depths tried.
    """

    camera: Camera
    from_object: Tensor
    pixels: Tensor
    depth: Tensor
    step: Tensor

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel coordinates ``[..., 2]`` (centre of the first: 0.5) and depth ``[...]`` of ``points`` ``[..., 3]``."""
        local = points @ self.from_object[:3, :3].T + self.from_object[:3, 3]
        depth = -local[..., 2]
        safe = depth.clamp(min=1e-6)
        c = self.camera
        return torch.stack([c.cx + c.fx * local[..., 0] / safe, c.cy - c.fy * local[..., 1] / safe], dim=-1), depth

    def looked_up(self, image: Tensor, pixels: Tensor) -> Tensor:
        """The values of ``image`` ``[H, W]`` in the pixels that ``pixels`` ``[..., 2]`` fall in; NaN outside."""
        height, width = image.shape
        column, row = pixels[..., 0].floor(), pixels[..., 1].floor()
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        return torch.where(inside, image.reshape(-1)[index.long()], math.nan)

    def at_depth(self, depth: Tensor) -> Tensor:
        """Points ``[..., H, W, 3]`` in object space at ``depth`` ``[..., H, W]``."""
        c = self.camera
        x = ((torch.arange(c.width) + 0.5 - c.cx) / c.fx).expand(c.height, -1)
        y = (-(torch.arange(c.height) + 0.5 - c.cy) / c.fy)[:, None].expand(-1, c.width)
        local = torch.stack([x, y, -torch.ones_like(x)], dim=-1) * depth[..., None]
        return (local - self.from_object[:3, 3]) @ self.from_object[:3, :3]


@torch.no_grad()
def depth_views(frames: Sequence[Frame], hull: Volume) -> list[View]:
    """The views, of at most 48 frames, with the depths that they agree on.

    Args:
        frames: photographs of one object; its masks and poses are taken as they are.
        hull: signed distance to the visual hull in a box around the object, negative inside.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _MOST_VIEWS)).round().astype(int))
    views = [view for number in chosen if (view := _view(frames[number])) is not None]
    inside = hull.points()[hull.values < 0]
    if not len(inside) or len(views) < 2:
        return views
    centre = torch.from_numpy(inside.numpy().mean(axis=0))  # in one order for any number of threads
    deepest = _DEEPEST * float((inside.amax(dim=0) - inside.amin(dim=0)).norm())
    near = [_neighbours(number, views, centre) for number in range(len(views))]
    found = [
        _swept(view, [views[k] for k in own], hull, centre, deepest) for view, own in zip(views, near, strict=True)
    ]
    return [replace(view, depth=_agreed(view, [found[k] for k in own])) for view, own in zip(found, near, strict=True)]


def _view(frame: Frame) -> View | None:
    """A frame reduced and cut to its object; None if it shows none."""
    scale = -(-max(frame.camera.width, frame.camera.height) // _SIDE)
    image, alpha = (np.asarray(values) for values in frame.reduced(scale))
    known = frame.known_reduced(scale)
    shown = alpha[..., 0] > 0.99
    if known is not None:
        shown &= known[..., 0] >= WHOLLY_KNOWN
    if not shown.any():
        return None
    height, width = shown.shape
    camera = frame.camera.resampled((0, 0, width * scale, height * scale), (width, height))
    rows, columns = (np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - _MARGIN, 0), max(columns[0] - _MARGIN, 0)
    part = np.s_[top : rows[-1] + 1 + _MARGIN, left : columns[-1] + 1 + _MARGIN]
    shown, image = shown[part], image[part]
    height, width = shown.shape
    camera = camera.resampled((left, top, width, height), (width, height))
    bright = linear_to_srgb(np.clip(luminance_of(torch.from_numpy(np.ascontiguousarray(image))).numpy(), 0.0, 1.0))
    pixels = torch.from_numpy(np.stack([np.where(shown, bright, 0.0), shown]).astype(np.float32))[None]
    pose = camera.world_to_camera @ np.asarray(frame.object_to_world, np.float64)
    nothing = torch.full((height, width), math.nan)
    return View(camera, torch.from_numpy(pose.astype(np.float32)), pixels, nothing, nothing)


def _eye(view: View) -> Tensor:
    return -view.from_object[:3, :3].T @ view.from_object[:3, 3]


def _angle(one: View, other: View, centre: Tensor) -> float:
    """Degrees between the lines of sight of two views at ``centre``."""
    a, b = (normalize(_eye(view) - centre, dim=0) for view in (one, other))
    return math.degrees(math.acos(max(-1.0, min(1.0, float(a @ b)))))


def _neighbours(number: int, views: Sequence[View], centre: Tensor) -> list[int]:
    """The views that see the same from a little aside, those at the best angle first."""
    angles = {k: _angle(views[number], view, centre) for k, view in enumerate(views) if k != number}
    usable = [k for k, angle in angles.items() if _ANGLES[0] <= angle <= _ANGLES[1]]
    return sorted(usable, key=lambda k: abs(math.log(angles[k] / _BEST_ANGLE)))[:_NEIGHBOURS]


def _swept(view: View, neighbours: Sequence[View], hull: Volume, centre: Tensor, deepest: float) -> View:
    """``view`` with the depths that its neighbours speak for."""
    if not neighbours:
        return view
    entry = _entry(view, hull)
    angle = math.radians(float(np.median([_angle(view, other, centre) for other in neighbours])))
    unit = entry * (_STEP / view.camera.fx / math.tan(angle))
    count = int(min(_MOST_DEPTHS, math.ceil(deepest / max(float(unit.nanmedian()), 1e-9))))
    step = torch.maximum(unit, torch.as_tensor(deepest / _MOST_DEPTHS))
    depths = entry + step * torch.arange(-2, count)[:, None, None]
    best = torch.cat([_scores(view, neighbours, hull, part, step) for part in depths.split(_AT_ONCE)])
    top, where = best.max(dim=0)
    number = torch.arange(len(best))[:, None, None]
    others = torch.where((number - where).abs() > _ELSEWHERE, best, -1.0).amax(dim=0)
    shift = _peak(best, where)
    depth = torch.gather(depths, 0, where[None])[0] + shift * step
    sure = (top >= _LEAST_SCORE) & (top - others >= _AMBIGUOUS) & (view.pixels[0, 1] > 0)
    return replace(view, depth=torch.where(sure, depth, math.nan), step=step)


def _scores(view: View, neighbours: Sequence[View], hull: Volume, depths: Tensor, step: Tensor) -> Tensor:
    """``[K, H, W]`` how well the best two neighbours show what ``view`` shows at ``depths`` ``[K, H, W]``; −1: not."""
    points = view.at_depth(depths)
    scores = torch.stack([_correlation(view, other, points) for other in neighbours])
    best = scores.topk(min(2, len(neighbours)), dim=0).values.mean(dim=0)
    return torch.where(hull.at(points) < step, best, -1.0).nan_to_num(-1.0)


def _entry(view: View, hull: Volume) -> Tensor:
    """``[H, W]`` depth at which each pixel's ray enters the hull; NaN if it does not."""
    corners = torch.cartesian_prod(*torch.stack([hull.low, hull.high], dim=1))
    _, reach = view.project(corners)
    steps = torch.linspace(max(float(reach.min()), view.camera.near), float(reach.max()), _MARCH)
    planes = steps[:, None, None].expand(-1, view.camera.height, view.camera.width)
    value = torch.cat([hull.at(view.at_depth(part)) for part in planes.split(_AT_ONCE)])
    inside = value < 0
    first = inside.int().argmax(dim=0)
    before = (first - 1).clamp(min=0)
    outer, inner = (torch.gather(value, 0, k[None])[0] for k in (before, first))
    share = (outer / (outer - inner).clamp(min=1e-9)).clamp(0.0, 1.0)
    depth = steps[before] + share * (steps[first] - steps[before])
    return torch.where(inside.any(dim=0), depth, math.nan)


def _correlation(view: View, other: View, points: Tensor) -> Tensor:
    """``[K, H, W]`` correlation of the patches of ``view`` with those of ``other`` at ``points``; −1 if not seen."""
    place, depth = other.project(points)
    size = place.new_tensor([other.camera.width, other.camera.height])
    place = (2.0 * place / size - 1.0).nan_to_num(-2.0)
    seen = grid_sample(other.pixels.expand(len(points), -1, -1, -1), place, align_corners=False)
    weight = (seen[:, 1:] > 0.99) * view.pixels[:, 1:] * (depth > 0)[:, None]
    own, found = view.pixels[:, :1] * weight, seen[:, :1] * weight
    sums = _boxes(torch.cat([weight, own, found, own * own, found * found, own * found], dim=1))
    share = sums[:, 0]
    a, b, aa, bb, ab = (sums[:, k] / share.clamp(min=1e-6) for k in range(1, 6))
    spread_a, spread_b = aa - a * a, bb - b * b
    least = _LEAST_CONTRAST**2
    usable = (share >= _FILLED) & (spread_a > least) & (spread_b > least)
    score = (ab - a * b) / (spread_a.clamp(min=least) * spread_b.clamp(min=least)).sqrt()
    return torch.where(usable, score, -1.0)


def _boxes(images: Tensor) -> Tensor:
    """Means over square patches of images ``[K, C, H, W]``."""
    half = _PATCH // 2
    rows = avg_pool2d(images, (_PATCH, 1), 1, (half, 0))
    return avg_pool2d(rows, (1, _PATCH), 1, (0, half))


def _peak(score: Tensor, where: Tensor) -> Tensor:
    """``[H, W]`` in steps, within ±½: the top of the parabola through the best score and those beside it."""
    last = len(score) - 1
    left, middle, right = (torch.gather(score, 0, (where + k).clamp(0, last)[None])[0] for k in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    inner = (where > 0) & (where < last) & (bend < -1e-6) & (left > -1.0) & (right > -1.0)
    return torch.where(inner, (0.5 * (left - right) / bend.clamp(max=-1e-6)).clamp(-0.5, 0.5), 0.0)


def _agreed(view: View, neighbours: Sequence[View]) -> Tensor:
    """The depths of ``view`` that two neighbours' depths at the same place agree with (one of two); NaN elsewhere."""
    points = view.at_depth(view.depth)
    agreed = torch.zeros_like(view.depth)
    for other in neighbours:
        place, depth = other.project(points)
        place = place.nan_to_num(-1.0)
        found, step = other.looked_up(other.depth, place), other.looked_up(other.step, place)
        agreed += (found - depth).abs() <= _AGREE * torch.maximum(view.step, step)
    needed = max(1, min(_WITNESSES, len(neighbours) - 1))
    return _supported(torch.where(agreed >= needed, view.depth, math.nan), view.step)


def _supported(depth: Tensor, step: Tensor) -> Tensor:
    """``depth`` ``[H, W]`` without the pixels that few around them are at the same depth with."""
    around = pad(depth[None, None], [_AROUND // 2] * 4, value=math.nan)[0, 0]
    around = around.unfold(0, _AROUND, 1).unfold(1, _AROUND, 1)
    count = ((around - depth[..., None, None]).abs() <= _SMOOTH * step[..., None, None]).sum(dim=(-1, -2))
    return torch.where(count >= _SUPPORT * _AROUND**2, depth, math.nan)
