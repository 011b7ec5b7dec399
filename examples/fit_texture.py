"""Raster operations used alone: recover a texture from pictures of a plane.

python examples/fit_texture.py
"""

from __future__ import annotations

import numpy as np

import stspbr
from stspbr.threads import set_threads

stspbr.prepare_process()  # before torch is imported

import torch  # noqa: E402


def main(steps: int = 60, size: int = 32) -> float:
    """Fit a ``size``² texture to eight views of a unit square; returns the mean absolute error."""
    set_threads()
    rows, columns = np.mgrid[0:size, 0:size]
    checker = ((rows // 4 + columns // 4) % 2).astype(np.float32)
    truth = torch.from_numpy(np.stack([checker, 1 - checker, 0.5 * np.ones_like(checker)], axis=-1))[None]

    corners = torch.tensor([[-1.0, 1, 0, 1], [1, 1, 0, 1], [1, -1, 0, 1], [-1, -1, 0, 1]])
    uvs = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2]], dtype=torch.int32)
    eyes = [(x, y, 2.2) for x in (-1.0, -0.3, 0.3, 1.0) for y in (-0.6, 0.6)]
    cameras = [stspbr.Camera(stspbr.look_at(eye, (0, 0, 0)), 64, 64, 32, 32, 64, 64) for eye in eyes]
    clip_from_world = torch.tensor(np.stack([c.clip_from_object(np.eye(4)) for c in cameras]), dtype=torch.float32)
    clip = (corners @ clip_from_world.transpose(1, 2)).contiguous()

    rast, rast_db = stspbr.rasterize(clip, faces, (64, 64))
    uv, uv_da = stspbr.interpolate(uvs[None], rast, faces, rast_db=rast_db, diff_attributes="all")
    covered = (rast[..., 3:] > 0).float()

    def picture(texture: torch.Tensor) -> torch.Tensor:
        return covered * stspbr.sample_texture(texture, uv, uv_da, boundary_mode="clamp")

    target = picture(truth)
    texture = torch.full_like(truth, 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([texture], lr=0.05)
    for _ in range(steps):
        loss = (picture(texture) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float((texture.detach() - truth).abs().mean())


if __name__ == "__main__":
    print(f"mean absolute error of the texture: {main():.4f}")
