"""UsdPreviewSurface networks to :class:`Material`: textures decoded, colour spaces undone, scale and bias applied."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.images import HDR_SUFFIXES, read_pixels
from stspbr.formats.map_lookups import Lookup, common_lookup, tiled
from stspbr.formats.usd.stage import asset_file
from stspbr.notes import Notes
from stspbr.scene.material import Material

_NEUTRAL = {"normal": np.array([[[0.0, 0.0, 1.0]]], np.float32), "occlusion": np.ones((1, 1, 1), np.float32),
            "opacity": np.ones((1, 1, 1), np.float32)}  # fmt: skip
_PNG16 = 24, 16  # the byte of a PNG that holds its bit depth


@dataclass
class SurfaceMaterial:
    """A material and how its maps are looked up.

    Attributes:
        lookup: of its maps, in USD's coordinates (v upwards); None if it has none.
    """

    material: Material
    lookup: Lookup | None = None


@dataclass
class _Lookups:
    """The textures of one material: how each input looks its own up, and the files decoded so far."""

    where: str
    decoded: dict[str, tuple[np.ndarray, bool]] = field(default_factory=dict)
    found: dict[str, Lookup] = field(default_factory=dict)


def read_surface(stage: Any, material: Any, name: str, where: str, notes: Notes) -> SurfaceMaterial:
    """The UsdPreviewSurface of a ``UsdShade.Material``; what it has beyond our maps goes to ``notes``.

    A material without such a surface is grey, with a note.

    Raises:
        StspbrError: the specular workflow; a texture that is missing or cannot be read; maps of one material on
            different texture coordinates.
    """
    source = material.ComputeSurfaceSource()
    surface = source[0] if isinstance(source, tuple) else source
    if not surface or surface.GetShaderId() != "UsdPreviewSurface":
        notes("it has no UsdPreviewSurface and becomes grey", name)
        return SurfaceMaterial(_plain(name, (0.18, 0.18, 0.18)))
    if _number(surface, "useSpecularWorkflow", 0):
        raise StspbrError(f"{where}: it uses the specular workflow: export it as metallic-roughness")
    lookups = _Lookups(where)

    def read(key: str, default: Any, channels: int) -> np.ndarray:
        return _map(stage, surface, key, default, channels, lookups, notes)

    maps = {
        "diffuseColor": read("diffuseColor", (0.18, 0.18, 0.18), 3),
        "roughness": read("roughness", 0.5, 1),
        "metallic": read("metallic", 0.0, 1),
        "normal": read("normal", (0.0, 0.0, 1.0), 3),
        "occlusion": read("occlusion", 1.0, 1),
        "opacity": read("opacity", 1.0, 1),
    }
    lookup, tiles = common_lookup(lookups.found, where, name, notes)
    for key in lookups.found:
        maps[key] = tiled(maps[key], tiles[key], where) if key in tiles else _NEUTRAL[key]
    normal, occlusion, opacity = maps["normal"], maps["occlusion"], maps["opacity"]
    threshold = _number(surface, "opacityThreshold", 0.0)
    opaque = opacity.min() >= (threshold if threshold > 0 else 1.0 - 1e-3)
    out = Material(
        albedo=maps["diffuseColor"],
        roughness=maps["roughness"],
        metallic=maps["metallic"],
        occlusion=None if (occlusion.shape[:2] == (1, 1) and occlusion[0, 0, 0] >= 1) else occlusion,
        normal=None if normal.shape[:2] == (1, 1) else normal,
        name=name,
        opacity=None if opaque else opacity,
        cutoff=threshold if threshold > 0 and not opaque else None,
    )
    _say_what_is_left_out(surface, name, notes)
    return SurfaceMaterial(out, lookup)


def plain_material(name: str, colour: tuple[float, float, float] = (0.18, 0.18, 0.18)) -> SurfaceMaterial:
    """A material without maps, dielectric and of USD's default roughness."""
    return SurfaceMaterial(_plain(name, colour))


def _plain(name: str, colour: tuple[float, float, float]) -> Material:
    def texel(*values: float) -> np.ndarray:
        return np.array(values, np.float32).reshape(1, 1, -1)

    return Material(texel(*colour), texel(0.5), texel(0.0), name=name)


def _map(
    stage: Any, surface: Any, key: str, default: Any, channels: int, lookups: _Lookups, notes: Notes
) -> np.ndarray:
    """One input as ``[H, W, channels]`` float32; a value is a single texel."""
    source = _producer(surface.GetInput(key))
    if source is None:
        value = default
    elif not _is_output(source):
        value = source.Get(_earliest())
        value = default if value is None else value
    else:
        texture = _shader(source)
        if texture.GetShaderId() == "UsdUVTexture":
            return _texture(stage, texture, source, key, channels, lookups, notes)
        notes(f"{key} comes from a {texture.GetShaderId()} and is left out", lookups.where)
        value = default
    return np.array(value, np.float32).reshape(1, 1, channels)


