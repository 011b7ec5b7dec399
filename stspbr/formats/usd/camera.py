"""USD cameras as pinhole cameras: apertures, offsets, focal length, and how an aperture is fitted to an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.usd.stage import rigid_and_scale
from stspbr.scene.camera import Camera

Fit = Literal["auto", "horizontal", "vertical", "both"]
_POLICIES = ("expandAperture", "cropAperture", "adjustApertureWidth", "adjustApertureHeight", "adjustPixelAspectRatio")
_FROM_FIT = {"horizontal": "adjustApertureHeight", "vertical": "adjustApertureWidth", "both": "adjustPixelAspectRatio"}


@dataclass(frozen=True)
class ApertureFit:
    """What is done if aperture and image have different aspects, in the terms of UsdRender.

    Attributes:
        policy: an ``aspectRatioConformPolicy`` of ``UsdRenderSettings``.
        pixel_aspect: width of a pixel over its height.
    """

    policy: str
    pixel_aspect: float = 1.0

    def fitted(self, horizontal: float, vertical: float, width: int, height: int) -> tuple[float, float]:
        """The aperture that an image of ``width × height`` pixels shows; offsets stay as they are."""
        if self.policy == "adjustPixelAspectRatio":
            return horizontal, vertical
        aspect = width * self.pixel_aspect / height
        wider = (aspect > horizontal / vertical) == (self.policy == "expandAperture")
        keep_vertical = {"adjustApertureWidth": True, "adjustApertureHeight": False}.get(self.policy, wider)
        return (vertical * aspect, vertical) if keep_vertical else (horizontal, horizontal / aspect)


def aperture_fit(stage: Any, camera: Any, fit: Fit) -> ApertureFit:
    """How apertures of ``camera`` (a prim) are fitted.

    USD's cameras have no film fit of their own. With ``"auto"`` the ``aspectRatioConformPolicy`` and
    ``pixelAspectRatio`` of the render product or settings that use this camera count, if the stage has one such;
    else the horizontal aperture counts and the vertical one follows from the image's aspect (square pixels).
    """
    if fit != "auto":
        return ApertureFit(_FROM_FIT[fit])
    found = {
        ApertureFit(str(policy), float(aspect))
        for policy, aspect in _render_settings(stage, camera)
        if policy in _POLICIES and aspect and aspect > 0
    }
    return found.pop() if len(found) == 1 else ApertureFit(_FROM_FIT["horizontal"])


def camera_at(
    prim: Any, time: float, width: int, height: int, rotation: np.ndarray, metres: float, fit: ApertureFit
) -> Camera:
    """The camera of a ``UsdGeomCamera`` prim at one time code, for an image of ``width × height`` pixels.

    The view's window is ``[offset − aperture/2, offset + aperture/2]`` on both axes (x to the right, y up), over the
    focal length; a positive horizontal offset moves the principal point to the left of the image, a positive
    vertical one down. A uniform scale above the camera is taken out: it changes no ray.

    Args:
        rotation, metres: of :func:`stspbr.formats.usd.stage.up_and_metres`.

    Raises:
        StspbrError: orthographic; apertures, focal length or clipping range that are not positive; a transform
            that shears, mirrors or scales unevenly.
    """
    from pxr import Gf, UsdGeom

    where = f"camera {prim.GetPath()} at frame {time:g}"
    lens = UsdGeom.Camera(prim).GetCamera(time)
    if lens.projection == Gf.Camera.Orthographic:
        raise StspbrError(f"{where} is orthographic: only perspective cameras can be used")
    numbers = np.array([lens.focalLength, lens.horizontalAperture, lens.verticalAperture], np.float64)
    if not np.isfinite(numbers).all() or (numbers <= 0).any():
        raise StspbrError(f"{where}: focal length and apertures must be positive, they are {numbers.tolist()}")
    near, far = lens.clippingRange.min * metres, lens.clippingRange.max * metres
    if not 0 < near < far:
        raise StspbrError(f"{where}: its clippingRange ({near:g} to {far:g} m) must be positive and increasing: fix it")
    wide, high = fit.fitted(numbers[1], numbers[2], width, height)
    turn, place, _ = rigid_and_scale(np.array(lens.transform, np.float64).T, where)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation @ turn, rotation @ place * metres
    return Camera(
        pose,
        fx=float(numbers[0] / wide * width),
        fy=float(numbers[0] / high * height),
        cx=width / 2 - lens.horizontalApertureOffset / wide * width,
        cy=height / 2 + lens.verticalApertureOffset / high * height,
        width=width,
        height=height,
        near=float(near),
        far=float(far),
    )


def camera_remarks(prim: Any, time: float, width: int, height: int, fit: ApertureFit) -> list[str]:
    """Remarks on a camera: apertures that disagree with the image, depth of field, exposure."""
    from pxr import UsdGeom

    schema = UsdGeom.Camera(prim)
    lens = schema.GetCamera(time)
    remarks = []
    aspect = lens.horizontalAperture / lens.verticalAperture
    shown = width * fit.pixel_aspect / height
    if abs(shown / aspect - 1) > 5e-3 and fit.policy != "adjustPixelAspectRatio":
        wide, high = fit.fitted(lens.horizontalAperture, lens.verticalAperture, width, height)
        rule = "horizontal" if abs(wide - lens.horizontalAperture) < 1e-9 * wide else "vertical"
        remarks.append(
            f"camera {prim.GetPath()}: its apertures have the aspect {aspect:.4g}, the images {shown:.4g}: the "
            f"{rule} aperture counts ({fit.policy}, {wide:.4g} × {high:.4g}); choose another with --fit"
        )
    if lens.fStop > 0:
        remarks.append(f"camera {prim.GetPath()} has depth of field (f/{lens.fStop:g}): blurred parts stay blurred")
    if hasattr(schema, "ComputeLinearExposureScale"):  # from usd-core 25 on
        exposure = float(schema.ComputeLinearExposureScale(time))
        if abs(exposure - 1) > 1e-3:
            remarks.append(f"camera {prim.GetPath()} has an exposure of {exposure:.4g}: it is not applied to images")
    return remarks


def _render_settings(stage: Any, camera: Any) -> list[tuple[str, float]]:
    """Policy and pixel aspect of every render product that uses the camera; a product inherits its settings'."""
    from pxr import UsdRender

    out = []
    for prim in stage.Traverse():
        if not prim.IsA(UsdRender.Settings):
            continue
        settings = UsdRender.Settings(prim)
        products = [stage.GetPrimAtPath(path) for path in settings.GetProductsRel().GetForwardedTargets()]
        users = [UsdRender.Product(product) for product in products if product and product.IsA(UsdRender.Product)]
        for user in users or [settings]:
            targets = user.GetCameraRel().GetForwardedTargets() or settings.GetCameraRel().GetForwardedTargets()
            if camera.GetPath() not in targets:
                continue

            def value(name: str, user: Any = user, settings: Any = settings) -> Any:
                own = user.GetPrim().GetAttribute(name)
                return own.Get() if own.HasAuthoredValue() else settings.GetPrim().GetAttribute(name).Get()

            out.append((value("aspectRatioConformPolicy"), value("pixelAspectRatio")))
    return out
