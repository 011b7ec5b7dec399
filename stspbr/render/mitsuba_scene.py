"""Path-traced views of an asset by Mitsuba 3: shadows and interreflections, with our conventions.

Needs the extra ``reference`` and LLVM ≥ 19 (``mitsuba_bsdf.llvm_status`` reports what is missing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.geometry.tangents import with_frames
from stspbr.render.mitsuba_bsdf import BSDF_NAME, require_mitsuba
from stspbr.scene.asset import Asset
from stspbr.scene.attributes import mesh_normals
from stspbr.scene.camera import Camera
from stspbr.scene.light import EnvironmentLight
from stspbr.scene.material import Material, enlarged
from stspbr.scene.mesh import Corners, Mesh

_EDGE = 4  # steps per texel of the edge of a cut-out
_SAMPLES_PER_PASS = 1 << 23  # wavefront size: about 1.5 GiB of state
_FLOOR_REACH = 200.0  # half a side of a floor in the scene's diagonals: what passes it is 0.3° from the horizon


@dataclass(frozen=True)
class Floor:
    """A diffuse plane under the object, fixed in the world.

    Attributes:
        height: along the world's up axis; grey: ``[3]`` linear albedo in [0, 1].
    """

    height: float
    grey: Sequence[float]


def render(
    asset: Asset,
    light: EnvironmentLight,
    cameras: Sequence[Camera],
    poses: Sequence[np.ndarray] | None = None,
    spp: int = 256,
    max_depth: int = 5,
    seed: int = 0,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Path-trace ``asset`` under ``light`` from each camera.

    Args:
        asset: object-space mesh with its materials; for a normal map, missing tangents are computed (MikkTSpace).
        light: lat-long radiance, fixed in the world.
        cameras: each is rendered with its own width and height; square pixels (``fx = fy``); ``near`` and ``far`` are
            not used.
        poses: ``object_to_world`` ``[4, 4]`` of each camera's frame; None: identity.
        spp: samples per pixel (box filter, stratified), rounded up to a square number per pass.
        max_depth: 2 is direct light only, 3 adds one bounce, and so on.
        seed: the same seed gives the same noise, which differs from frame to frame.

    Returns:
        For each camera ``(rgb, alpha)``: float32 ``[H, W, 3]`` linear radiance premultiplied by coverage (the
        object over black), and ``[H, W, 1]`` coverage in [0, 1].

    Raises:
        StspbrError: Mitsuba or LLVM is missing, or a camera's pixels are not square.
    """
    return list(render_each(asset, light, cameras, poses, spp, max_depth, seed))


