"""The settings of `stspbr run photos`: everything from a folder of photographs to an asset."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stspbr.settings.capture import CapturePhotosSettings
from stspbr.settings.parsing import Settings

_OF_CAPTURE = CapturePhotosSettings.model_fields


class PhotoRunSettings(Settings):
    """A folder of photographs to an asset; ``quality`` names one of the recipes ``photos-…``."""

    folder: str = Field(description=_OF_CAPTURE["folder"].description)
    out: str | None = Field(
        None, description="the asset to write: .glb, .gltf, .obj, .usd, .usdz or .ply; none: DIR's name with .glb"
    )
    run: str | None = Field(None, description="the run's folder; none: runs/ and the name of DIR")
    quality: Literal["draft", "standard", "fine"] = Field(
        "standard", description="how much time to take: meant for about 5, 20 and 90 minutes on 8 cores"
    )
    masks: str | None = Field(None, description=_OF_CAPTURE["masks"].description)
    light: Literal["distant", "flash"] = Field("distant", description=_OF_CAPTURE["light"].description)
