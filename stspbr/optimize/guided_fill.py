"""Weak texels drawn towards confident neighbours, each channel of each texel by as much as it lacks.

The surface is cut into small pieces, and neighbouring pieces are linked. How much the material of neighbours differs is
measured where the views are sure; that is how much a link lets differ elsewhere. The pieces' means are then the best
linear estimate from all pieces, each with the precision that the photographs give it (a Gaussian Markov random field).
A texel ends between its own value and its pieces' mean, by their precisions: what is known stays, what the views never
saw is filled in from around it. Nothing is tuned: all weights are variances that the object itself shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from torch import Tensor

from stspbr.colour import luminance_of
from stspbr.fields.material_values import METALLIC, ROUGHNESS
from stspbr.optimize.evidence import SHADES
from stspbr.optimize.posterior import PRIOR_STD
from stspbr.texture.atlas import TexelMap

if TYPE_CHECKING:
    from stspbr.optimize.appearance import TextureAppearance
    from stspbr.optimize.reconstruction import Reconstruction

CHANNELS = {"roughness": (3,), "reflectance": (3, 4), "all": (0, 1, 2, 3, 4)}  # what is filled, of five parameters
_PIECES = 12_000  # about how many at most
_LINKS = 6  # of each piece
_SURE = 0.5  # confidence of a parameter from which its piece shows how much neighbours differ
_FEW = 30  # sure links below which nothing can be learned from them
_KNOWN = 4.0  # a texel that knows this many times what its pieces say stays as it is, bit for bit
_LEAST = 1e-3  # no material is believed to be more even than that
_COLOUR = 3.0  # how far apart colours put two pieces, in pieces
_READ = 3  # pieces whose means are blended at a texel


@dataclass
class _Texels:
    """T texels: places and unit normals ``[T, 3]``, material ``[T, 5]``, its precision ``[T, 5]`` by the views, and
    the number of their material ``[T]``."""

    position: np.ndarray
    normal: np.ndarray
    material: np.ndarray
    precision: np.ndarray
    owner: np.ndarray


@torch.no_grad()
def guided_fill(
    problem: Reconstruction, std: Sequence[Tensor], texels: Sequence[TexelMap | None], channels: str = "roughness"
) -> float:
    """Draw the weak texels of ``problem``'s maps towards their neighbours; return the share of texels that changed.

    Args:
        std: ``[H, W, 5]`` per material, of the posterior; texels: of the same sizes, which are those of the maps.
        channels: a key of ``CHANNELS``.
    """
    appearance: TextureAppearance = problem.appearance  # type: ignore[assignment]
    used = [k for k, own in enumerate(texels) if own is not None and _fits(appearance, k, own)]
    if not used:
        return 0.0
    found = [_texels(problem, k, std[k], texels[k]) for k in used]  # type: ignore[arg-type]
    names = ("position", "normal", "material", "precision", "owner")
    every = _Texels(*(np.concatenate([getattr(own, name) for own in found]) for name in names))
    parameters = CHANNELS[channels]
    material, changed = filled(every, parameters)
    start = 0
    low, high = appearance.roughness_range
    for k, own in zip(used, found, strict=True):
        rows = slice(start, start + len(own.owner))
        start = rows.stop
        place = texels[k].texel  # type: ignore[union-attr]
        values = torch.as_tensor(material[rows], dtype=torch.float32, device=place.device)
        touched = torch.nonzero(torch.as_tensor(changed[rows], device=place.device)).squeeze(1)
        place, values = place[touched], values[touched]
        maps = appearance.materials[k]
        reflectance = maps.reflectance[0].view(-1, maps.reflectance.shape[-1])
        if 0 in parameters:
            maps.albedo[0].view(-1, 3)[place] = values[:, :3].clamp(0.0, 1.0)
        if 3 in parameters:
            reflectance[place, ROUGHNESS.start] = values[:, 3].clamp(low, high)
        if 4 in parameters:
            reflectance[place, METALLIC.start] = values[:, 4].clamp(0.0, 1.0)
    return float(changed.mean())


def filled(texels: _Texels, parameters: Sequence[int] = range(5)) -> tuple[np.ndarray, np.ndarray]:
    """The material ``[T, 5]`` after the fill of ``parameters``, and which texels changed ``[T]`` bool."""
    size = _size(texels)
    piece, count = _pieces(texels, size)
    number = np.bincount(piece, minlength=count)

    def mean(values: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
        """``[count, C]`` per piece of ``values [T, C]``."""
        total = np.stack([np.bincount(piece, v, count) for v in (values if weight is None else values * weight).T], 1)
        if weight is None:
            return total / number[:, None]
        return total / np.maximum(np.stack([np.bincount(piece, v, count) for v in weight.T], 1), 1e-12)

    weight = texels.precision + 1e-9  # where nothing is known, the mean of what the networks guessed
    own = mean(texels.material, weight)
    precision = mean(texels.precision)  # neighbouring texels err alike: a piece knows no more than one of them
    usual = (weight[:, :3] * texels.material[:, :3]).sum(axis=0) / weight[:, :3].sum(axis=0)

    def colours(albedo: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Colours as far as they are known: a guess must not set a piece apart from its neighbours."""
        share = known[:, :3] / (known[:, :3] + PRIOR_STD[0] ** -2.0)
        return _COLOUR * share * (albedo[:, :3] - usual)

    features = np.concatenate([mean(texels.position) / size, mean(texels.normal), colours(own, precision)], axis=1)
    tree = cKDTree(features)
    one, two, far = _links(tree, features, mean(texels.owner[:, None])[:, 0])
    smooth = own.copy()
    for k in parameters:
        smooth[:, k] = _solved(own, precision, one, two, far, k)
    within = _within(texels, piece, smooth)
    lacking = (texels.precision < _KNOWN * within) & np.isin(np.arange(5), parameters)
    weak = np.asarray(lacking.any(axis=1))
    shade = colours(texels.material[weak], texels.precision[weak])
    place = (texels.position[weak] / size, texels.normal[weak], shade)
    at = np.concatenate(place, axis=1)
    distance, near = _nearest(tree, at, min(_READ, count))
    share = 1.0 / (distance + 0.1)
    share *= np.isclose(mean(texels.owner[:, None])[near, 0], texels.owner[weak][:, None])
    share /= np.maximum(share.sum(axis=1, keepdims=True), 1e-12)
    around = (share[..., None] * smooth[near]).sum(axis=1)
    trust = texels.precision[weak] / (texels.precision[weak] + within)
    material = texels.material.copy()
    material[weak] = np.where(lacking[weak], trust * material[weak] + (1.0 - trust) * around, material[weak])
    return material, weak


