"""Remarks under a group of metrics: counts, scales and conditions."""

from __future__ import annotations

from typing import Any


def remark(group: str, errors: dict[str, Any]) -> str:
    """The remark under a group (one of ``metrics.GROUPS``); empty if ``errors`` has none."""
    known = {
        "Views": ("views", _views),
        "Material": ("material", _material),
        "Material at one footprint": ("material_at_footprint", _footprint),
        "Geometry": ("alignment", _alignment),
        "Light": ("light", _light),
    }
    if group not in known:
        return ""
    part, write = known[group]
    entry = errors.get(part)
    return write(entry) if isinstance(entry, dict) else ""


def confidence_remark(known: dict[str, Any]) -> str:
    """The figures of a ``confidence.json`` in sentences; empty if there are none."""
    channels = known.get("channels")
    if not isinstance(channels, dict):
        return ""
    parts = [
        f"{name}: ± {values['median_std']:.3f} in the middle, {100 * values['share_below_0.3']:.0f} % weak"
        for name, values in channels.items()
    ]
    out = [f"{'; '.join(parts)} (share of the surface below 0.3)."]
    flagged = known.get("metallic_mostly_prior") or {}
    if flagged.get("share", 0.0) > 0.0:
        out.append(
            f"The metallic of {100 * flagged['share']:.1f} % of the surface is mostly prior; "
            f"{100 * flagged.get('called_metal', 0.0):.1f} % of the surface is called metal nevertheless."
        )
    out.append("A sure value is wrong where the model is: shape, shadows, light. See the views' errors beside it.")
    return " ".join(out)


def _views(views: dict[str, Any]) -> str:
    parts = [f"{views['count']} views." if isinstance(views.get("count"), int) else ""]
    parts += [f"No LPIPS: {views['lpips_missing']}." if views.get("lpips_missing") else ""]
    return " ".join(part for part in parts if part)


def _footprint(material: dict[str, Any]) -> str:
    radius = material.get("footprint")
    if not isinstance(radius, (int, float)):
        return ""
    return f"Both materials averaged over a radius of {radius:.3g} (the object's own unit) before they were compared."


def _light(light: dict[str, Any]) -> str:
    """The main lights one by one."""
    items = []
    for entry in filter(lambda entry: isinstance(entry, dict), light.get("directions") or []):
        numbers: list[Any] = [entry.get(k) for k in ("energy_share", "azimuth", "elevation")]
        if all(isinstance(number, (int, float)) for number in numbers):
            share, azimuth, elevation = numbers
            angle = entry.get("angle")
            off = f"{angle:.1f}° off" if isinstance(angle, (int, float)) else "not found"
            place = f"azimuth {azimuth:.0f}°, elevation {elevation:.0f}°"
            items.append(f"{100 * share:.0f} % of the light at {place}: {off}")
    return f"Main lights (azimuth 0 is −Z, 90° is +X): {'; '.join(items)}." if items else ""


def _material(material: dict[str, Any]) -> str:
    parts = []
    counts = {
        "compared": material.get("used"),
        "never seen by a training view": material.get("unseen"),
        "too far from the result": material.get("too_far"),
        "with opposed normals": material.get("opposed"),
    }
    items = [f"{count} {what}" for what, count in counts.items() if isinstance(count, int)]
    if items:
        parts.append(f"{material.get('samples', '?')} points of the reference's surface: {', '.join(items)}.")
    scale = material.get("albedo_scale")
    if isinstance(scale, list) and all(isinstance(value, (int, float)) for value in scale):
        parts.append(f"Scale of the albedo: {', '.join(f'{value:.3f}' for value in scale)} (red, green, blue).")
    if isinstance(material.get("matched_back"), (int, float)):
        parts.append(f"{100.0 * material['matched_back']:.2f} % of the result's own seen surface has a partner.")
    parts.append("Lit: albedo luminance above 0.02; dark: below 0.1.")
    parts.append("False metal: share of the dielectric surface with a metallic above 0.5. ± is one standard error.")
    return " ".join(parts)


def _alignment(alignment: dict[str, Any]) -> str:
    mode = alignment.get("mode")
    if not isinstance(mode, str):
        return ""
    return "The result was compared without alignment." if mode == "none" else f"The result was aligned first: {mode}."
