"""The lights of a traced scene: analytic spheres and one-sided quads, as functions of Dr.Jit arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_CLOSER = 1.0 - 1e-4  # how much of the way to a light must be free


@dataclass
class SampledLight:
    """A direction to a light: its distance, density per solid angle (0: none) and radiance."""

    direction: Any
    distance: Any
    pdf: Any
    radiance: Any


def place_of(mi: Any, tables: Any, number: Any, first: int) -> Any:
    """Three of the nine numbers that say where a light is."""
    import drjit as dr

    return mi.Vector3f(*(dr.gather(mi.Float, tables.place, 9 * number + first + c) for c in range(3)))


def sampled_light(mi: Any, tables: Any, number: Any, point: Any, rng: Any, only: str | None = None) -> SampledLight:
    """A point on the light of this number, seen from ``point``; ``only`` is its kind, if it is known."""
    import drjit as dr

    u, v = rng.next_float32(), rng.next_float32()
    radiance = mi.Color3f(*(dr.gather(mi.Float, tables.radiance, 3 * number + c) for c in range(3)))
    kinds = {only} if only else set(tables.kinds)
    found = None
    if "sphere" in kinds:
        centre = place_of(mi, tables, number, 0)
        radius = dr.gather(mi.Float, tables.place, 9 * number + 3)
        found = _to_sphere(mi, centre, radius, mi.Vector3f(point), u, v)
    if "quad" in kinds:
        quad = _to_quad(mi, tables, number, mi.Vector3f(point), u, v)
        if found is None:
            found = quad
        else:
            round_ = number < tables.kinds.count("sphere")
            found = tuple(dr.select(round_, a, b) for a, b in zip(found, quad, strict=True))
    assert found is not None
    return SampledLight(*found, radiance)


def unoccluded(mi: Any, tables: Any, si: Any, found: SampledLight, active: Any) -> Any:
    """Whether nothing is between a hit and a sampled light."""
    ray = si.spawn_ray(found.direction)
    ray.maxt = found.distance * _CLOSER
    return ~tables.scene.ray_test(ray, coherent=False, active=active)


def hit_lights(mi: Any, tables: Any, ray: Any, before: Any) -> tuple[Any, Any]:
    """The radiance of the first light on a ray, nearer than ``before``, and the density with which it is sampled.

    The density is that of choosing one of the lights that are on at random, then a point on it.
    """
    import drjit as dr

    nearest, radiance, pdf = mi.Float(before), mi.Color3f(0.0), mi.Float(0.0)
    for k, kind in enumerate(tables.kinds):
        number = mi.UInt32(k)
        distance, density = (_ray_sphere if kind == "sphere" else _ray_quad)(mi, tables, number, ray)
        own = mi.Color3f(*(dr.gather(mi.Float, tables.radiance, 3 * number + c) for c in range(3)))
        hit = (distance > 0.0) & (distance < nearest) & (dr.gather(mi.Float, tables.is_on, number) > 0.0)
        nearest = dr.select(hit, distance, nearest)
        radiance = dr.select(hit, own, radiance)
        pdf = dr.select(hit, density / mi.Float(tables.on_count), pdf)
    return radiance, pdf


def _to_sphere(mi: Any, centre: Any, radius: Any, point: Any, u: Any, v: Any) -> tuple[Any, Any, Any]:
    import drjit as dr

    way = centre - point
    squared = dr.squared_norm(way)
    sine2 = dr.square(radius) / dr.maximum(squared, 1e-12)
    outside = sine2 < 0.999
    # 1 − cos of the cone, without cancellation for a small one
    gap = sine2 / (1.0 + dr.sqrt(dr.maximum(1.0 - sine2, 0.0)))
    cosine = 1.0 - u * gap
    sine = dr.sqrt(dr.maximum(1.0 - dr.square(cosine), 0.0))
    s, c = dr.sincos(dr.two_pi * v)
    frame = mi.Frame3f(way * dr.rsqrt(dr.maximum(squared, 1e-12)))
    direction = frame.to_world(mi.Vector3f(c * sine, s * sine, cosine))
    along = dr.dot(way, direction)
    distance = along - dr.sqrt(dr.maximum(dr.square(radius) - squared + dr.square(along), 0.0))
    return direction, distance, dr.select(outside, 1.0 / dr.maximum(dr.two_pi * gap, 1e-12), 0.0)


def _to_quad(mi: Any, tables: Any, number: Any, point: Any, u: Any, v: Any) -> tuple[Any, Any, Any]:
    import drjit as dr

    centre, right, up = (place_of(mi, tables, number, 3 * k) for k in range(3))
    way = centre + (2.0 * u - 1.0) * right + (2.0 * v - 1.0) * up - point
    squared = dr.maximum(dr.squared_norm(way), 1e-12)
    direction = way * dr.rsqrt(squared)
    normal, area = _facing(dr.cross(right, up))
    cosine = -dr.dot(direction, normal)
    return direction, dr.sqrt(squared), dr.select(cosine > 1e-4, squared / (dr.maximum(cosine, 1e-4) * area), 0.0)


def _ray_sphere(mi: Any, tables: Any, number: Any, ray: Any) -> tuple[Any, Any]:
    import drjit as dr

    centre = place_of(mi, tables, number, 0)
    radius = dr.gather(mi.Float, tables.place, 9 * number + 3)
    way = centre - mi.Vector3f(ray.o)
    along = dr.dot(way, ray.d)
    squared = dr.squared_norm(way)
    rest = dr.square(radius) - dr.squared_norm(way - along * ray.d)
    hit = (rest > 0.0) & (along > 0.0) & (squared > dr.square(radius))
    sine2 = dr.square(radius) / dr.maximum(squared, 1e-12)
    gap = sine2 / (1.0 + dr.sqrt(dr.maximum(1.0 - sine2, 0.0)))
    distance = along - dr.sqrt(dr.maximum(rest, 0.0))
    return dr.select(hit, distance, -1.0), 1.0 / dr.maximum(dr.two_pi * gap, 1e-12)


def _ray_quad(mi: Any, tables: Any, number: Any, ray: Any) -> tuple[Any, Any]:
    import drjit as dr

    centre, right, up = (place_of(mi, tables, number, 3 * k) for k in range(3))
    normal, area = _facing(dr.cross(right, up))
    cosine = -dr.dot(ray.d, normal)
    distance = dr.dot(mi.Vector3f(ray.o) - centre, normal) / dr.maximum(cosine, 1e-6)
    at = mi.Vector3f(ray.o) + distance * ray.d - centre
    x = dr.dot(at, right) / dr.maximum(dr.squared_norm(right), 1e-12)
    y = dr.dot(at, up) / dr.maximum(dr.squared_norm(up), 1e-12)
    hit = (cosine > 1e-4) & (distance > 0.0) & (dr.abs(x) <= 1.0) & (dr.abs(y) <= 1.0)
    return dr.select(hit, distance, -1.0), dr.square(distance) / (dr.maximum(cosine, 1e-4) * area)


def _facing(cross: Any) -> tuple[Any, Any]:
    """Unit normal and area of a quad whose half sides have this cross product."""
    import drjit as dr

    length = dr.maximum(dr.norm(cross), 1e-12)
    return cross / length, 4.0 * length
