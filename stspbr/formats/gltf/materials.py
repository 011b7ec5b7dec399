"""glTF 2.0 materials to :class:`Material`: textures decoded, colour spaces undone, factors multiplied in."""

from __future__ import annotations

from typing import Any

import numpy as np

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.gltf.document import Document
from stspbr.formats.images import read_pixels, three_channels
from stspbr.scene.material import Material

_REPEAT = 10497
_OLD_MODEL = "KHR_materials_pbrSpecularGlossiness"


def read_materials(document: Document, indices: list[int]) -> list[Material]:
    """The materials at ``indices`` (−1: glTF's default material), with unique names."""
    entries = document.json.get("materials", [])
    decoded: dict[int, np.ndarray] = {}
    taken: set[str] = set()
    out = []
    for index in indices:
        entry = entries[index] if index >= 0 else {}
        name = entry.get("name") or f"material_{max(index, 0)}"
        while name in taken:
            name += "_"
        taken.add(name)
        out.append(_material(document, entry, name, decoded))
    return out


def used_texcoord(document: Document, entry: dict[str, Any]) -> int:
    """The one texture coordinate set that a material's maps use; StspbrError if they use several."""
    sets = {_transform(info).get("texCoord", info.get("texCoord", 0)) for info in _texture_infos(entry)}
    if len(sets) > 1:
        name = entry.get("name", "a material")
        raise StspbrError(f"{document.path}: {name} uses several sets of texture coordinates: export it with one")
    return sets.pop() if sets else 0


def texture_transform(document: Document, entry: dict[str, Any], uvs: np.ndarray) -> np.ndarray:
    """``uvs`` ``[N, 2]`` after the material's KHR_texture_transform, which all its maps must share."""
    transforms = [
        (tuple(t.get("offset", (0.0, 0.0))), float(t.get("rotation", 0.0)), tuple(t.get("scale", (1.0, 1.0))))
        for t in map(_transform, _texture_infos(entry))
    ]
    if len(set(transforms)) > 1:
        name = entry.get("name", "a material")
        raise StspbrError(f"{document.path}: the maps of {name} have different texture transforms: export it with one")
    if not transforms:
        return uvs
    offset, angle, scale = transforms[0]
    u, v = uvs[:, 0] * scale[0], uvs[:, 1] * scale[1]
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * u + s * v + offset[0], -s * u + c * v + offset[1]], axis=1)


def repeats(document: Document, entry: dict[str, Any]) -> bool:
    """Whether all of a material's textures repeat outside of the unit square, as the rest of the package assumes."""
    used = (document.json["textures"][info["index"]].get("sampler") for info in _texture_infos(entry))
    wraps = [document.json["samplers"][sampler] for sampler in used if sampler is not None]
    return all(wrap.get(axis, _REPEAT) == _REPEAT for wrap in wraps for axis in ("wrapS", "wrapT"))


def _material(document: Document, entry: dict[str, Any], name: str, decoded: dict[int, np.ndarray]) -> Material:
    pbr = entry.get("pbrMetallicRoughness", {})
    extensions = entry.get("extensions", {})
    if _OLD_MODEL in extensions and not pbr:
        raise StspbrError(f"{document.path}: {name} is specular-glossiness: convert it to metallic-roughness")
    left_out = {key for key in extensions if key.startswith("KHR_materials_")} - {_OLD_MODEL}
    if left_out:
        document.notes.append(f"{name}: {', '.join(sorted(left_out))} left out")
    if "emissiveTexture" in entry or any(entry.get("emissiveFactor", ())):
        document.notes.append(f"{name}: emission is left out")

    def pixels(info: dict[str, Any], channels: int) -> np.ndarray:
        return _pixels(document, info["index"], channels, decoded)

    base, packed = pbr.get("baseColorTexture"), pbr.get("metallicRoughnessTexture")
    colour = np.asarray(pbr.get("baseColorFactor", (1.0, 1.0, 1.0, 1.0))[:3], np.float32)
    albedo = np.broadcast_to(colour, (1, 1, 3)) if base is None else srgb_to_linear(pixels(base, 3)) * colour

    rough, metal = (np.float32(pbr.get(key, 1.0)) for key in ("roughnessFactor", "metallicFactor"))
    one = np.ones((1, 1, 3), np.float32) if packed is None else pixels(packed, 3)
    roughness, metallic = one[..., 1:2] * rough, one[..., 2:3] * metal

    occlusion, info = None, entry.get("occlusionTexture")
    if info is not None:
        occlusion = 1.0 + np.float32(info.get("strength", 1.0)) * (pixels(info, 1) - 1.0)

    normal: np.ndarray | None = None
    info = entry.get("normalTexture")
    if info is not None:
        normal = pixels(info, 3) * 2.0 - 1.0
        scale = np.float32(info.get("scale", 1.0))
        if scale != 1.0:
            normal = normal * np.array([scale, scale, 1.0], np.float32)
            normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-8)

    return Material.of(albedo, roughness, metallic, occlusion, normal, name)


def _pixels(document: Document, texture: int, channels: int, decoded: dict[int, np.ndarray]) -> np.ndarray:
    """A texture's stored numbers ``[H, W, channels]`` without alpha; a grey image counts as three equal channels."""
    entry = document.json["textures"][texture]
    if "source" not in entry:
        kinds = ", ".join(entry.get("extensions", {})) or "no image"
        raise StspbrError(f"{document.path}: texture {texture} has {kinds}: export its textures as PNG or JPEG")
    source = entry["source"]
    if source not in decoded:
        image = document.json["images"][source]
        data = document.view(image["bufferView"]) if "bufferView" in image else document.uri(image["uri"])
        decoded[source] = read_pixels(data, f"{document.path}: image {image.get('name') or source}")
    return three_channels(decoded[source])[..., :channels]


def _texture_infos(entry: dict[str, Any]) -> list[dict[str, Any]]:
    pbr = entry.get("pbrMetallicRoughness", {})
    found = [pbr.get("baseColorTexture"), pbr.get("metallicRoughnessTexture")]
    found += [entry.get("normalTexture"), entry.get("occlusionTexture")]
    return [info for info in found if info is not None]


def _transform(info: dict[str, Any]) -> dict[str, Any]:
    return info.get("extensions", {}).get("KHR_texture_transform", {})
