"""The path tracer of traced scenes: next-event estimation and multiple importance sampling, in one kernel."""

from __future__ import annotations

from typing import Any

import drjit as dr

from stspbr.render.scene_lights import hit_lights, sampled_light, unoccluded
from stspbr.render.scene_material import reflected, sampled_direction, surface_at


@dr.syntax
def traced(mi: Any, tables: Any, ray: Any, rng: Any, clamp: float, ior: float) -> tuple[Any, Any, Any]:
    """Radiance along camera rays.

    Args:
        tables: of ``scene_tracer.Tables``; clamp: largest contribution of one indirect path vertex.

    Returns:
        By at most one reflection, by more, and of all that reflected diffusely only; the third is at most the sum of
        the others.
    """
    direct, indirect, diffuse = mi.Color3f(0.0), mi.Color3f(0.0), mi.Color3f(0.0)
    weight, matt = mi.Color3f(1.0), mi.Color3f(1.0)
    depth, density = mi.UInt32(0), mi.Float(0.0)
    active = mi.Bool(True)
    while active:
        si = tables.scene.ray_intersect(ray, ray_flags=mi.RayFlags.All, coherent=depth == 0, active=active)
        surface = surface_at(mi, tables, si, ray.d)
        # light that the ray hits by itself, weighted against the chance of having sampled it
        if dr.hint(len(tables.kinds) > 0, mode="scalar"):
            radiance, light_pdf = hit_lights(mi, tables, ray, si.t)
            shown = (depth > 0) | mi.Bool(not tables.hidden)
            share = dr.select(depth > 0, density / dr.maximum(density + light_pdf, 1e-20), 1.0)
            found = dr.select(active & shown, radiance * share, mi.Color3f(0.0))
            first = depth <= 1
            whole, part = weight * found, matt * found
            direct += dr.select(first, whole, 0.0)
            indirect += dr.select(first, 0.0, dr.minimum(whole, clamp))
            diffuse += dr.select(first, part, dr.minimum(part, clamp))
            # a light is black: a path ends at it
            active &= (dr.max(radiance) <= 0.0) | ~shown
        active &= si.is_valid() & (depth < tables.bounces)
        frame = mi.Frame3f(surface.normal)
        wi = frame.to_local(-ray.d)
        if dr.hint(tables.lit, mode="scalar"):
            choice = dr.minimum(mi.UInt32(rng.next_float32() * mi.Float(tables.on_count)), tables.on_count - 1)
            number = dr.gather(mi.UInt32, tables.on, choice)
            light = sampled_light(mi, tables, number, si.p, rng)
            light_density = light.pdf / mi.Float(tables.on_count)
            seen = reflected(mi, surface, wi, frame.to_local(light.direction), ior)
            useful = active & (light.pdf > 0.0) & (seen.pdf > 0.0)
            free = useful & unoccluded(mi, tables, si, light, useful)
            gain = dr.select(free, light.radiance / dr.maximum(light_density + seen.pdf, 1e-20), mi.Color3f(0.0))
            whole, part = weight * seen.whole * gain, matt * seen.diffuse * gain
            first = depth == 0
            direct += dr.select(first, whole, 0.0)
            indirect += dr.select(first, 0.0, dr.minimum(whole, clamp))
            diffuse += dr.select(first, part, dr.minimum(part, clamp))
        wo = sampled_direction(mi, surface, wi, rng)
        next_one = reflected(mi, surface, wi, wo, ior)
        scale = dr.select(next_one.pdf > 0.0, 1.0 / dr.maximum(next_one.pdf, 1e-20), 0.0)
        weight *= next_one.whole * scale
        matt *= next_one.diffuse * scale
        density = mi.Float(next_one.pdf)
        ray = si.spawn_ray(frame.to_world(wo))
        depth += 1
        active &= dr.max(weight) > 0.0
    return direct, indirect, diffuse
