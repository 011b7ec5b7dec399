"""The settings of the exports."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from stspbr.settings.parsing import Settings, or_else

_GOES_WITH = {"texture_format": ("obj", "blender"), "quantized": ("glb", "gltf"), "lod": ("glb", "gltf", "obj", "ply")}


def _falling(budgets: list[int]) -> list[int]:
    if any(after >= before for before, after in pairwise(budgets)):
        raise ValueError
    return budgets


def _not_ktx2(value: Any) -> Any:
    if value == "ktx2":
        raise ValueError("stspbr has no KTX2 encoder; run `gltf-transform uastc` on a GLB")
    return value


_Budgets = Annotated[
    list[Annotated[int, Field(ge=4)]],
    AfterValidator(_falling),
    or_else("give falling numbers of at least 4 triangles, e.g. 10000,2500"),
]


class ExportSettings(Settings):
    """Write an asset for other tools."""

    to: Literal["glb", "gltf", "obj", "usd", "usdz", "ply", "blender"] = Field(description="the format")
    texture_bits: Literal[8, 16] = Field(8, description="bits per channel of PNG textures")
    texture_format: Annotated[Literal["png", "exr"], BeforeValidator(_not_ktx2)] = Field(
        "png", description="format of the textures; exr for obj and blender only"
    )
    original_frame: bool = Field(
        False, description="of a run: put the asset back into the world that the capture's poses came in"
    )
    quantized: bool = Field(False, description="glb, gltf: half the size, small errors")
    lod: _Budgets = Field([], description="most triangles of each level of detail; glb, gltf, obj, ply")

    @model_validator(mode="after")
    def _fit_together(self) -> ExportSettings:
        for name, formats in _GOES_WITH.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].get_default() and self.to not in formats:
                option = f"--{name.replace('_', '-')}{f' {value}' if name == 'texture_format' else ''}"
                raise ValueError(f"{option} goes with {', '.join(formats[:-1])} and {formats[-1]}, not with {self.to}")
        return self


class ExportDatasetSettings(Settings):
    """Write a capture as a data set for other tools."""

    to: Literal["llff", "nerf", "nerfstudio", "colmap"] = Field(description="the data set's format")
    image_format: Literal["png", "png16", "exr", "exr32"] = Field(
        "png", description="png, png16: sRGB of 8 or 16 bits; exr, exr32: linear radiance, half or full floats"
    )
    text: bool = Field(False, description="colmap: text files instead of binary ones")