def _texture(
    stage: Any, texture: Any, output: Any, key: str, channels: int, lookups: _Lookups, notes: Notes
) -> np.ndarray:
    """The texels of a UsdUVTexture as its output gives them: colour space, then scale and bias, then the channel."""
    file = _producer(texture.GetInput("file"))
    asset = None if file is None else file.Get(_earliest())
    if asset is None or not asset.path:
        raise StspbrError(f"{lookups.where}: the texture of {key} has no file: export it again")
    if asset.path not in lookups.decoded:
        with asset_file(asset, stage, lookups.where) as path:
            hdr = path.suffix.lower() in HDR_SUFFIXES
            sixteen = path.suffix.lower() == ".png" and path.read_bytes()[_PNG16[0]] == _PNG16[1]
            lookups.decoded[asset.path] = read_pixels(path), not (hdr or sixteen)
    stored, eight_bits = lookups.decoded[asset.path]
    space = str(_value(texture, "sourceColorSpace", "auto"))
    count = stored.shape[-1]
    if space == "sRGB" or (space == "auto" and count >= 3 and eight_bits):
        coloured = count - (count in (2, 4))  # alpha is linear
        stored = np.concatenate([srgb_to_linear(stored[..., :coloured]), stored[..., coloured:]], axis=-1)
    colour = np.repeat(stored[..., :1], 3, axis=-1) if count <= 2 else stored[..., :3]
    alpha = stored[..., -1:] if count in (2, 4) else np.ones_like(stored[..., :1])
    rgba = np.concatenate([colour, alpha], axis=-1)
    scale = np.array(_value(texture, "scale", (1, 1, 1, 1)), np.float32)
    bias = np.array(_value(texture, "bias", (0, 0, 0, 0)), np.float32)
    if key == "normal" and eight_bits and (scale[:3] == 1).all() and (bias[:3] == 0).all():
        notes("its normal map has no scale and bias: 2 and -1 are assumed", lookups.where)
        scale, bias = np.array([2, 2, 2, 1], np.float32), np.array([-1, -1, -1, 0], np.float32)
    rgba = rgba * scale + bias
    for axis in ("wrapS", "wrapT"):
        mode = str(_value(texture, axis, "useMetadata"))
        if mode not in ("repeat", "useMetadata"):
            notes(f"{key} has {axis} = {mode}: read as repeat", lookups.where)
    lookups.found[key] = _coordinates(texture, lookups.where)
    name = output.GetBaseName()
    if channels == 3 and name == "rgb":
        return np.ascontiguousarray(rgba[..., :3])
    index = {"r": 0, "g": 1, "b": 2, "a": 3}.get(name, 0)
    return np.repeat(rgba[..., index : index + 1], channels, axis=-1)


def _coordinates(texture: Any, where: str) -> Lookup:
    """Primvar and transform of a texture's ``st``."""
    matrix = np.eye(2, 3)
    source = _producer(texture.GetInput("st"))
    if source is not None and _is_output(source) and _shader(source).GetShaderId() == "UsdTransform2d":
        node = _shader(source)
        angle = np.radians(float(_value(node, "rotation", 0.0)))
        scale = np.array(_value(node, "scale", (1, 1)), float)
        shift = np.array(_value(node, "translation", (0, 0)), float)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.c_[turn * scale, shift]
        matrix = np.eye(2, 3) if np.allclose(matrix, np.eye(2, 3)) else matrix
        source = _producer(node.GetInput("in"))
    if source is None or not _is_output(source):
        return Lookup.of("st", matrix)
    reader = _shader(source)
    if reader.GetShaderId() != "UsdPrimvarReader_float2":
        raise StspbrError(f"{where}: its texture coordinates are a {reader.GetShaderId()}: export them as a primvar")
    return Lookup.of(str(_value(reader, "varname", "st") or "st"), matrix)


def _say_what_is_left_out(surface: Any, name: str, notes: Notes) -> None:
    for key, neutral, what in (
        ("emissiveColor", 0.0, "emission"),
        ("clearcoat", 0.0, "clearcoat"),
        ("displacement", 0.0, "displacement"),
    ):
        source = _producer(surface.GetInput(key))
        if source is not None and (_is_output(source) or not np.allclose(source.Get(_earliest()), neutral)):
            notes(f"{what} is left out", name)
    if abs(_number(surface, "ior", 1.5) - 1.5) > 1e-3:
        notes("its index of refraction is taken as 1.5", name)


def _number(shader: Any, key: str, default: float) -> float:
    with contextlib.suppress(TypeError, ValueError):
        return float(_value(shader, key, default))
    return default


def _value(shader: Any, key: str, default: Any) -> Any:
    source = _producer(shader.GetInput(key))
    value = None if source is None or _is_output(source) else source.Get(_earliest())
    return default if value is None else value


def _producer(attribute: Any) -> Any:
    """The attribute that an input's value comes from, through material interfaces and node graphs; or None."""
    from pxr import UsdShade

    found = UsdShade.Utils.GetValueProducingAttributes(attribute) if attribute else []
    return found[0] if found else None


def _is_output(attribute: Any) -> bool:
    from pxr import UsdShade

    return UsdShade.Utils.GetType(attribute.GetName()) == UsdShade.AttributeType.Output


def _shader(attribute: Any) -> Any:
    from pxr import UsdShade

    return UsdShade.Shader(attribute.GetPrim())


def _earliest() -> Any:
    from pxr import Usd

    return Usd.TimeCode.EarliestTime()
