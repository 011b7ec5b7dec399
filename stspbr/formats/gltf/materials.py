"""glTF 2.0 materials to :class:`Material`: textures decoded, colour spaces undone, factors multiplied in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.gltf.document import Document
from stspbr.formats.gltf.specular_glossiness import metallic_roughness
from stspbr.formats.images import read_pixels, three_channels
from stspbr.formats.map_lookups import Lookup, common_lookup, tiled
from stspbr.scene.material import Material, scaled_normals

Key = tuple[int, tuple[float, float, float] | None]
_REPEAT = 10497
_OFF = {  # factors, and their default values that switch an extension off whatever else it has
    "KHR_materials_anisotropy": {"anisotropyStrength": 0.0}, "KHR_materials_clearcoat": {"clearcoatFactor": 0.0},
    "KHR_materials_diffuse_transmission": {"diffuseTransmissionFactor": 0.0}, "KHR_materials_ior": {"ior": 1.5},
    "KHR_materials_dispersion": {"dispersion": 0.0}, "KHR_materials_iridescence": {"iridescenceFactor": 0.0},
    "KHR_materials_sheen": {"sheenColorFactor": 0.0}, "KHR_materials_transmission": {"transmissionFactor": 0.0},
    "KHR_materials_volume": {"thicknessFactor": 0.0},
    "KHR_materials_specular": {
        "specularFactor": 1.0, "specularColorFactor": 1.0, "specularTexture": 0.0, "specularColorTexture": 0.0
    },
}  # fmt: skip
_OLD_MODEL = "KHR_materials_pbrSpecularGlossiness"


def read_materials(document: Document, keys: list[Key]) -> list[Material]:
    """A material for each key: an index (−1: glTF's default material) and the colour of vertices that multiplies it."""
    decoded: dict[int, np.ndarray] = {}
    taken: set[str] = set()
    out = []
    for index, colour in keys:
        name = material_name(document, index)
        while name in taken:
            name += "_"
        taken.add(name)
        made = _material(document, index, name, decoded)
        if colour is not None:
            made.albedo = made.albedo * np.asarray(colour, np.float32)
        out.append(made)
    return out


def content_of(document: Document, index: int) -> dict[str, Any]:
    """The JSON of a material; that of −1, glTF's default material, is empty."""
    return document.json.get("materials", [])[index] if index >= 0 else {}


def material_name(document: Document, index: int) -> str:
    """The name of a material, or one made from its index."""
    entry = content_of(document, index)
    return str(entry.get("name") or f"material_{max(index, 0)}")


def map_lookup(document: Document, index: int) -> tuple[Lookup | None, dict[str, tuple[int, int]]]:
    """The texture coordinates and the transform that a material's maps share; see :func:`common_lookup`."""
    entry = content_of(document, index)
    found = {}
    for kind, info in _texture_infos(entry).items():
        transform = info.get("extensions", {}).get("KHR_texture_transform", {})
        scale = np.asarray(transform.get("scale", (1.0, 1.0)), np.float64)
        angle = float(transform.get("rotation", 0.0))
        c, s = np.cos(angle), np.sin(angle)
        turned = np.array([[c, s], [-s, c]]) * scale
        matrix = np.c_[turned, np.asarray(transform.get("offset", (0.0, 0.0)), np.float64)]
        texcoord = transform.get("texCoord", info.get("texCoord", 0))
        found[kind] = Lookup.of(f"TEXCOORD_{texcoord}", matrix)
    return common_lookup(found, str(document.path), material_name(document, index), document.notes)


def repeats(document: Document, entry: dict[str, Any]) -> bool:
    """Whether all of a material's textures repeat outside of the unit square, as the rest of the package assumes."""
    used = (document.json["textures"][info["index"]].get("sampler") for info in _texture_infos(entry).values())
    wraps = [document.json["samplers"][sampler] for sampler in used if sampler is not None]
    return all(wrap.get(axis, _REPEAT) == _REPEAT for wrap in wraps for axis in ("wrapS", "wrapT"))


def _material(document: Document, index: int, name: str, decoded: dict[int, np.ndarray]) -> Material:
    entry = content_of(document, index)
    _, tiles = map_lookup(document, index)
    infos = {kind: info for kind, info in _texture_infos(entry).items() if kind in tiles}
    pbr, old = entry.get("pbrMetallicRoughness", {}), entry.get("extensions", {}).get(_OLD_MODEL)
    _say_what_is_left_out(document, entry, name)

    def pixels(kind: str, channels: int) -> np.ndarray:
        """A map's stored numbers ``[H, W, channels]``; ones without the map."""
        if kind not in infos:
            return np.ones((1, 1, channels), np.float32)
        held = _pixels(document, infos[kind]["index"], decoded)
        if channels == 4:  # no alpha: opaque
            alpha = held[..., -1:] if held.shape[-1] in (2, 4) else np.ones_like(held[..., :1])
            held = np.concatenate([three_channels(held), alpha], axis=-1)
        else:
            held = three_channels(held)
        return tiled(held[..., :channels], tiles[kind], f"{document.path}: {name}")

    if old is not None:
        diffuse = srgb_to_linear(pixels("albedo", 3)) * _factor(old.get("diffuseFactor", (1.0,) * 4))
        stored = pixels("specular-glossiness", 4)
        specular = srgb_to_linear(stored[..., :3]) * _factor(old.get("specularFactor", (1.0,) * 3))
        gloss = stored[..., 3:] * np.float32(old.get("glossinessFactor", 1.0))
        albedo, roughness, metallic = metallic_roughness(diffuse, specular, gloss)
        document.notes("it is specular-glossiness, converted to metallic-roughness of the same reflectance", name)
    else:
        colour = _factor(pbr.get("baseColorFactor", (1.0,) * 4))
        albedo = srgb_to_linear(pixels("albedo", 3)) * colour if "albedo" in infos else colour.reshape(1, 1, 3)
        rough, metal = (np.float32(pbr.get(key, 1.0)) for key in ("roughnessFactor", "metallicFactor"))
        packed = pixels("metallic-roughness", 3)
        roughness, metallic = packed[..., 1:2] * rough, packed[..., 2:3] * metal

    factor = pbr.get("baseColorFactor", (1.0,) * 4) if old is None else old.get("diffuseFactor", (1.0,) * 4)
    opacity, cutoff = _opacity(entry, factor, lambda: pixels("albedo", 4)[..., 3:])

    occlusion = None
    if "occlusion" in infos:
        occlusion = 1.0 + np.float32(infos["occlusion"].get("strength", 1.0)) * (pixels("occlusion", 1) - 1.0)
    normal = None
    if "normal" in infos:
        normal = pixels("normal", 3) * 2.0 - 1.0
        scale = float(infos["normal"].get("scale", 1.0))
        normal = normal if scale == 1.0 else scaled_normals(normal, scale)
    return Material.of(albedo, roughness, metallic, occlusion, normal, name, opacity, cutoff)


def _opacity(
    entry: dict[str, Any], factor: Any, texels: Callable[[], np.ndarray]
) -> tuple[np.ndarray | None, float | None]:
    """Opacity and cutoff as ``Material`` has them; None where the mode, or every texel, is opaque."""
    mode = entry.get("alphaMode", "OPAQUE")
    if mode == "OPAQUE":
        return None, None
    opacity = texels() * np.float32(factor[3] if len(factor) > 3 else 1.0)
    cutoff = float(entry.get("alphaCutoff", 0.5)) if mode == "MASK" else None
    opaque = opacity.min() >= (1.0 - 1e-3 if cutoff is None else cutoff)
    return (None, None) if opaque else (opacity, cutoff)


def _factor(values: Any) -> np.ndarray:
    return np.asarray(values[:3], np.float32)


def _say_what_is_left_out(document: Document, entry: dict[str, Any], name: str) -> None:
    extensions = entry.get("extensions", {})
    for key, held in sorted(extensions.items()):
        if key not in (_OLD_MODEL, "KHR_materials_emissive_strength") and not _changes_nothing(key, held):
            document.notes(f"{key} is left out", name)
    if any(entry.get("emissiveFactor", ())):
        document.notes("emission is left out", name)


def _changes_nothing(extension: str, held: dict[str, Any]) -> bool:
    """Whether a material's extension is switched off by its factors."""
    off = _OFF.get(extension, {})
    return bool(off) and all(np.all(np.asarray(held.get(key, value)) == value) for key, value in off.items())


def _pixels(document: Document, texture: int, decoded: dict[int, np.ndarray]) -> np.ndarray:
    """A texture's stored numbers ``[H, W, C]``."""
    entry = document.json["textures"][texture]
    if "source" not in entry:
        kinds = ", ".join(entry.get("extensions", {})) or "no image"
        raise StspbrError(f"{document.path}: texture {texture} has {kinds}: export its textures as PNG or JPEG")
    source = entry["source"]
    if source not in decoded:
        image = document.json["images"][source]
        data = document.view(image["bufferView"]) if "bufferView" in image else document.uri(image["uri"])
        decoded[source] = read_pixels(data, f"{document.path}: image {image.get('name') or source}")
    return decoded[source]


def _texture_infos(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the maps that are read refer to, by kind, the most important first."""
    pbr, old = entry.get("pbrMetallicRoughness", {}), entry.get("extensions", {}).get(_OLD_MODEL)
    if old is not None:
        own = {"albedo": old.get("diffuseTexture"), "specular-glossiness": old.get("specularGlossinessTexture")}
    else:
        own = {"albedo": pbr.get("baseColorTexture"), "metallic-roughness": pbr.get("metallicRoughnessTexture")}
    own |= {"normal": entry.get("normalTexture"), "occlusion": entry.get("occlusionTexture")}
    return {kind: info for kind, info in own.items() if info is not None}
