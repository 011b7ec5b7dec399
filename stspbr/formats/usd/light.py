"""USD lights as one lat-long environment, and back: dome textures turned, distant lights as discs.

A dome's texture follows OpenEXR's lat-long layout: in the dome's own axes row 0 is +Y, the middle column is +Z and +X
lies to the *left* of it (a quarter of the width). Ours (:mod:`stspbr.scene.light`) has −Z in the middle and +X to its
right: the same map after half a turn about +Y, and so both have one handedness. ``DomeLight``'s pole is its own +Y
whatever the stage's up axis is (exporters add the op ``orientToStageUpAxis``); ``DomeLight_1``'s follows ``poleAxis``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.lights import read_light
from stspbr.formats.usd.stage import asset_file, local_to_world, rigid_and_scale
from stspbr.notes import Notes
from stspbr.scene.light import EnvironmentLight, latlong_to_direction, row_solid_angle, turned_latlong

LightChoice = Literal["auto", "dome", "none"]
HALF_TURN = np.diag([-1.0, 1.0, -1.0])  # our lat-long layout to USD's and back
_Z_POLE = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # the dome of poleAxis Z: +Y to +Z, +Z to −Y
_DISC_SIZE = (256, 512)


def read_lights(
    stage: Any,
    target: Any | None,
    times: Sequence[float],
    rotation: np.ndarray,
    choice: LightChoice = "auto",
    on_warning: Callable[[str], None] | None = None,
) -> EnvironmentLight | None:
    """The known light of a stage, in our world and layout.

    Visible domes are added up, with intensity, exposure, colour and temperature; distant lights are discs of exactly
    their irradiance. Any other light is near the object and not an environment: with ``"auto"`` the light is then
    unknown (to be learned), with ``"dome"`` what is distant counts and the rest is left out; both give a warning.

    Args:
        target: the object's prim: lights that are not linked to it do not count. None: all count.
        times: the time codes of the frames; the light must be the same at all of them.
        rotation: ``[3, 3]`` stage to world (:func:`stspbr.formats.usd.stage.up_and_metres`).

    Returns:
        The light, or None if there is none, or with ``"none"``.

    Raises:
        StspbrError: a light that changes from frame to frame; a dome's texture that is missing or not lat-long.
    """
    from pxr import Usd, UsdLux

    def warn(text: str) -> None:
        if on_warning is not None:
            on_warning(text)

    if choice == "none":
        return None
    domes: list[Any] = []
    distant: list[Any] = []
    near: list[Any] = []
    for prim in stage.Traverse(Usd.TraverseInstanceProxies()):
        if prim.HasAPI(UsdLux.LightAPI) and prim.GetTypeName() != "PortalLight" and _lit(prim, target, times):
            kind = str(prim.GetTypeName())
            group = domes if kind in ("DomeLight", "DomeLight_1") else distant if kind == "DistantLight" else near
            group.append(prim)
    if near:
        names = ", ".join(f"{prim.GetPath()} ({prim.GetTypeName() or 'a mesh'})" for prim in near)
        if choice == "auto":
            warn(f"lights that are not distant ({names}): the light counts as unknown; --light dome leaves them out")
            return None
        warn(f"lights that are not a distant environment are left out: {names}")
    maps = [_dome(stage, prim, times, rotation, warn) for prim in domes]
    if not maps and not distant:
        return None
    height, width = (max([m.shape[axis] for m in maps] or [_DISC_SIZE[axis]]) for axis in (0, 1))
    if distant and not any(m.shape[0] >= 64 for m in maps):
        height, width = _DISC_SIZE
    total = np.zeros((height, width, 3))
    for radiance in maps:
        same = radiance.shape[:2] == (height, width)
        total += radiance if same else turned_latlong(radiance, np.eye(3), (height, width))
    for prim in distant:
        add_disc(total, *_distant(prim, times, rotation))
    return EnvironmentLight(total.astype(np.float32))


def usd_latlong(radiance: np.ndarray) -> np.ndarray:
    """A map of our layout as a dome's texture, or the reverse: half a turn, exact for even widths."""
    return turned_latlong(radiance, HALF_TURN)


def add_disc(radiance: np.ndarray, direction: np.ndarray, half_angle: float, irradiance: np.ndarray) -> None:
    """Add a disc of light to a map of our layout, in place.

    A surface square to ``direction`` receives exactly ``irradiance`` ``[3]`` from it, whatever the map's size; a disc
    smaller than a texel fills one texel.

    Args:
        direction: ``[3]`` unit, to the light.
        half_angle: of the disc in radians, below π/2.
    """
    height, width = radiance.shape[:2]
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    centres = latlong_to_direction(np.stack(np.meshgrid(columns, rows), axis=-1))
    cosine = centres @ direction
    near = np.argwhere(np.arccos(np.clip(cosine, -1, 1)) < half_angle + 2 * np.pi / height)
    k = 8
    offset = (np.arange(k) + 0.5) / k
    inner = np.stack(np.meshgrid(offset, offset), axis=-1).reshape(-1, 2)
    uv = (near[:, None, ::-1] + inner) / (width, height)
    samples = latlong_to_direction(uv) @ direction
    share = (np.arccos(np.clip(samples, -1, 1)) <= half_angle).mean(axis=1)
    coverage = np.zeros((height, width))
    coverage[near[:, 0], near[:, 1]] = share
    if not share.any():
        coverage[np.unravel_index(cosine.argmax(), cosine.shape)] = 1.0
    received = (coverage * row_solid_angle(height, width)[:, None] * np.maximum(cosine, 0)).sum()
    radiance += coverage[..., None] * np.asarray(irradiance, np.float64) / received