def render_each(
    asset: Asset,
    light: EnvironmentLight,
    cameras: Sequence[Camera],
    poses: Sequence[np.ndarray] | None = None,
    spp: int = 256,
    max_depth: int = 5,
    seed: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """``render``, one view at a time, for progress bars and large captures. The scene is loaded once."""
    if poses is not None and len(poses) != len(cameras):
        raise StspbrError(f"{len(cameras)} cameras but {len(poses)} object poses: give one pose per camera, or none")
    scene = PathTracer(asset, light, max_depth)
    for index, camera in enumerate(cameras):
        yield scene.view(camera, None if poses is None else poses[index], spp, seed=seed * 1_000_003 + index)


class PathTracer:
    """One asset under one light, loaded once; ``view`` moves the camera and the object.

    Args:
        surroundings: static things around the object (a table), world space: rendered, shadowed and mirrored like the
            object, but not part of its ``coverage``.
        show_light: show the light behind everything, as in a photograph; else the background is black, with alpha 0.
        floor: lit, shadowed, mirrored and rendered, with alpha 1; black from below.
        lamp: intensity of a point lamp beside the light, linear RGB: irradiance at distance 1. ``view`` is told where.
    """

    def __init__(
        self,
        asset: Asset,
        light: EnvironmentLight,
        max_depth: int = 5,
        surroundings: Asset | None = None,
        show_light: bool = False,
        floor: Floor | None = None,
        lamp: tuple[float, float, float] | None = None,
    ):
        self._mi = require_mitsuba("path-traced captures")
        mesh = asset.mesh
        if mesh.uvs is not None and any(material.normal is not None for material in asset.materials):
            mesh = with_frames(mesh)
        parts = _parts(mesh, asset.materials)
        self._parts = [part for part, _ in parts]
        path = {"type": "path", "max_depth": int(max_depth), "rr_depth": 64, "hide_emitters": not show_light}
        description = {"type": "scene", "integrator": path, "light": self._envmap(light)}
        named = [(f"part{k}", *part) for k, part in enumerate(parts)]
        if surroundings is not None:
            around = _parts(surroundings.mesh, surroundings.materials)
            named += [(f"surrounding{k}", *part) for k, part in enumerate(around)]
        description |= {name: self._mesh(name, part, material) for name, part, material in named}
        if floor is not None:
            description["floor"] = self._floor(floor, mesh.positions)
        if lamp is not None:
            shown = {"type": "rgb", "value": [float(value) for value in lamp]}
            description["lamp"] = {"type": "point", "position": [0.0, 0.0, 0.0], "intensity": shown}
        self._has_lamp = lamp is not None
        self._scene = self._mi.load_dict(description)
        self._parameters = self._mi.traverse(self._scene)
        self._pose = np.eye(4)
        self._sensors: dict[tuple[int, int], Any] = {}

    def view(
        self,
        camera: Camera,
        object_to_world: np.ndarray | None = None,
        spp: int = 256,
        seed: int = 0,
        lamp_at: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One image: ``(rgb [H, W, 3], alpha [H, W, 1])`` as described at ``render``.

        Args:
            lamp_at: ``[3]`` where the lamp is, in the world; None: where it was.
        """
        mi = self._mi
        self._place(object_to_world)
        if self._has_lamp and lamp_at is not None:
            self._parameters["lamp.position"] = [float(value) for value in lamp_at]
            self._parameters.update()
        sensor = self._sensor(camera)
        pixels = camera.width * camera.height
        passes = -(-max(int(spp), 1) * pixels // _SAMPLES_PER_PASS)
        side = int(np.ceil(np.sqrt(spp / passes)))
        total = np.zeros((camera.height, camera.width, 4))
        for step in range(passes):
            # each frame and pass has its own seed, up to 64 passes per frame
            image = mi.render(self._scene, sensor=sensor, spp=side * side, seed=(seed * 64 + step) % 2**32)
            total += np.array(image, dtype=np.float64)
        total = (total / passes).astype(np.float32)
        return np.ascontiguousarray(total[..., :3]), np.ascontiguousarray(np.clip(total[..., 3:], 0.0, 1.0))

    def coverage(
        self, camera: Camera, object_to_world: np.ndarray | None = None, spp: int = 16, seed: int = 0
    ) -> np.ndarray:
        """``[H, W, 1]`` float32 in [0, 1]: how much of each pixel shows the object itself, not its surroundings."""
        mi = self._mi
        self._place(object_to_world)
        sensor = self._sensor(camera)
        side = int(np.ceil(np.sqrt(spp)))
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[: camera.height * side, : camera.width * side].astype(np.float32)
        jitter = rng.random((2, *rows.shape), np.float32)
        x, y = (columns + jitter[0]) / (camera.width * side), (rows + jitter[1]) / (camera.height * side)
        place = mi.Point2f(mi.Float(x.ravel()), mi.Float(y.ravel()))
        ray, _ = sensor.sample_ray(0.0, 0.5, place, mi.Point2f(0.5, 0.5))
        hit = self._scene.ray_intersect_preliminary(ray)
        shown = np.zeros(x.size, bool)
        for shape in self._scene.shapes():
            if shape.id().startswith("part"):
                shown |= np.array(hit.is_valid() & (hit.shape == mi.ShapePtr(shape)), dtype=bool)
        blocks = shown.reshape(camera.height, side, camera.width, side)
        return blocks.mean(axis=(1, 3), dtype=np.float32)[..., None]

    def _place(self, object_to_world: np.ndarray | None) -> None:
        pose = np.eye(4) if object_to_world is None else np.array(object_to_world, dtype=np.float64)
        if np.array_equal(pose, self._pose):
            return
        for k, part in enumerate(self._parts):
            for name, values in part.placed(pose).items():
                self._parameters[f"part{k}.{name}"] = self._mi.Float(values.ravel())
        self._parameters.update()
        self._pose = pose

    def _sensor(self, camera: Camera) -> Any:
        """The sensor of the camera's size, moved to the camera: a new sensor would cost a compilation."""
        mi = self._mi
        if abs(camera.fx / camera.fy - 1.0) > 1e-4:
            raise StspbrError(
                f"Mitsuba renders square pixels only, but the camera has fx {camera.fx:g} and fy {camera.fy:g}: "
                "use cameras with fx = fy"
            )
        size = camera.width, camera.height
        if size not in self._sensors:
            self._sensors[size] = mi.load_dict(self._new_sensor(*size))
        parameters = mi.traverse(self._sensors[size])
        # Mitsuba's camera looks along +Z with +X to the left: half a turn about its own +Y
        pose = np.asarray(camera.camera_to_world, dtype=np.float64) @ np.diag([-1.0, 1.0, -1.0, 1.0])
        parameters["to_world"] = mi.ScalarTransform4f(pose)
        parameters["x_fov"] = float(np.degrees(2.0 * np.arctan(0.5 * camera.width / camera.fx)))
        parameters["principal_point_offset_x"] = 0.5 - camera.cx / camera.width
        parameters["principal_point_offset_y"] = 0.5 - camera.cy / camera.height
        parameters.update()
        return self._sensors[size]

    def _new_sensor(self, width: int, height: int) -> dict[str, Any]:
        box = self._scene.bbox()
        diagonal = float(np.linalg.norm(np.array(box.max - box.min)))
        return {
            "type": "perspective",
            "fov": 45.0,
            "fov_axis": "x",
            # constants in the kernel, so they are not the camera's, and nothing is clipped
            "near_clip": 1e-4 * diagonal,
            "far_clip": 1e4 * diagonal,
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "pixel_format": "rgba",
                "component_format": "float32",
                "filter": {"type": "box"},
            },
            "sampler": {"type": "stratified"},  # half the variance of "independent" for the same time
        }

    def _envmap(self, light: EnvironmentLight) -> dict:
        mi = self._mi
        radiance = _pole_to_pole(np.asarray(light.radiance, dtype=np.float32))
        return {
            "type": "envmap",
            "bitmap": mi.Bitmap(np.ascontiguousarray(radiance)),
            "to_world": mi.ScalarTransform4f().rotate([0.0, 1.0, 0.0], 180.0),
        }

    def _floor(self, floor: Floor, positions: np.ndarray) -> dict:
        middle, size = positions.mean(axis=0), float(np.linalg.norm(np.ptp(positions, axis=0)))
        place = self._mi.ScalarTransform4f().translate([float(middle[0]), floor.height, float(middle[2])])
        return {
            "type": "rectangle",
            "to_world": place.rotate([1.0, 0.0, 0.0], -90.0).scale(_FLOOR_REACH * size),
            "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": [float(v) for v in floor.grey]}},
        }

    def _mesh(self, name: str, part: _CornerMesh, material: Material):
        mi = self._mi
        properties = mi.Properties()
        properties["bsdf"] = mi.load_dict(self._bsdf(material, bumpy=part.tangents is not None))
        mesh = mi.Mesh(
            name,
            vertex_count=len(part.positions),
            face_count=len(part.faces),
            props=properties,
            has_vertex_normals=True,
            has_vertex_texcoords=True,
        )
        if part.tangents is not None:
            mesh.add_attribute("vertex_tangent", 3, part.tangents[:, :3].ravel())
            mesh.add_attribute("vertex_handedness", 1, np.ascontiguousarray(part.tangents[:, 3]))
        parameters = mi.traverse(mesh)
        parameters["vertex_positions"] = mi.Float(part.positions.ravel())
        parameters["vertex_normals"] = mi.Float(part.normals.ravel())
        parameters["vertex_texcoords"] = mi.Float(part.uvs.ravel())
        parameters["faces"] = mi.UInt32(part.faces.ravel())
        parameters.update()
        return mesh

    def _bsdf(self, material: Material, bumpy: bool) -> dict:
        normal = material.normal if bumpy else None
        out = {"type": BSDF_NAME, "has_normal": normal is not None}
        maps = {"albedo": material.albedo, "roughness": material.roughness, "metallic": material.metallic}
        if normal is not None:
            maps["normal"] = normal
            out["tangent"] = {"type": "mesh_attribute", "name": "vertex_tangent"}
            out["handedness"] = {"type": "mesh_attribute", "name": "vertex_handedness"}
        for name, values in maps.items():
            out[name] = {
                "type": "bitmap",
                "bitmap": self._mi.Bitmap(np.ascontiguousarray(values, dtype=np.float32)),
                "raw": True,
                "filter_type": "bilinear",
                "wrap_mode": "repeat",
                "format": "variant",
            }
        return out if material.opacity is None else self._cut_out(material, material.opacity, out)

    def _cut_out(self, material: Material, opacity: np.ndarray, surface: dict) -> dict:
        """``surface`` with the opacity of the material; of a mask 0 or 1, with the edge between texels."""
        kind = "bilinear"
        if material.cutoff is not None:
            fine = enlarged(opacity, _EDGE)
            opacity, kind = (fine >= material.cutoff).astype(np.float32), "nearest"
        bitmap = self._mi.Bitmap(np.ascontiguousarray(opacity, dtype=np.float32))
        texture = {"type": "bitmap", "bitmap": bitmap, "raw": True, "filter_type": kind, "wrap_mode": "repeat"}
        return {"type": "mask", "opacity": texture, "surface": surface}


