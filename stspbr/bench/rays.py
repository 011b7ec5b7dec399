"""Rays per second of the ray backends and of Mitsuba on one surface, in turns on the same machine.

The rays leave the bench object at random places in cosine-distributed directions, in no order: what transport casts
when it looks anew at an object, and the worst case of a ray caster.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.bench.machine import read_clocks
from stspbr.bench.scenes import BenchScene
from stspbr.bench.settings import BenchSettings
from stspbr.errors import StspbrError
from stspbr.render.rays.backend import RAY_BACKENDS, ray_scene
from stspbr.transport.cache import OFFSET

QUERIES = ("any", "closest")
_PER_POINT = 16  # rays for each of the settings' points

Query = Callable[[], int]  # casts all rays; the number of hits


def measure_rays(scene: BenchScene, settings: BenchSettings, repeats: int) -> list[dict[str, Any]]:
    """A dict per backend: ``name``, ``rays``, ``hits`` (a share), and ``any``/``closest``: rays per second.

    Rates are medians over the repeats: ``cpu`` per second of CPU time, which is that of one thread, ``wall`` of all
    threads. Only casting is timed, with rays where the backend takes them. A backend that is missing has ``name`` and
    ``skipped``, the reason.
    """
    mesh = scene.asset.mesh
    positions = torch.from_numpy(np.asarray(mesh.positions, np.float32))
    faces = torch.from_numpy(np.asarray(mesh.faces, np.int32))
    origins, directions = surface_rays(positions, faces, _PER_POINT * settings.points)
    makers: dict[str, Callable[[], dict[str, Query]]] = {
        name: lambda name=name: _own(name, positions, faces, origins, directions)  # type: ignore[misc]
        for name in RAY_BACKENDS
        if name not in ("auto", "warp")  # Warp's CPU device is one thread, for tests
    }
    makers["mitsuba"] = lambda: _mitsuba(positions, faces, origins, directions)
    sides, out = {}, []
    for name, make in makers.items():
        try:
            sides[name] = make()
        except StspbrError as error:
            out.append({"name": name, "skipped": str(error)})
    cpu = torch.device("cpu")
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {}
    hits: dict[tuple[str, str], int] = {}
    for turn in range(repeats + 1):  # the first one warms up
        for query in QUERIES:
            for name, side in sides.items():
                began = read_clocks(cpu)
                hits[name, query] = side[query]()
                wall, spent = (end - start for start, end in zip(began, read_clocks(cpu), strict=True))
                if turn > 0:
                    seconds.setdefault((name, query), []).append((wall, spent))
    count = len(origins)
    for name in sides:
        row: dict[str, Any] = {"name": name, "rays": count, "hits": hits[name, "any"] / count}
        for query in QUERIES:
            wall, spent = (statistics.median(values) for values in zip(*seconds[name, query], strict=True))
            row[query] = {"wall": count / wall, "cpu": count / spent}
        out.append(row)
    return sorted(out, key=lambda row: list(makers).index(row["name"]))


def surface_rays(positions: Tensor, faces: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Origins and unit directions ``[N, 3]`` float32: even on a surface, cosine-distributed about its normals."""
    generator = torch.Generator().manual_seed(0)
    a, b, c = positions[faces.long()].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    chosen = torch.multinomial(normal.norm(dim=1), count, replacement=True, generator=generator)
    normal = torch.nn.functional.normalize(normal, dim=1)[chosen]
    u, v = torch.rand(2, count, 1, generator=generator)
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
    place = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    diagonal = (positions.amax(0) - positions.amin(0)).norm()
    on_sphere = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    directions = torch.nn.functional.normalize(normal + 0.9999 * on_sphere, dim=1)
    return place + OFFSET * diagonal * normal, directions


def _own(name: str, positions: Tensor, faces: Tensor, origins: Tensor, directions: Tensor) -> dict[str, Query]:
    scene = ray_scene(positions, faces, name)
    return {
        "any": lambda: int(scene.occluded(origins, directions).sum()),
        "closest": lambda: int(scene.closest(origins, directions).found.sum()),
    }


def _mitsuba(positions: Tensor, faces: Tensor, origins: Tensor, directions: Tensor) -> dict[str, Query]:
    from stspbr.render.mitsuba_bsdf import require_mitsuba

    mi = require_mitsuba("rays by Mitsuba")
    mesh = mi.Mesh("mesh", vertex_count=len(positions), face_count=len(faces))
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = mi.Float(positions.numpy().ravel())
    parameters["faces"] = mi.UInt32(faces.numpy().ravel().astype(np.uint32))
    parameters.update()
    scene = mi.load_dict({"type": "scene", "mesh": mesh})
    ray = mi.Ray3f(*(mi.Vector3f(np.ascontiguousarray(rows.numpy().T)) for rows in (origins, directions)))
    return {
        "any": lambda: int(np.count_nonzero(scene.ray_test(ray))),
        "closest": lambda: int(np.count_nonzero(scene.ray_intersect_preliminary(ray).is_valid())),
    }