def _lit(prim: Any, target: Any | None, times: Sequence[float]) -> bool:
    """Whether a light is visible, has an intensity at any of the frames, and is linked to the object."""
    from pxr import UsdGeom, UsdLux

    if UsdGeom.Imageable(prim).ComputeVisibility(times[0]) == UsdGeom.Tokens.invisible:
        return False
    light = UsdLux.LightAPI(prim)
    if not any(light.GetIntensityAttr().Get(time) for time in times):
        return False
    if target is None:
        return True
    return bool(light.GetLightLinkCollectionAPI().ComputeMembershipQuery().IsPathIncluded(target.GetPath()))


def _dome(
    stage: Any, prim: Any, times: Sequence[float], rotation: np.ndarray, warn: Callable[[str], None]
) -> np.ndarray:
    """A dome's radiance ``[H, W, 3]`` in our world and layout."""
    from pxr import UsdGeom, UsdLux

    where = f"dome light {prim.GetPath()}"
    turn = _still(prim, times, lambda time: _turn(prim, time), "turns")
    colour = _still(prim, times, lambda time: _colour(prim, time), "changes")
    if prim.GetTypeName() == "DomeLight_1":
        pole = str(UsdLux.DomeLight_1(prim).GetPoleAxisAttr().Get())
        if (str(UsdGeom.GetStageUpAxis(stage)) if pole == "scene" else pole) == "Z":
            turn = turn @ _Z_POLE
    elif UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.z and abs((rotation @ turn)[1, 1]) < 0.5:
        warn(
            f"{where}: its pole lies in the horizon of this Z-up stage, as USD has it without the op "
            "orientToStageUpAxis: if your renderer turned it upright, export it as DomeLight_1"
        )
    texture = prim.GetAttribute("inputs:texture:file")
    asset = _still(prim, times, texture.Get, "changes its texture")
    if asset is None or not asset.path:
        return np.broadcast_to(colour, (32, 64, 3)).copy()
    layout = str(prim.GetAttribute("inputs:texture:format").Get() or "automatic")
    if layout not in ("automatic", "latlong"):
        raise StspbrError(f"{where}: its texture is {layout}: convert it to latlong")
    with asset_file(asset, stage, where) as file:
        with Notes.into(warn) as notes:
            radiance = read_light(file, notes=notes).radiance
    # out(d) = texture(dome ← stage ← world): inverse rotations are transposes
    return turned_latlong(radiance * colour, HALF_TURN @ turn.T @ rotation.T)


def _distant(prim: Any, times: Sequence[float], rotation: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Direction to a distant light, half its angle, and its irradiance on a surface square to it.

    UsdLux: it shines along its own −Z with radiance ``colour``; normalised (or of angle 0), with irradiance ``colour``.
    """
    from pxr import UsdLux

    turn = _still(prim, times, lambda time: _turn(prim, time), "turns")
    colour = _still(prim, times, lambda time: _colour(prim, time), "changes")
    angle = _still(prim, times, lambda time: float(UsdLux.DistantLight(prim).GetAngleAttr().Get(time)), "changes")
    half = np.radians(np.clip(angle, 0.0, 178.0)) / 2
    normalised = bool(UsdLux.LightAPI(prim).GetNormalizeAttr().Get(times[0]))
    irradiance = colour if normalised or half <= 0 else colour * np.pi * np.sin(half) ** 2
    return rotation @ turn[:, 2], float(half), irradiance


def _turn(prim: Any, time: float) -> np.ndarray:
    from pxr import UsdGeom

    return rigid_and_scale(local_to_world(UsdGeom.XformCache(time), prim), f"light {prim.GetPath()}")[0]


def _colour(prim: Any, time: float) -> np.ndarray:
    """Linear radiance ``[3]``: intensity · 2^exposure · colour, and the colour temperature where it is enabled."""
    from pxr import UsdLux

    light = UsdLux.LightAPI(prim)
    colour = np.array(light.GetColorAttr().Get(time), np.float64)
    if light.GetEnableColorTemperatureAttr().Get(time):
        colour = colour * np.array(UsdLux.BlackbodyTemperatureAsRgb(light.GetColorTemperatureAttr().Get(time)))
    return colour * float(light.GetIntensityAttr().Get(time)) * 2.0 ** float(light.GetExposureAttr().Get(time))


def _still(prim: Any, times: Sequence[float], value: Callable[[float], Any], what: str) -> Any:
    """The value at the first frame, which must be that of all others."""
    first = value(times[0])
    for time in times[1:]:
        other = value(time)
        numbers = isinstance(first, np.ndarray | float)
        same = np.allclose(first, other, rtol=1e-5, atol=1e-6) if numbers else str(first) == str(other)
        if not same:
            raise StspbrError(
                f"light {prim.GetPath()} {what} between frames {times[0]:g} and {time:g}: the light must stay in the "
                "world; turn the object and the camera instead"
            )
    return first
