"""What a ray hits in a traced scene, and how it reflects: functions of Dr.Jit arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_DARK = 0.6  # factor of a texture's figure on its ground
_ROUGH, _SPAN = 0.05, 0.95


@dataclass
class Surface:
    """A hit: ``normal`` is the shading normal on the ray's side; ``spec`` the weight of the glossy lobe."""

    normal: Any
    colour: Any
    roughness: Any
    identity: Any
    spec: Any


def surface_at(mi: Any, tables: Any, si: Any, direction: Any) -> Surface:
    """The material where a ray of this direction hits."""
    import drjit as dr

    number = dr.gather(mi.UInt32, tables.face_surface, si.prim_index, active=si.is_valid() & (si.shape == tables.mesh))
    for k, pointer in enumerate(tables.spheres):
        own = dr.gather(mi.UInt32, tables.sphere_surface, mi.UInt32(k))
        number = dr.select(si.is_valid() & (si.shape == pointer), own, number)
    facing = dr.select(dr.dot(si.n, direction) > 0.0, -si.n, si.n)
    shading = dr.select(dr.dot(si.sh_frame.n, facing) < 0.0, -si.sh_frame.n, si.sh_frame.n)
    normal = mi.Vector3f(dr.select(dr.dot(shading, direction) < 0.0, shading, facing))
    colour = mi.Color3f(*(dr.gather(mi.Float, tables.colour, 3 * number + c) for c in range(3)))
    frequency = dr.gather(mi.Float, tables.frequency, number)
    colour *= texture_factor(mi, dr.gather(mi.UInt32, tables.texture, number), si.uv * frequency)
    roughness = dr.gather(mi.Float, tables.roughness, number)
    spec = dr.clip(1.0 - (roughness - _ROUGH) / _SPAN, 0.0, 1.0)
    return Surface(normal, colour, roughness, dr.gather(mi.Float, tables.identity, number), spec)


def texture_factor(mi: Any, kind: Any, uv: Any) -> Any:
    """The factor on a colour of the patterns ``scene_tracer.TEXTURES`` at a place; one repeat per unit."""
    import drjit as dr

    x, y = uv.x - dr.floor(uv.x), uv.y - dr.floor(uv.y)
    stripes = x < 0.5
    checks = (x < 0.5) ^ (y < 0.5)
    dots = dr.square(x - 0.5) + dr.square(y - 0.5) < 0.09
    shifted = y + dr.abs(x - 0.5)
    zigzag = shifted - dr.floor(shifted) < 0.5
    figure = ((kind == 1) & stripes) | ((kind == 2) & checks) | ((kind == 3) & dots) | ((kind == 4) & zigzag)
    return dr.select(figure, _DARK, 1.0)


def fresnel(cosine: Any, ior: float) -> Any:
    """Unpolarised reflectance of a smooth interface of this relative index."""
    import drjit as dr

    inside = dr.sqrt(dr.maximum(1.0 - (1.0 - dr.square(cosine)) / (ior * ior), 0.0))
    s = (cosine - ior * inside) / (cosine + ior * inside)
    p = (ior * cosine - inside) / (ior * cosine + inside)
    return 0.5 * (dr.square(s) + dr.square(p))


@dataclass
class Reflection:
    """Value times cosine of both lobes and of the diffuse one alone, and the density of sampling it."""

    whole: Any
    diffuse: Any
    pdf: Any


def glossy_chance(surface: Surface) -> Any:
    """With what probability the glossy lobe is sampled."""
    import drjit as dr

    glossy = 0.77 * surface.spec
    diffuse = (1.0 - surface.spec) * dr.max(surface.colour)
    return dr.select(glossy + diffuse > 0.0, glossy / dr.maximum(glossy + diffuse, 1e-9), 0.0)


def reflected(mi: Any, surface: Surface, wi: Any, wo: Any, ior: float) -> Reflection:
    """The material for directions in the frame of the normal; zero below the horizon."""
    import drjit as dr

    above = (wi.z > 0.0) & (wo.z > 0.0)
    alpha = dr.square(surface.roughness)
    half = dr.normalize(wi + wo)
    cosine = dr.maximum(dr.dot(wi, half), 0.0)
    density = _ggx(half, alpha)
    lambda_i, lambda_o = _smith(wi, alpha), _smith(wo, alpha)
    glossy = fresnel(cosine, ior) * density / ((1.0 + lambda_i + lambda_o) * 4.0 * dr.maximum(wi.z, 1e-6))
    matt = mi.Color3f(surface.colour) * ((1.0 - surface.spec) * dr.inv_pi * wo.z)
    chance = glossy_chance(surface)
    glossy_pdf = density / ((1.0 + lambda_i) * 4.0 * dr.maximum(wi.z, 1e-6))
    pdf = chance * glossy_pdf + (1.0 - chance) * wo.z * dr.inv_pi
    zero = mi.Color3f(0.0)
    return Reflection(
        dr.select(above, matt + surface.spec * glossy, zero), dr.select(above, matt, zero), dr.select(above, pdf, 0.0)
    )


def sampled_direction(mi: Any, surface: Surface, wi: Any, rng: Any) -> Any:
    """A direction drawn with the density that :func:`reflected` gives (visible normals: Heitz 2018)."""
    import drjit as dr

    choice, u = rng.next_float32(), mi.Point2f(rng.next_float32(), rng.next_float32())
    alpha = dr.square(surface.roughness)
    stretched = dr.normalize(mi.Vector3f(alpha * wi.x, alpha * wi.y, wi.z))
    length = dr.square(stretched.x) + dr.square(stretched.y)
    inverse = dr.rsqrt(dr.maximum(length, 1e-20))
    t1 = dr.select(
        length > 1e-12,
        mi.Vector3f(-stretched.y * inverse, stretched.x * inverse, 0.0),
        mi.Vector3f(1.0, 0.0, 0.0),
    )
    t2 = dr.cross(stretched, t1)
    radius, angle = dr.sqrt(u.x), dr.two_pi * u.y
    sine, cosine = dr.sincos(angle)
    p1, p2 = radius * cosine, radius * sine
    blend = 0.5 * (1.0 + stretched.z)
    p2 = (1.0 - blend) * dr.sqrt(dr.maximum(1.0 - dr.square(p1), 0.0)) + blend * p2
    p3 = dr.sqrt(dr.maximum(1.0 - dr.square(p1) - dr.square(p2), 0.0))
    normal = p1 * t1 + p2 * t2 + p3 * stretched
    half = dr.normalize(mi.Vector3f(alpha * normal.x, alpha * normal.y, dr.maximum(normal.z, 1e-6)))
    glossy = 2.0 * dr.dot(wi, half) * half - wi
    matt = mi.warp.square_to_cosine_hemisphere(u)
    return dr.select(choice < glossy_chance(surface), mi.Vector3f(glossy), mi.Vector3f(matt))


def _ggx(half: Any, alpha: Any) -> Any:
    import drjit as dr

    # 1 − cos² is written as the sine's square: their difference has no digits left at a mirror
    squared = dr.square(alpha)
    spread = dr.square(half.x) + dr.square(half.y) + squared * dr.square(half.z)
    return dr.select(half.z > 0.0, squared * dr.inv_pi / dr.maximum(dr.square(spread), 1e-30), 0.0)


def _smith(w: Any, alpha: Any) -> Any:
    import drjit as dr

    tangent = (dr.square(w.x) + dr.square(w.y)) / dr.maximum(dr.square(w.z), 1e-12)
    return 0.5 * (dr.sqrt(1.0 + dr.square(alpha) * tangent) - 1.0)
