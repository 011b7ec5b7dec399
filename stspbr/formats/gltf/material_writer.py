"""Materials as glTF 2.0 has them: factors where a map is constant, else PNGs; occlusion, roughness, metallic packed."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import numpy as np

from stspbr.files import safe_name
from stspbr.formats.gltf.buffers import Buffers
from stspbr.formats.images import encode_png
from stspbr.scene.material import Material, is_constant
from stspbr.scene.orm import pack_orm, same_size


class MaterialWriter:
    """Turns materials into JSON and their maps into images, inside the buffer or as files.

    Args:
        bits: of the PNGs. has_uvs: whether the mesh can show maps.
        beside: what names of image files begin with; None puts the images into ``buffers``.

    Attributes:
        images: glTF's list. files: image files by name, with ``beside``. notes: remarks for the user.
    """

    def __init__(self, buffers: Buffers, bits: int, *, has_uvs: bool, beside: str | None) -> None:
        self.images: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.notes: list[str] = []
        self._buffers, self._bits, self._has_uvs, self._beside = buffers, bits, has_uvs, beside
        self._written: dict[bytes, int] = {}
        self._names: set[str] = set()

    def material(self, material: Material) -> dict[str, Any]:
        """The JSON of one material."""
        pbr: dict[str, Any] = {}
        opacity = np.ones((1, 1, 1), np.float32) if material.opacity is None else material.opacity
        if is_constant(material.albedo) and is_constant(opacity):
            values = np.concatenate([material.albedo[0, 0], opacity[0, 0]])
            pbr["baseColorFactor"] = [float(v) for v in np.clip(values, 0, 1)]
        elif material.opacity is None:
            pbr["baseColorTexture"] = self._texture(material, "albedo", material.albedo, srgb=True)
        else:
            albedo, alpha = same_size([material.albedo, opacity])
            pbr["baseColorTexture"] = self._texture(material, "albedo", albedo, srgb=True, alpha=alpha)
        cut = material.opacity is not None
        out: dict[str, Any] = {"name": material.name, "pbrMetallicRoughness": pbr, "doubleSided": cut}
        if cut:
            out["alphaMode"] = material.alpha_mode.upper()
            if material.cutoff is not None:
                out["alphaCutoff"] = float(material.cutoff)
        occluded = material.occlusion is not None and not (material.occlusion >= 1.0).all()
        if is_constant(material.roughness) and is_constant(material.metallic) and not occluded:
            pbr["roughnessFactor"] = float(np.clip(material.roughness[0, 0, 0], 0, 1))
            pbr["metallicFactor"] = float(np.clip(material.metallic[0, 0, 0], 0, 1))
        else:
            packed = pack_orm(material.occlusion, material.roughness, material.metallic)
            pbr["metallicRoughnessTexture"] = self._texture(material, "orm", packed, srgb=False)
            pbr["roughnessFactor"] = pbr["metallicFactor"] = 1.0
            if occluded:
                out["occlusionTexture"] = dict(pbr["metallicRoughnessTexture"])
        if material.normal is not None and (self._has_uvs or has_directions(material)):
            out["normalTexture"] = self._texture(material, "normal", material.normal * 0.5 + 0.5, srgb=False)
        return out

    def _texture(
        self, material: Material, kind: str, image: np.ndarray, *, srgb: bool, alpha: np.ndarray | None = None
    ) -> dict[str, Any]:
        height, width = image.shape[:2]
        if width & (width - 1) or height & (height - 1):
            self.notes.append(f"{material.name}: the {kind} map is {width}×{height}, not a power of two")
        data = encode_png(image, bits=self._bits, srgb=srgb, alpha=alpha)
        if data not in self._written:
            self._written[data] = len(self.images)
            self.images.append(self._image(f"{material.name}_{kind}", data))
        return {"index": self._written[data]}

    def _image(self, name: str, data: bytes) -> dict[str, Any]:
        if self._beside is None:
            return {"name": name, "mimeType": "image/png", "bufferView": self._buffers.view(data)}
        file = safe_name(f"{self._beside}_{name}", self._names) + ".png"
        self.files[file] = data
        return {"name": name, "uri": quote(file)}


def has_directions(material: Material) -> bool:
    """Whether a material's normal map contains any direction other than straight up."""
    return material.normal is not None and not bool((material.normal[..., :2] == 0).all())
