"""UsdPreviewSurface materials from :class:`Material`: one packed map for occlusion, roughness and metallic."""

from __future__ import annotations

from typing import Any

import numpy as np

from stspbr.files import safe_name
from stspbr.scene.material import Material, is_constant
from stspbr.scene.orm import pack_orm


class MaterialWriter:
    """Defines materials on a stage and gathers the images that they refer to.

    Args:
        stage: the ``Usd.Stage``.
        scope: path of the scope that the materials go into.
        folder: of the textures, relative to the layer.

    Attributes:
        images: file name in ``folder`` to (``[H, W, 3]`` values, whether they are to be sRGB-encoded).
    """

    def __init__(self, stage: Any, scope: Any, folder: str) -> None:
        from pxr import UsdGeom

        self.stage, self.scope, self.folder = stage, scope, folder
        self.images: dict[str, tuple[np.ndarray, bool]] = {}
        self._taken: set[str] = set()
        UsdGeom.Scope.Define(stage, scope)

    def add(self, name: str, material: Material) -> Any:
        """Define the material as prim ``name`` and return the ``UsdShade.Material``."""
        from pxr import Gf, Sdf, UsdShade

        types = Sdf.ValueTypeNames
        place = self.scope.AppendChild(name)
        out = UsdShade.Material.Define(self.stage, place)
        surface = self._shader(place.AppendChild("Surface"), "UsdPreviewSurface")
        stem = safe_name(name, self._taken)
        surface.CreateInput("useSpecularWorkflow", types.Int).Set(0)
        surface.CreateInput("ior", types.Float).Set(1.5)  # F0 = 0.04

        colour = surface.CreateInput("diffuseColor", types.Color3f)
        if is_constant(material.albedo):
            colour.Set(Gf.Vec3f(*(float(v) for v in np.clip(material.albedo[0, 0], 0, 1))))
        else:
            texture = self._texture(place, "Albedo", f"{stem}_albedo.png", material.albedo, srgb=True)
            colour.ConnectToSource(texture.CreateOutput("rgb", types.Float3))

        scalars = {"roughness": material.roughness, "metallic": material.metallic}
        if material.occlusion is not None and not bool((material.occlusion >= 1.0).all()):
            scalars["occlusion"] = material.occlusion
        if all(is_constant(image) for image in scalars.values()):
            for key, image in scalars.items():
                surface.CreateInput(key, types.Float).Set(float(np.clip(image[0, 0, 0], 0, 1)))
        else:
            packed = pack_orm(material.occlusion, material.roughness, material.metallic)
            texture = self._texture(place, "OcclusionRoughnessMetallic", f"{stem}_orm.png", packed, srgb=False)
            for key, channel in (("occlusion", "r"), ("roughness", "g"), ("metallic", "b")):
                if key in scalars:
                    surface.CreateInput(key, types.Float).ConnectToSource(texture.CreateOutput(channel, types.Float))

        if material.opacity is not None:
            opacity = surface.CreateInput("opacity", types.Float)
            if is_constant(material.opacity):
                opacity.Set(float(np.clip(material.opacity[0, 0, 0], 0, 1)))
            else:
                grey = np.repeat(material.opacity, 3, axis=-1)
                texture = self._texture(place, "Opacity", f"{stem}_opacity.png", grey, srgb=False)
                opacity.ConnectToSource(texture.CreateOutput("r", types.Float))
            if material.cutoff is not None:
                surface.CreateInput("opacityThreshold", types.Float).Set(float(material.cutoff))

        if material.normal is not None:
            stored = material.normal * 0.5 + 0.5
            texture = self._texture(place, "Normal", f"{stem}_normal.png", stored, srgb=False)
            texture.CreateInput("scale", types.Float4).Set(Gf.Vec4f(2, 2, 2, 1))
            texture.CreateInput("bias", types.Float4).Set(Gf.Vec4f(-1, -1, -1, 0))
            surface.CreateInput("normal", types.Normal3f).ConnectToSource(texture.CreateOutput("rgb", types.Float3))
        out.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", types.Token))
        return out

    def _texture(self, place: Any, kind: str, file: str, image: np.ndarray, *, srgb: bool) -> Any:
        """A UsdUVTexture of the material at ``place`` that repeats and is looked up at the primvar ``st``."""
        from pxr import Sdf

        types = Sdf.ValueTypeNames
        self.images[file] = (image, srgb)
        reader = self._shader(place.AppendChild("TextureCoordinates"), "UsdPrimvarReader_float2")
        reader.CreateInput("varname", types.String).Set("st")
        texture = self._shader(place.AppendChild(kind), "UsdUVTexture")
        texture.CreateInput("file", types.Asset).Set(Sdf.AssetPath(f"./{self.folder}/{file}"))
        texture.CreateInput("sourceColorSpace", types.Token).Set("sRGB" if srgb else "raw")
        for axis in ("wrapS", "wrapT"):
            texture.CreateInput(axis, types.Token).Set("repeat")
        texture.CreateInput("st", types.Float2).ConnectToSource(reader.CreateOutput("result", types.Float2))
        return texture

    def _shader(self, place: Any, identifier: str) -> Any:
        from pxr import UsdShade

        shader = UsdShade.Shader.Define(self.stage, place)
        shader.CreateIdAttr(identifier)
        return shader
