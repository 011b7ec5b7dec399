"""Path tracing of small closed scenes with all sixteen buffers, on the ray casting of Mitsuba 3.

One integrator of ours samples everything at once: radiance split into direct, diffuse and the rest, and the buffers of
the first hit. Lights are analytic spheres and quads, which cast no shadow and which the camera does not see. Materials
are data, not plug-ins, so that one compiled kernel serves all scenes of one structure.

The material is a blend: s · GGX (α = roughness², height-correlated Smith, the Fresnel term of ``IOR``, white) +
(1 − s) · colour/π, with s = 1 − (roughness − 0.05)/0.95. Needs the extra ``reference`` and LLVM.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stspbr.render.mitsuba_bsdf import require_mitsuba
from stspbr.render.scene_material import surface_at, texture_factor
from stspbr.settings.scene_model import CHANNELS

IOR = 15.0
CLAMP = 25.0
"""Largest contribution of one path to the indirect radiance of its pixel: fireflies of sharp mirrors stay below."""
MIRROR = 0.05
"""Lowest roughness; a surface of it has albedo 0 in the buffers."""
AO_DISTANCE = 1.0
_LANES = 1 << 21  # paths that are traced at once
_TEXTURES = ("", "stripes", "checks", "dots", "zigzag")


@dataclass(frozen=True)
class Surfaces:
    """Materials by number.

    Attributes:
        colour: ``[M, 3]`` linear; roughness: ``[M]``, 0.05 to 1; identity: ``[M]`` what the buffer ``id`` shows.
        texture: ``[M]`` index in ``TEXTURES``; frequency: ``[M]`` its repeats per unit of UV.
    """

    colour: np.ndarray
    roughness: np.ndarray
    identity: np.ndarray
    texture: np.ndarray
    frequency: np.ndarray


TEXTURES = _TEXTURES


@dataclass(frozen=True)
class Triangles:
    """All triangles of a scene, in the world.

    Attributes:
        positions, normals: ``[V, 3]``; uvs: ``[V, 2]``; faces: ``[F, 3]``; surface: ``[F]`` numbers of materials.
    """

    positions: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    faces: np.ndarray
    surface: np.ndarray


@dataclass(frozen=True)
class TracedScene:
    """What the tracer needs of a scene.

    Attributes:
        triangles: at least one.
        spheres: ``[S, 4]`` centre and radius; sphere_surface: ``[S]``.
        light_spheres: ``[K, 4]``; sphere_radiance: ``[K, 3]``, 0 for one that is off.
        light_quads: ``[Q, 3, 3]``: centre and the two half sides, whose cross product is where it shines;
            quad_radiance: ``[Q, 3]``.
        bounces: most reflections of a path; hide_lights: the camera does not see lights.
    """

    triangles: Triangles
    surfaces: Surfaces
    spheres: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    sphere_surface: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    light_spheres: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    sphere_radiance: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    light_quads: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 3), np.float32))
    quad_radiance: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    bounces: int = 4
    hide_lights: bool = True


class SceneTracer:
    """Renders scenes one after another; those of one structure share a compiled kernel.

    Raises:
        StspbrError: Mitsuba or LLVM is missing.
    """

    def __init__(self) -> None:
        self._mi = require_mitsuba("path-traced scenes")
        self._loaded: tuple[Any, ...] = ()

    def render(
        self,
        scene: TracedScene,
        world_to_camera: np.ndarray,
        fov: Sequence[float],
        size: int,
        spp: int,
        seed: int,
        passes: Collection[str] = tuple(CHANNELS),
    ) -> dict[str, np.ndarray]:
        """All views of a scene.

        Args:
            world_to_camera: ``[V, 4, 4]``, OpenGL axes; fov: ``[V]`` whole angle in degrees; size: pixels a side.
            spp: jittered samples per pixel; seed: of them; equal seeds give equal bits, whatever the threads.
            passes: the buffers that are wanted.

        Returns:
            By pass ``[V, C, size, size]`` float32, linear: the mean over a pixel's samples; 0 where nothing is hit.
        """
        self._place(scene)
        views = len(world_to_camera)
        per_call = max(1, min(spp, _LANES // (views * size * size)))
        wanted = [name for name in CHANNELS if name in passes]
        total = {name: np.zeros((views * size * size, CHANNELS[name])) for name in wanted}
        done = 0
        while done < spp:
            count = min(per_call, spp - done)
            lanes = self._sample(scene, world_to_camera, fov, size, count, (seed * 1_000_003 + done) % 2**32, wanted)
            for name, values in lanes.items():
                total[name] += values.reshape(-1, count, values.shape[-1]).sum(axis=1, dtype=np.float64)
            done += count
        shape = (views, size, size, -1)
        return {
            name: np.ascontiguousarray((values / spp).astype(np.float32).reshape(shape).transpose(0, 3, 1, 2))
            for name, values in total.items()
        }

    def _place(self, scene: TracedScene) -> None:
        """Bring shapes to where the scene has them; a scene of another structure is built anew."""
        mi, parts = self._mi, scene.triangles
        key = len(parts.positions), len(parts.faces), len(scene.spheres)
        if not self._loaded or self._loaded[0] != key:
            mesh = mi.Mesh("all", key[0], key[1], has_vertex_normals=True, has_vertex_texcoords=True)
            shapes = {f"sphere{k}": {"type": "sphere"} for k in range(key[2])}
            made = mi.load_dict({"type": "scene", "all": mesh, **shapes})
            self._loaded = key, made, mi.traverse(made), {shape.id(): shape for shape in made.shapes()}
        parameters = self._loaded[2]
        for name, values in (("positions", parts.positions), ("normals", parts.normals), ("texcoords", parts.uvs)):
            parameters[f"all.vertex_{name}"] = mi.Float(np.ascontiguousarray(values, np.float32).ravel())
        parameters["all.faces"] = mi.UInt32(np.ascontiguousarray(parts.faces, np.uint32).ravel())
        for k, (x, y, z, radius) in enumerate(np.asarray(scene.spheres, float)):
            place = mi.ScalarTransform4f().translate([x, y, z]).scale(float(radius))
            parameters[f"sphere{k}.to_world"] = mi.Transform4f(place)
        parameters.update()

    def _sample(
        self,
        scene: TracedScene,
        world_to_camera: np.ndarray,
        fov: Sequence[float],
        size: int,
        spp: int,
        seed: int,
        wanted: Sequence[str],
    ) -> dict[str, np.ndarray]:
        """``[N, C]`` of every sample, those of one pixel together."""
        import drjit as dr

        mi = self._mi
        tables = Tables(mi, scene, self._loaded[1], self._loaded[3])
        count = len(world_to_camera) * size * size * spp
        lane = dr.arange(mi.UInt32, count)
        first, second = mi.sample_tea_32(dr.opaque(mi.UInt32, seed), lane)
        rng = mi.PCG32(initstate=mi.UInt64(first), initseq=mi.UInt64(second))
        ray = self._camera_rays(world_to_camera, fov, size, spp, lane, rng)
        out = _first_hit(mi, tables, ray, rng, wanted)
        if {"beauty", "direct", "indirect", "diffuse", "specular"} & set(wanted):
            direct, indirect, diffuse = _trace(mi, tables, mi.Ray3f(ray), rng)
            light = {
                "beauty": direct + indirect,
                "direct": direct,
                "indirect": indirect,
                "diffuse": diffuse,
                "specular": direct + indirect - diffuse,
            }
            out |= {name: values for name, values in light.items() if name in wanted}
        dr.eval(out)
        return {name: np.array(values, np.float32).reshape(CHANNELS[name], -1).T for name, values in out.items()}

    def _camera_rays(
        self, world_to_camera: np.ndarray, fov: Sequence[float], size: int, spp: int, lane: Any, rng: Any
    ) -> Any:
        import drjit as dr

        mi = self._mi
        poses = np.linalg.inv(np.asarray(world_to_camera, np.float64))
        half = np.tan(np.radians(np.asarray(fov, np.float64)) / 2.0)
        axes = np.concatenate([poses[:, :3, 0] * half[:, None], poses[:, :3, 1] * half[:, None], -poses[:, :3, 2],
                               poses[:, :3, 3]], axis=1).astype(np.float32)  # fmt: skip
        table = [mi.Float(np.ascontiguousarray(column)) for column in axes.T]
        per_pixel, side = dr.opaque(mi.UInt32, spp), dr.opaque(mi.UInt32, size)
        pixel, sample = lane // per_pixel, lane % per_pixel
        view, place = pixel // (side * side), pixel % (side * side)
        row, column = place // side, place % side
        strata = int(np.sqrt(spp))
        if strata * strata == spp:  # one sample per cell of a grid: half the noise at edges
            grid = dr.opaque(mi.UInt32, strata)
            x = (mi.Float(sample % grid) + rng.next_float32()) / mi.Float(grid)
            y = (mi.Float(sample // grid) + rng.next_float32()) / mi.Float(grid)
        else:
            x, y = rng.next_float32(), rng.next_float32()
        u = 2.0 * (mi.Float(column) + x) / mi.Float(side) - 1.0
        v = 1.0 - 2.0 * (mi.Float(row) + y) / mi.Float(side)
        of = [mi.Vector3f(*(dr.gather(mi.Float, table[3 * k + c], view) for c in range(3))) for k in range(4)]
        direction = dr.normalize(of[0] * u + of[1] * v + of[2])
        return mi.Ray3f(mi.Point3f(of[3]), direction)


class Tables:
    """A scene's materials and lights as arrays of the device."""

    def __init__(self, mi: Any, scene: TracedScene, loaded: Any, shapes: dict[str, Any]) -> None:
        def flat(values: np.ndarray) -> Any:
            return mi.Float(np.ascontiguousarray(values, np.float32).ravel())

        s = scene.surfaces
        self.scene, self.mesh = loaded, mi.ShapePtr(shapes["all"])
        self.spheres = [mi.ShapePtr(shapes[f"sphere{k}"]) for k in range(len(scene.spheres))]
        self.face_surface = mi.UInt32(np.ascontiguousarray(scene.triangles.surface, np.uint32))
        self.sphere_surface = mi.UInt32(np.ascontiguousarray(scene.sphere_surface, np.uint32))
        self.colour, self.roughness, self.identity = flat(s.colour), flat(s.roughness), flat(s.identity)
        self.texture = mi.UInt32(np.ascontiguousarray(s.texture, np.uint32))
        self.frequency = flat(s.frequency)
        # lights that are off stay at their place, so that the kernel is the same, but are never drawn
        self.kinds = ["sphere"] * len(scene.light_spheres) + ["quad"] * len(scene.light_quads)
        places = [np.pad(one, (0, 5)) for one in np.asarray(scene.light_spheres, np.float32)]
        places += [one.ravel() for one in np.asarray(scene.light_quads, np.float32)]
        self.place = flat(np.array(places, np.float32).reshape(-1, 9))
        radiance = np.concatenate([scene.sphere_radiance, scene.quad_radiance]).astype(np.float32)
        self.radiance = flat(radiance)
        on = np.flatnonzero(radiance.max(axis=1) > 0.0) if len(radiance) else np.zeros(0, int)
        self.lit = len(on) > 0
        self.on = mi.UInt32(np.pad(on, (0, max(0, len(radiance) - len(on)))).astype(np.uint32))
        import drjit as dr

        self.on_count = dr.opaque(mi.UInt32, max(1, len(on)))
        self.is_on = mi.Float((radiance.max(axis=1) > 0.0).astype(np.float32)) if len(radiance) else mi.Float(0.0)
        self.bounces = dr.opaque(mi.UInt32, scene.bounces)
        self.hidden = scene.hide_lights


