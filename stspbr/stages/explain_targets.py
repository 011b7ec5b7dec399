"""Which texels a question is about: a texel, a point of the surface, a region of the maps, or a pixel of a view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError, did_you_mean
from stspbr.files import safe_name
from stspbr.formats.images import read_pixels
from stspbr.metrics.relighting import frame_labels
from stspbr.metrics.sampling import diagonal, surface_tree
from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.confidence import Reads, map_sides
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.render.gbuffer import ViewBatch, render_gbuffer
from stspbr.scene import Frame
from stspbr.stages.baked_problem import Baked
from stspbr.texture.atlas import TexelMap

_NEAR = 0.02  # of the object's diagonal: how far a point may lie off the surface
_MUCH = 0.1  # of the largest weight: texels that a pixel shows less of are left out


@dataclass(frozen=True)
class Question:
    """What is asked about, as the user typed it; exactly one of the first four is given.

    Attributes:
        texel: ``U,V``; point: ``X,Y,Z`` in the object's units; region: an image over the maps, white where it asks;
            pixel: ``VIEW,X,Y``.
        material: whose maps, if there are several; point and pixel find it themselves.
    """

    texel: str | None = None
    point: str | None = None
    region: str | None = None
    pixel: str | None = None
    material: str | None = None


@dataclass
class Target:
    """The texels that a question is about.

    Attributes:
        chosen: ``[H, W]`` bool per material; words: what they are; label: for file names.
    """

    chosen: list[Tensor]
    words: str
    label: str


def find_target(question: Question, baked: Baked, problem: Reconstruction, texels: Sequence[TexelMap | None]) -> Target:
    """The texels of ``question``.

    Raises:
        StspbrError: none or several ways to ask, numbers that are none, or a place that no texel shows.
    """
    asked = [name for name in ("texel", "point", "region", "pixel") if getattr(question, name) is not None]
    if len(asked) != 1:
        given = "none" if not asked else " and ".join(f"--{name}" for name in asked)
        raise StspbrError(f"explain needs one of --texel, --point, --region and --pixel; given: {given}")
    find = {"texel": _by_texel, "point": _by_point, "region": _by_region, "pixel": _by_pixel}[asked[0]]
    return find(question, baked, problem, texels)


def numbers(text: str, count: int, option: str, example: str) -> list[float]:
    """``count`` finite numbers between commas; StspbrError names the ``option`` otherwise."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(map(math.isfinite, found)):
        raise StspbrError(f"--{option} {text}: give {count} numbers with commas between them, e.g. {example}")
    return found


def view_numbers(names: Sequence[str], frames: Sequence[Frame], option: str) -> list[int]:
    """The numbers among ``frames`` of views by name, ascending, each once.

    Raises:
        StspbrError: no such view; ``option`` is the one that asked for it.
    """
    known, found = _view_names(frames), set()
    for name in names:
        if name not in known:
            raise StspbrError(f"--{option} {name}: no training view has this name{did_you_mean(name, known)}")
        found.add(known[name])
    return sorted(found)


def _view_names(frames: Sequence[Frame]) -> dict[str, int]:
    """Each frame's number by its name in the capture, and by its short one."""
    return {own.name: k for k, own in enumerate(frames)} | {own: k for k, own in enumerate(frame_labels(frames))}


def _by_texel(question: Question, baked: Baked, problem: Reconstruction, texels: Sequence[TexelMap | None]) -> Target:
    text = str(question.texel)
    u, v = numbers(text, 2, "texel", "0.25,0.7")
    if not (0.0 <= u <= 1.0 and 0.0 <= v <= 1.0):
        raise StspbrError(f"--texel {text}: u and v lie between 0 and 1; (0, 0) is the maps' top left corner")
    number, found = _material(question, baked, texels)
    return _of_place(baked, problem, number, found, u, v, f"--texel {text}", "texel")


def _by_point(question: Question, baked: Baked, problem: Reconstruction, texels: Sequence[TexelMap | None]) -> Target:
    text = str(question.point)
    point = np.array(numbers(text, 3, "point", "0.1,0.4,-0.2"))
    mesh = baked.asset.mesh
    face, barycentric, distance = (own[0] for own in surface_tree(mesh).closest(point[None]))
    if distance > _NEAR * diagonal(mesh):
        near = (mesh.positions[mesh.faces[face]] * barycentric[:, None]).sum(axis=0)
        place = ",".join(f"{value:.3g}" for value in near)
        raise StspbrError(f"--point {text} lies {distance:.3g} off the surface; the nearest point of it is {place}")
    uvs = mesh.required("uvs")
    u, v = (uvs.values[uvs.index[face]] * barycentric[:, None]).sum(axis=0) % 1.0
    number = int(mesh.material_of[face])
    found = texels[number]
    assert found is not None
    return _of_place(baked, problem, number, found, float(u), float(v), f"--point {text}", "point", snap=True)


def _by_region(question: Question, baked: Baked, problem: Reconstruction, texels: Sequence[TexelMap | None]) -> Target:
    path = str(question.region)
    number, found = _material(question, baked, texels)
    image = read_pixels(path)
    height, width = found.resolution
    if abs(image.shape[0] * width - image.shape[1] * height) > max(image.shape[:2]):
        size = f"{image.shape[1]}×{image.shape[0]}"
        raise StspbrError(f"--region {path} is {size}, which is no copy of maps of {width}×{height} at another size")
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    white = image[rows][:, columns, : min(3, image.shape[2])].mean(axis=2) > 0.5
    mask = torch.as_tensor(white, device=found.texel.device) & found.mask
    if not bool(mask.any()):
        raise StspbrError(f"--region {path}: no white pixel lies on a chart of the maps")
    chosen = _nothing(problem)
    chosen[number] = mask
    return Target(chosen, f"the {int(mask.sum())} texels of {path}", "region")


