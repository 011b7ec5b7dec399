"""The surface of a stage that goes on, with its material at the vertices: what a viewer shows before it is finished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from stspbr.errors import StspbrError, first_line
from stspbr.files import atomic_path
from stspbr.optimize.lights import LearnedLight
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.render.gbuffer import Surface, surface_points
from stspbr.render.light import cube_to_latlong
from stspbr.scene import EnvironmentLight, Mesh, Normalization

LIVE_MODEL = "model.safetensors"
"""Its file, beside a stage's preview pictures; the newest replaces the one before."""
_LIGHT_WIDTH = 256
MATERIAL = {"albedo": 3, "roughness": 1, "metallic": 1, "normal": 3}
"""Channels of the material, and how many numbers each has."""


@dataclass(frozen=True)
class LiveModel:
    """What the file holds.

    Attributes:
        mesh: in the object's units.
        material: ``albedo`` ``[V, 3]`` linear, ``roughness`` and ``metallic`` ``[V, 1]`` and the shading ``normal``
            ``[V, 3]`` at its vertices, float32.
        light: a learned one as it is now; None: the light is known.
        step: finished steps of the stage.
    """

    mesh: Mesh
    material: dict[str, np.ndarray]
    light: EnvironmentLight | None
    step: int


@torch.no_grad()
def write_live_model(reconstruction: Reconstruction, normalization: Normalization, path: Path, step: int) -> None:
    """Write the present surface to ``path``, whole or not at all; nothing of the optimisation is changed."""
    surface = reconstruction.geometry.surface()
    vertex, triangle, barycentric = _corners(surface)
    values = reconstruction.material(surface_points(surface, triangle, barycentric, reconstruction.backend))
    faces = torch.searchsorted(vertex, surface.faces.long().reshape(-1)).reshape(-1, 3)
    positions = surface.positions.detach().index_select(0, vertex).cpu().numpy()
    mesh = normalization.original_mesh(Mesh(positions, faces.to(torch.int32).cpu().numpy()))
    arrays = {"positions": mesh.positions, "faces": mesh.faces, "step": np.array([step], np.int64)}
    arrays |= {name: getattr(values, name).cpu().numpy().astype(np.float32) for name in MATERIAL}
    if isinstance(reconstruction.light, LearnedLight):
        cube = reconstruction.light.prefiltered().specular[0].detach().cpu()
        arrays["light"] = cube_to_latlong(cube, _LIGHT_WIDTH).radiance.astype(np.float32)
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def read_live_model(path: Path) -> LiveModel:
    """The inverse of ``write_live_model``; StspbrError if the file has gone or is broken."""
    try:
        arrays = load_file(path)
        material = {name: arrays[name] for name in MATERIAL}
        mesh, step = Mesh(arrays["positions"], arrays["faces"]), int(arrays["step"][0])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise StspbrError(f"{path} cannot be read ({first_line(error)}): wait for the next preview") from error
    light = EnvironmentLight(arrays["light"]) if "light" in arrays else None
    return LiveModel(mesh, material, light, step)


def _corners(surface: Surface) -> tuple[Tensor, Tensor, Tensor]:
    """The vertices that triangles have ``[V]``, and one triangle of each, with weights of its corners 2 and 3."""
    flat = surface.faces.long().reshape(-1)
    vertex, owner = flat.unique(return_inverse=True)
    corner = torch.full_like(vertex, len(flat)).scatter_reduce(
        0, owner, torch.arange(len(flat), device=flat.device), "amin"
    )
    which = corner % 3
    return vertex, corner // 3, torch.stack([which == 1, which == 2], dim=1).to(surface.positions.dtype)