@dataclass
class _CornerMesh:
    """A mesh with one index for all attributes, in object space, as a ray tracer needs it."""

    positions: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    tangents: np.ndarray | None

    def placed(self, object_to_world: np.ndarray) -> dict[str, np.ndarray]:
        """Mitsuba's vertex attributes in world space under a rigid pose."""
        turn = object_to_world[:3, :3]
        out = {
            "vertex_positions": self.positions @ turn.T + object_to_world[:3, 3],
            "vertex_normals": self.normals @ turn.T,
        }
        if self.tangents is not None:
            out["vertex_tangent"] = self.tangents[:, :3] @ turn.T
        return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in out.items()}


def _parts(mesh: Mesh, materials: Sequence[Material]) -> list[tuple[_CornerMesh, Material]]:
    """The mesh of each material that has faces, and the material."""
    owner = mesh.face_material
    if owner is None:
        return [(_corner_mesh(mesh, np.arange(len(mesh.faces))), materials[0])]
    if len(owner) and not 0 <= owner.min() <= owner.max() < len(materials):
        raise StspbrError(f"the mesh refers to material {owner.max()}, but the asset has {len(materials)}")
    return [(_corner_mesh(mesh, np.flatnonzero(owner == k)), materials[k]) for k in np.unique(owner)]