def _texels(problem: Reconstruction, number: int, std: Tensor, texels: TexelMap) -> _Texels:
    appearance: TextureAppearance = problem.appearance  # type: ignore[assignment]
    surface = problem.geometry.surface()
    position = texels.interpolate(surface.positions, surface.faces)
    normal = torch.nn.functional.normalize(texels.interpolate(surface.normals.values, surface.normals.index), dim=1)
    maps = appearance.materials[number]
    whole = torch.cat([maps.albedo[0], maps.reflectance[0, ..., :2]], dim=-1).reshape(-1, 5)[texels.texel]
    own = std.reshape(-1, 5)[texels.texel].double()
    precision = (own.square().reciprocal() - own.new_tensor(PRIOR_STD).pow(-2)).clamp(min=0.0)
    place, front, values, known = (
        value.detach().cpu().numpy().astype(np.float64) for value in (position, normal, whole, precision)
    )
    return _Texels(place, front, values, known, np.full(len(whole), float(number)))


def _fits(appearance: TextureAppearance, number: int, texels: TexelMap) -> bool:
    """Whether a material's maps have the size of its texels; of a constant or of very large maps nothing is filled."""
    maps = appearance.materials[number]
    return tuple(maps.albedo.shape[1:3]) == tuple(maps.reflectance.shape[1:3]) == tuple(texels.resolution)