def _first_hit(mi: Any, tables: Tables, ray: Any, rng: Any, wanted: Sequence[str]) -> dict[str, Any]:
    """The buffers of what the camera sees."""
    import drjit as dr

    from stspbr.render.scene_lights import sampled_light, unoccluded

    si = tables.scene.ray_intersect(ray, ray_flags=mi.RayFlags.All, coherent=True)
    seen = si.is_valid()
    surface = surface_at(mi, tables, si, ray.d)
    zero = mi.Vector3f(0.0)
    out: dict[str, Any] = {}

    def put(name: str, value: Any, nothing: Any = 0.0) -> None:
        if name in wanted:
            out[name] = dr.select(seen, value, nothing)

    put("normal", surface.normal, zero)
    put("position", mi.Vector3f(si.p), zero)
    put("depth", si.t)
    put("id", surface.identity)
    put("albedo", dr.select(surface.roughness <= MIRROR, zero, mi.Vector3f(surface.colour)), zero)
    put("roughness", surface.roughness)
    if {"mirror", "mirror_hit", "mirror_normal"} & set(wanted):
        mirrored = ray.d - 2.0 * dr.dot(ray.d, surface.normal) * surface.normal
        put("mirror", mirrored, zero)
        again = si.spawn_ray(mirrored)
        hit = tables.scene.ray_intersect(again, ray_flags=mi.RayFlags.All, coherent=False, active=seen)
        other = surface_at(mi, tables, hit, mirrored)
        put("mirror_hit", dr.select(hit.is_valid(), mi.Vector3f(hit.p), zero), zero)
        put("mirror_normal", dr.select(hit.is_valid(), other.normal, zero), zero)
    if "ao" in wanted:
        local = mi.warp.square_to_cosine_hemisphere(mi.Point2f(rng.next_float32(), rng.next_float32()))
        probe = si.spawn_ray(mi.Frame3f(surface.normal).to_world(local))
        probe.maxt = AO_DISTANCE
        put("ao", dr.select(tables.scene.ray_test(probe, coherent=False, active=seen), 0.0, 1.0))
    if "shadows" in wanted:
        share = mi.Float(0.0)
        for k in range(len(tables.kinds)):
            found = sampled_light(mi, tables, mi.UInt32(k), si.p, rng, only=tables.kinds[k])
            faces = (dr.dot(found.direction, surface.normal) > 0.0) & (found.pdf > 0.0) & seen
            free = faces & unoccluded(mi, tables, si, found, faces)
            share += dr.select(free, dr.gather(mi.Float, tables.is_on, mi.UInt32(k)), 0.0)
        put("shadows", share / mi.Float(tables.on_count))
    return out


def _trace(mi: Any, tables: Tables, ray: Any, rng: Any) -> tuple[Any, Any, Any]:
    """Radiance by at most one reflection, by more, and by diffuse reflections alone."""
    from stspbr.render.scene_paths import traced

    return traced(mi, tables, ray, rng, CLAMP, IOR)


__all__ = ["TEXTURES", "SceneTracer", "Surfaces", "TracedScene", "Triangles", "texture_factor"]
