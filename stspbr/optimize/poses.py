"""Small rigid motions as parameters: 6 numbers per frame of reference, and what is common to all of them taken out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MOST = 0.1  # of any number: radians, and units of length


class Poses(nn.Module):
    """N frames of reference, each moved by exp(ξ) in its own axes about a pivot: pose · T(p) · exp(ξ) · T(−p).

    Whatever has a pose can have one of these: cameras (camera-to-world), or objects (object-to-world). About its own
    centre, a camera that turns and one that shifts show nearly the same, and both numbers are hard to tell apart; about
    what it looks at, the one turns the object and the other shifts the image.

    Args:
        pivot: ``[N, 3]`` p, in the frames' own axes.
        unit: length that a translation of 1 stands for, such as the distance to the object; rotations and translations
            then move an image by like amounts, and one learning rate fits both.

    Attributes:
        twist: ``[N, 6]`` rotation in radians, then translation in units of ``unit``, in the frame's own axes.
    """

    pivot: Tensor

    def __init__(self, pivot: Tensor, unit: float) -> None:
        super().__init__()
        self.unit = unit
        self.twist = nn.Parameter(torch.zeros(len(pivot), 6))
        self.register_buffer("pivot", pivot)

    def motion(self, index: Tensor) -> Tensor:
        """``[B, 4, 4]``: the motions of the frames ``index`` ``[B]`` int64."""
        return self._exponential(self.twist.index_select(0, index), self.pivot.index_select(0, index))

    def inverse(self, index: Tensor) -> Tensor:
        """``[B, 4, 4]``: the inverse of ``motion``."""
        return self._exponential(-self.twist.index_select(0, index), self.pivot.index_select(0, index))

    @torch.no_grad()
    def constrain(self, common: Tensor) -> None:
        """Keep the motions small, and without any part in the span of ``common``.

        Args:
            common: ``[6 N, K]`` orthonormal columns, see ``common_motions``.
        """
        self.twist.clamp_(-_MOST, _MOST)
        flat = self.twist.reshape(-1, 1)
        flat -= common @ (common.T @ flat)

    def _exponential(self, twist: Tensor, pivot: Tensor) -> Tensor:
        rotation, translation = twist[:, :3], twist[:, 3:] * self.unit
        zero = torch.zeros_like(rotation[:, 0])
        x, y, z = rotation.unbind(1)
        rows = [
            torch.stack([zero, -z, y, translation[:, 0]], dim=1),
            torch.stack([z, zero, -x, translation[:, 1]], dim=1),
            torch.stack([-y, x, zero, translation[:, 2]], dim=1),
            torch.zeros_like(twist[:, :4]),
        ]
        turned = torch.linalg.matrix_exp(torch.stack(rows, dim=1))
        kept = pivot - (turned[:, :3, :3] @ pivot[..., None])[..., 0]
        return turned + torch.nn.functional.pad(kept[..., None], (3, 0, 0, 1))


def common_motions(poses: Tensor, pivot: Tensor, unit: float) -> Tensor:
    """The twists with which frames at ``poses`` ``[N, 4, 4]`` all move as one: what the images leave open.

    Args:
        pivot, unit: of ``Poses``.

    Returns:
        ``[6 N, 7]`` orthonormal columns (fewer for N = 1): three rotations, three translations, and a scaling about the
        origin, of the space that the poses lead to.
    """
    rotation, centre = poses[:, :3, :3], poses[:, :3, 3]
    place = (rotation @ pivot[..., None])[..., 0] + centre
    turned = rotation.transpose(1, 2)  # the space's axes in each frame's own
    columns = []
    for axis in torch.eye(3, dtype=poses.dtype, device=poses.device):
        swept = torch.linalg.cross(axis.expand_as(place), place)
        columns.append(torch.cat([turned @ axis, (turned @ swept[..., None])[..., 0] / unit], dim=1))
        columns.append(torch.cat([torch.zeros_like(centre), turned @ axis / unit], dim=1))
    columns.append(torch.cat([torch.zeros_like(centre), (turned @ centre[..., None])[..., 0] / unit], dim=1))
    matrix = torch.stack([column.reshape(-1) for column in columns], dim=1)
    left, size, _ = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, size > 1e-6 * size.max()]