def _size(texels: _Texels) -> float:
    """The side of a piece, so that there are about ``_PIECES``, or a texel in each if there are fewer."""
    extent = float(np.ptp(texels.position, axis=0).max())
    side = extent / 64.0
    for _ in range(4):
        count = _pieces(texels, side)[1]
        side *= (count / min(_PIECES, max(len(texels.owner) // 4, 1))) ** 0.5
    return max(side, 1e-6 * max(extent, 1e-12))


def _pieces(texels: _Texels, size: float) -> tuple[np.ndarray, int]:
    """``[T]`` the piece of each texel, and how many there are: grid cells, of one side, shade and material."""
    cell = np.floor((texels.position - texels.position.min(axis=0)) / max(size, 1e-12)).astype(np.int64)
    axis = np.abs(texels.normal).argmax(axis=1)
    side = 2 * axis + (np.take_along_axis(texels.normal, axis[:, None], axis=1)[:, 0] < 0)
    width = cell.max(axis=0) + 1
    key = (cell[:, 0] * width[1] + cell[:, 1]) * width[2] + cell[:, 2]
    shade = np.digitize(luminance_of(texels.material[:, :3]), SHADES)
    key = ((key * 6 + side) * (len(SHADES) + 1) + shade) * (int(texels.owner.max()) + 1) + texels.owner.astype(np.int64)
    used, piece = np.unique(key, return_inverse=True)
    return piece, len(used)


def _nearest(tree: cKDTree, points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices ``[N, count]`` of the nearest pieces of points ``[N, C]``."""
    distance, near = tree.query(points, k=count)
    return np.reshape(distance, (len(points), count)), np.reshape(near, (len(points), count))


def _links(tree: cKDTree, features: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs ``[L]``, ``[L]`` of neighbouring pieces of one material, each once, and their distances in pieces."""
    count = len(features)
    distance, near = (own[:, 1:] for own in _nearest(tree, features, min(_LINKS + 1, count)))
    one, two = np.repeat(np.arange(count), near.shape[1]), near.ravel()
    low, high = np.minimum(one, two), np.maximum(one, two)
    _, first = np.unique(low * count + high, return_index=True)
    keep = first[(owner[low[first]] == owner[high[first]]) & (low[first] != high[first])]
    return low[keep], high[keep], np.maximum(distance.ravel()[keep], 0.1)


def _solved(
    own: np.ndarray, precision: np.ndarray, one: np.ndarray, two: np.ndarray, far: np.ndarray, number: int
) -> np.ndarray:
    """``[count]``: the best estimate of a parameter in each piece, from all pieces."""
    value, known = own[:, number], precision[:, number]
    strong = known > ((1.0 - _SURE) * PRIOR_STD[number]) ** -2 - PRIOR_STD[number] ** -2
    sure = strong[one] & strong[two]
    difference = (value[one] - value[two]) ** 2 / far
    usual = max(float(difference[sure].mean()), _LEAST**2) if sure.sum() >= _FEW else PRIOR_STD[number] ** 2
    link = 1.0 / (usual * far)
    if number >= 3 and sure.sum() >= _FEW:  # where the colour changes, so may the rest
        colour = ((own[one, :3] - own[two, :3]) ** 2).sum(axis=1)
        known_colour = precision[:, :3].min(axis=1) > 3.0 * PRIOR_STD[0] ** -2
        told = known_colour[one] & known_colour[two]
        if told.any():
            link = link / np.where(told, 1.0 + colour / max(float(colour[told].mean()), _LEAST**2), 1.0)
    count = len(own)
    rows, columns = np.concatenate([one, two]), np.concatenate([two, one])
    graph = coo_matrix((np.concatenate([link, link]), (rows, columns)), shape=(count, count)).tocsc()
    held = known + PRIOR_STD[number] ** -2.0  # what the networks guessed counts as the prior does
    system = diags(np.asarray(graph.sum(axis=1))[:, 0] + held) - graph
    return splu(system.tocsc()).solve(held * value)


def _within(texels: _Texels, piece: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """``[5]``: the precision with which a piece's mean tells of a texel, from texels of which the views are sure."""
    out = np.empty(5)
    for k in range(5):
        sure = texels.precision[:, k] > ((1.0 - _SURE) * PRIOR_STD[k]) ** -2 - PRIOR_STD[k] ** -2
        left = (texels.material[sure, k] - smooth[piece[sure], k]) ** 2
        out[k] = 1.0 / max(float(left.mean()), _LEAST**2) if sure.sum() >= _FEW else PRIOR_STD[k] ** -2
    return out
