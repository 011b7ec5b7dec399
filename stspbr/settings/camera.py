"""Settings of what the cameras did: their response to radiance, their noise, and errors of their poses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stspbr.settings.parsing import Settings

_Switch = Literal["auto", "on", "off"]


class ResponseSettings(Settings):
    """The response of the cameras, fitted with the object."""

    mode: _Switch = Field(
        "auto", description="fit what the cameras made of radiance; auto: for 8-bit photographs, not for renders"
    )
    exposure: bool = Field(True, description="exposure and white balance of each view, beside those that are stated")
    curve: bool = Field(True, description="a tone curve per camera; off: the sRGB curve")
    vignetting: bool = Field(True, description="darkening towards the corners, per camera")
    one_sided: bool = Field(True, description="rendered brighter than a pixel that is nearly white is no error")
    noise: bool = Field(True, description="pixels weigh by the noise that is measured in the photographs")
    knots: int = Field(8, ge=3, le=64, description="pieces of a tone curve")
    curve_prior: float = Field(0.0003, ge=0, description="weight that holds tone curves to the sRGB curve")
    exposure_prior: float = Field(0.01, ge=0, description="weight that holds exposures to those that are stated")
    balance_prior: float = Field(0.03, ge=0, description="weight that holds white balances to those that are stated")
    vignetting_prior: float = Field(0.01, ge=0, description="weight that holds vignetting to none")


class PoseSettings(Settings):
    """Poses and lenses of the cameras, refined with the object."""

    mode: _Switch = Field(
        "off",
        description="refine the cameras' poses; auto: those of 8-bit photographs; not the default, because poses that "
        "are exact get a little worse",
    )
    start: float = Field(0.4, ge=0, le=1, description="fraction of the coarse stage from which on poses are refined")
    prior: float = Field(30.0, ge=0, description="weight that holds poses to those of the capture")
    intrinsics: bool = Field(True, description="refine focal length and principal point, too, one for all views")
    intrinsics_prior: float = Field(10.0, ge=0, description="weight that holds these to those of the capture")


class CameraSettings(Settings):
    """What the cameras did, in all stages."""

    response: ResponseSettings = Field(ResponseSettings(), description="exposure, tone curve, vignetting and noise")
    poses: PoseSettings = Field(PoseSettings(), description="poses and lenses")
    sharpness: _Switch = Field(
        "auto", description="views that are blurred, compared with the others, weigh less; auto: of 8-bit photographs"
    )