def _by_pixel(question: Question, baked: Baked, problem: Reconstruction, texels: Sequence[TexelMap | None]) -> Target:
    text = str(question.pixel)
    parts = text.rsplit(",", 2)
    if len(parts) != 3:
        raise StspbrError(f"--pixel {text}: give a view, a column and a row, e.g. frame_0003,120,88")
    x, y = numbers(",".join(parts[1:]), 2, "pixel", "frame_0003,120,88")
    frames = baked.normalization.capture(baked.capture).frames
    known = _view_names(frames)
    if parts[0] not in known:
        raise StspbrError(f"--pixel {text}: the capture has no view {parts[0]!r}{did_you_mean(parts[0], known)}")
    frame = frames[known[parts[0]]]
    width, height = frame.camera.width, frame.camera.height
    if not (0 <= x < width and 0 <= y < height):
        raise StspbrError(f"--pixel {text}: the view has {width}×{height} pixels, counted from 0,0 at the top left")
    batch = ViewBatch.of([frame.camera], [frame.object_to_world], problem.views.device)
    gbuffer = render_gbuffer(problem.geometry.surface(), batch, problem.backend)
    place = torch.nonzero(gbuffer.covered == int(y) * width + int(x)).squeeze(1)
    if len(place) == 0:
        raise StspbrError(f"--pixel {text}: that pixel shows no surface of the asset")
    uv, uv_da = (value.index_select(0, place) for value in gbuffer.coordinates())
    assert isinstance(problem.appearance, TextureAppearance)
    owner = problem.appearance.owner_of(gbuffer.triangle.index_select(0, place))
    reads = Reads(uv, uv_da, owner, problem.backend.texture)
    ones = torch.ones_like(uv[:, :1])
    weights = [own[..., 0] for own in reads.collected(ones, map_sides(problem.appearance))]
    most = max(float(own.max()) for own in weights)
    chosen = [
        (own > _MUCH * most) & (torch.zeros_like(own, dtype=torch.bool) if of is None else of.mask)
        for own, of in zip(weights, texels, strict=True)
    ]
    if not any(bool(own.any()) for own in chosen):
        raise StspbrError(f"--pixel {text}: that pixel shows only the border of a chart: ask a pixel beside it")
    count = sum(int(own.sum()) for own in chosen)
    return Target(chosen, f"the {count} texel{'s' if count != 1 else ''} that pixel {text} shows", f"pixel-{text}")


def _of_place(
    baked: Baked,
    problem: Reconstruction,
    number: int,
    found: TexelMap,
    u: float,
    v: float,
    option: str,
    kind: str,
    snap: bool = False,
) -> Target:
    """The texel at a place of a material's maps; ``snap``: the nearest one of a chart, else it must be on one."""
    height, width = found.resolution
    row, column = min(int(v * height), height - 1), min(int(u * width), width - 1)
    mask = found.mask
    if not bool(mask[row, column]):
        on = torch.nonzero(mask)
        away = (on - torch.tensor([row, column], device=on.device)).square().sum(1)
        nearest = on[int(away.argmin())]
        near_row, near_column = int(nearest[0]), int(nearest[1])
        if not snap:
            near = f"{(near_column + 0.5) / width:.4f},{(near_row + 0.5) / height:.4f}"
            raise StspbrError(f"{option}: no part of the surface is there, it lies between the charts; nearest: {near}")
        row, column = near_row, near_column
    chosen = _nothing(problem)
    chosen[number][row, column] = True
    whose = f" of {baked.asset.materials[number].name}" if len(baked.asset.materials) > 1 else ""
    at = f"{(column + 0.5) / width:.4f},{(row + 0.5) / height:.4f}"
    return Target(chosen, f"the texel{whose} at u,v {at}", f"{kind}-{column}-{row}")


def _material(question: Question, baked: Baked, texels: Sequence[TexelMap | None]) -> tuple[int, TexelMap]:
    """The material that ``--material`` names, or the only one with faces."""
    names = [own.name for own in baked.asset.materials]
    used = [k for k, own in enumerate(texels) if own is not None]
    if question.material is not None:
        if question.material not in names:
            raise StspbrError(
                f"--material {question.material}: no such material; choose from {', '.join(names)}"
                f"{did_you_mean(question.material, names)}"
            )
        used = [k for k in used if names[k] == question.material]
    if len(used) != 1:
        listed = ", ".join(names[k] for k in used) or "none has faces"
        raise StspbrError(f"the asset has several materials ({listed}): add --material NAME")
    found = texels[used[0]]
    assert found is not None
    return used[0], found


def _nothing(problem: Reconstruction) -> list[Tensor]:
    """No texel of any material."""
    assert isinstance(problem.appearance, TextureAppearance)
    sides = map_sides(problem.appearance)
    return [torch.zeros(side, dtype=torch.bool, device=problem.views.device) for side in sides]


def folder_name(target: Target, channel: str) -> str:
    """The folder of a question's answer."""
    return safe_name(f"{target.label}-{channel}", set())
