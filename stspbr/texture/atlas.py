"""Which point of the surface each texel shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from stspbr.errors import StspbrError
from stspbr.scene import Corners
from stspbr.texture.atlas_kernels import nearest_on_charts
from stspbr.texture.layout_kernels import layout_points

Rasterize = Callable[[torch.Tensor, torch.Tensor, tuple[int, int]], tuple[torch.Tensor, torch.Tensor]]

FARTHEST_UV = 1e6
"""Repeats from where float32 tells no texels apart, and UVs are garbage."""


@dataclass
class TexelMap:
    """The texels that a mesh's charts touch, in reading order.

    Attributes:
        resolution: ``(H, W)`` of the texture.
        texel: ``[N]`` int64, ``row · W + column``, ascending; once each in an atlas, repeated where parts of the
            surface share a texel (``rasterize_layout``).
        triangle: ``[N]`` int32 face shown by the texel.
        barycentric: ``[N, 3]`` float32 weights of the face's corners, in [0, 1], sum 1.
        inside: ``[N]`` bool: the texel's centre lies in a chart; elsewhere it shows the nearest point of one.
    """

    resolution: tuple[int, int]
    texel: torch.Tensor
    triangle: torch.Tensor
    barycentric: torch.Tensor
    inside: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """``[H, W]`` bool: texels in the map."""
        height, width = self.resolution
        mask = torch.zeros(height * width, dtype=torch.bool, device=self.texel.device)
        mask[self.texel] = True
        return mask.view(height, width)

    def rast(self) -> torch.Tensor:
        """``[1, 1, N, 4]`` float32 (u, v, 0, face + 1): the texels as a list of pixels for ``interpolate``."""
        zero = torch.zeros_like(self.barycentric[:, :1])
        index = (self.triangle + 1).to(torch.float32).unsqueeze(1)
        return torch.cat([self.barycentric[:, :2], zero, index], dim=1)[None, None].contiguous()

    def interpolate(self, attributes: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        """``[N, C]``: ``attributes [V, C]`` of the corners ``faces [F, 3]`` at each texel, differentiable."""
        corners = torch.index_select(faces.long(), 0, self.triangle.long())
        parts = [torch.index_select(attributes, 0, corners[:, k]) * self.barycentric[:, k : k + 1] for k in range(3)]
        return parts[0] + parts[1] + parts[2]

    def scatter(self, values: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        """``[H, W, C]`` image of ``values [N, C]``, their mean where a texel is shared; ``fill`` elsewhere."""
        height, width = self.resolution
        image = torch.full((height * width, values.shape[1]), fill, dtype=values.dtype, device=values.device)
        texel = self.texel
        if len(texel) > 1 and bool((texel[1:] == texel[:-1]).any()):
            texel, group = torch.unique_consecutive(texel, return_inverse=True)
            values = mean_of_groups(values, group, len(texel))
        return image.index_copy(0, texel, values).view(height, width, -1)


def mean_of_groups(values: torch.Tensor, group: torch.Tensor, count: int) -> torch.Tensor:
    """``[count, C]`` means of the rows of ``values [N, C]`` that share a number in ``group [N]``, none empty."""
    total = torch.zeros(count, values.shape[1], dtype=values.dtype, device=values.device).index_add(0, group, values)
    return total / torch.bincount(group, minlength=count).unsqueeze(1)


def rasterize_atlas(
    uvs: Corners[np.ndarray],
    resolution: int | tuple[int, int],
    rasterize: Rasterize,
    device: torch.device | str = "cpu",
) -> TexelMap:
    """Find for each texel the face and the point on it.

    Args:
        uvs: ``[T, 2]`` glTF convention, in [0, 1].
        resolution: side of the texture, or ``(H, W)``.
        rasterize: the backend's ``rasterize(clip, faces, (H, W)) -> (rast, rast_db)``.
        device: where ``rasterize`` works; the map lies there.

    Returns:
        The map. Texels whose square a chart touches without covering its centre show the chart's nearest
        point, so that bilinear filtering at a chart's border meets measured texels first.

    Raises:
        StspbrError: UVs that are not finite.
    """
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    coords = torch.as_tensor(uvs.values, dtype=torch.float32).to(device)
    faces = torch.as_tensor(uvs.index, dtype=torch.int32).to(device).contiguous()
    if not bool(torch.isfinite(coords).all()):
        raise StspbrError("the mesh's UVs hold NaN or infinity: unwrap it again")
    flat = torch.zeros(len(coords), 4, device=coords.device)
    flat[:, :2] = coords * 2.0 - 1.0  # raster row 0 is clip y = −1, texture row 0 is v = 0
    flat[:, 3] = 1.0
    rast = rasterize(flat[None].contiguous(), faces, (height, width))[0][0].detach().reshape(-1, 4).cpu()
    triangle = rast[:, 3].round().to(torch.int32) - 1
    u, v = rast[:, 0].clamp(0.0, 1.0), rast[:, 1].clamp(0.0, 1.0)
    v = torch.minimum(v, 1.0 - u)
    barycentric = torch.stack([u, v, 1.0 - u - v], dim=1).numpy()
    found, inside = triangle.numpy().copy(), triangle.numpy() >= 0
    size = np.array([width, height], dtype=np.float64)
    nearest_on_charts(coords.cpu().numpy() * size, faces.cpu().numpy(), height, width, inside, found, barycentric)
    texel = np.nonzero(found >= 0)[0]
    return TexelMap(
        (height, width),
        torch.from_numpy(texel).to(device),
        torch.from_numpy(found[texel]).to(device),
        torch.from_numpy(barycentric[texel]).to(device),
        torch.from_numpy(inside[texel]).to(device),
    )


def rasterize_layout(
    uvs: Corners[np.ndarray],
    resolution: tuple[int, int],
    faces: np.ndarray | None = None,
    limit: int = 8,
    device: torch.device | str = "cpu",
) -> TexelMap:
    """Find for each texel of a layout that was not made for baking all the points that show it.

    UVs may leave the unit square (textures repeat), overlap, be mirrored or have no area.

    Args:
        uvs: ``[T, 2]`` glTF convention.
        resolution: ``(H, W)`` of the texture.
        faces: ``[K]`` the faces that count, and that the map names; None for all.
        limit: points a texel; where more share it, so many of them, evenly chosen.
        device: where the map lies.

    Returns:
        The map, a row a point. Texels that faces touch without covering their centre show one nearest point.

    Raises:
        StspbrError: UVs that are not finite, or beyond ``FARTHEST_UV``.
    """
    height, width = resolution
    own = np.arange(len(uvs.index)) if faces is None else np.asarray(faces, np.int64)
    coords = np.asarray(uvs.values, np.float64)
    corners = np.ascontiguousarray(uvs.index[own], dtype=np.int64)
    if not (np.abs(coords[corners]) <= FARTHEST_UV).all():
        raise StspbrError("the mesh's UVs hold NaN, infinity or numbers beyond a million: unwrap it again")
    points = np.ascontiguousarray(coords * np.array([width, height], np.float64))
    texel, triangle, barycentric, inside = layout_points(points, corners, height, width, limit)
    arrays = (texel, own[triangle].astype(np.int32), barycentric, inside)
    return TexelMap(resolution, *(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))