def _corner_mesh(mesh: Mesh, chosen: np.ndarray) -> _CornerMesh:
    """The faces ``chosen``, with a vertex split if any of its attributes is."""
    tables = [
        Corners(mesh.positions, mesh.faces),
        mesh_normals(mesh),
        mesh.uvs or Corners(np.zeros((1, 2), np.float32), np.zeros_like(mesh.faces)),
        *([mesh.tangents] if mesh.tangents else []),
    ]
    corners = np.stack([table.index[chosen].reshape(-1) for table in tables], axis=-1)
    unique, inverse = np.unique(corners, axis=0, return_inverse=True)
    positions, normals, uvs, *tangents = (
        np.asarray(table.values[rows], dtype=np.float32) for table, rows in zip(tables, unique.T, strict=True)
    )
    faces = inverse.reshape(-1, 3).astype(np.uint32)
    return _CornerMesh(positions, faces, normals, uvs, tangents[0] if tangents else None)


def _pole_to_pole(radiance: np.ndarray) -> np.ndarray:
    """The same light on ``2H + 1`` rows from pole to pole, where Mitsuba's ``envmap`` has its rows.

    Ours are at texel centres, (i + ½)/H: every second new row is one of ours, and the others are the mean of their
    neighbours, so that a bilinear look-up gives the same value everywhere.
    """
    height, width, _ = radiance.shape
    out = np.empty((2 * height + 1, width, 3), dtype=np.float32)
    out[1::2] = radiance
    out[2:-1:2] = 0.5 * (radiance[1:] + radiance[:-1])
    out[0], out[-1] = radiance[0], radiance[-1]
    return out
