"""What can be wrong with a capture, found when it is read and reported with the frame's name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from stspbr.errors import StspbrError
from stspbr.notes import Log, first_few
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.object_sphere import COVERED, estimate_object_sphere, mask_place, project


def check_capture(capture: Capture, min_train: int = 10) -> list[str]:
    """Check every frame, and the frames against each other.

    Args:
        min_train: fewer training frames than this give a warning.

    Returns:
        Warnings, one line per kind: few frames, none held out, colour outside the mask, clipped pixels, a mask that
        lies where the pose does not put the object.

    Raises:
        StspbrError: an image that does not fit its camera; NaN, infinite or negative pixels; an empty or missing
            mask; a pose that is not rigid; duplicate frames; no training frames; a camera that does not see the
            object. The line names the frame and the remedy.
    """
    if not capture.frames:
        raise StspbrError("the capture has no frames: check the path")
    warnings: list[str] = []
    kinds: dict[str, list[str]] = {}  # the same of many frames is one line
    digests = []
    for frame in capture.frames:
        _check_camera(frame)
        found = frame.summary(pixel_findings)
        if found.fault:
            raise StspbrError(found.fault)
        for text in found.warnings:
            kinds.setdefault(text, []).append(frame.name)
        digests.append(found.digest)
    _check_duplicates(capture.frames, digests)
    train, test = len(capture.split("train")), len(capture.split("test"))
    if train == 0:
        raise StspbrError('the capture has no training frames: mark some with "split": "train"')
    if train < min_train:
        warnings.append(f"only {train} training frames: expect errors where few of them look, better 50 and more")
    if test == 0:
        warnings.append("no held-out frames: the result cannot be judged on unseen views")
    if capture.light is not None:
        radiance = capture.light.radiance
        if radiance.ndim != 3 or not np.isfinite(radiance).all() or (radiance < 0).any():
            raise StspbrError("the known light has NaN, infinite or negative pixels: export it again")
    _check_views(capture.frames, kinds)
    _check_principal_points(capture.frames, kinds)
    for text, names in kinds.items():
        where = f"frame {names[0]}" if len(names) == 1 else first_few(names, "frames")
        warnings.append(f"{where}: {text}")
    return warnings


@dataclass(frozen=True)
class PixelFindings:
    """What a check of one frame's pixels found: the fault that refuses it, or warnings, and a hash to find twins by."""

    fault: str = ""
    warnings: tuple[str, ...] = ()
    digest: bytes = b""


def pixel_findings(frame: Frame) -> PixelFindings:
    """Check the pixels of one frame; use it as ``frame.summary(pixel_findings)``."""
    warnings: list[str] = []
    try:
        _check_sizes(frame)
        _check_pixels(frame, warnings)
    except StspbrError as error:
        return PixelFindings(str(error))
    digest = hashlib.sha256(np.ascontiguousarray(frame.image).data)
    digest.update(np.ascontiguousarray(frame.alpha).data)
    return PixelFindings("", tuple(warnings), digest.digest())


class RefusedCapture(StspbrError):
    """A capture that was read but fails its check; ``capture`` is available for inspection."""

    def __init__(self, message: str, capture: Capture) -> None:
        super().__init__(message)
        self.capture = capture


def checked(capture: Capture, on_warning: Log) -> Capture:
    """``capture`` near the origin and after :func:`check_capture`: the last step of every reader.

    Each warning is handed to ``on_warning``.

    Raises:
        RefusedCapture: what :func:`check_capture` finds.
    """
    capture = capture.near_origin()
    try:
        warnings = check_capture(capture)
    except StspbrError as error:
        raise RefusedCapture(str(error), capture) from error
    if on_warning is not None:
        for warning in warnings:
            on_warning(warning)
    return capture


def _check_camera(frame: Frame) -> None:
    name, camera = frame.name, frame.camera
    if frame.split not in ("train", "test"):
        raise StspbrError(f"frame {name}: its split is {frame.split!r}: it must be train or test")
    intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float64)
    if not np.isfinite(intrinsics).all() or camera.fx <= 0 or camera.fy <= 0:
        raise StspbrError(f"frame {name}: its focal length is not a positive number: check fl_x or camera_angle_x")
    # a crop far from the middle of a large image leaves it well outside; more than this is a mistake in the file
    width, height = camera.width, camera.height
    if not (-20 * width < camera.cx < 20 * width and -20 * height < camera.cy < 20 * height):
        raise StspbrError(f"frame {name}: its principal point is far outside the image: check cx and cy")
    _check_rigid(name, "camera matrix", camera.camera_to_world)
    _check_rigid(name, "object_to_world", frame.object_to_world)


def _check_sizes(frame: Frame) -> None:
    name, camera = frame.name, frame.camera
    if frame.image.ndim != 3 or frame.image.shape[-1] != 3:
        raise StspbrError(f"frame {name}: its image has shape {frame.image.shape}, not [height, width, 3]")
    height, width = frame.image.shape[:2]
    if (height, width) != (camera.height, camera.width):
        raise StspbrError(
            f"frame {name}: the image is {width}x{height} but its camera {camera.width}x{camera.height}: "
            "give w, h and the focal length of this very image"
        )
    if frame.alpha.shape != (height, width, 1):
        raise StspbrError(f"frame {name}: its mask has shape {frame.alpha.shape[:2]}, the image is {height}x{width}")


def _check_rigid(name: str, what: str, matrix: np.ndarray) -> None:
    m = np.asarray(matrix, np.float64)
    if m.shape != (4, 4) or not np.isfinite(m).all() or np.abs(m[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise StspbrError(f"frame {name}: its {what} must be a 4x4 pose with last row 0 0 0 1: export the poses again")
    gram = m[:3, :3].T @ m[:3, :3]
    if np.abs(gram - np.eye(3)).max() > 1e-3:
        scale = np.cbrt(abs(np.linalg.det(m[:3, :3])))
        raise StspbrError(f"frame {name}: its {what} is not rigid (scale {scale:.4g}): take scale and shear out")
    if np.linalg.det(m[:3, :3]) < 0:
        raise StspbrError(f"frame {name}: its {what} mirrors the world: flip one axis of the poses")


def _check_pixels(frame: Frame, warnings: list[str]) -> None:
    name, image, alpha = frame.name, frame.image, frame.alpha
    if not np.isfinite(image).all():
        bad = int((~np.isfinite(image)).any(axis=-1).sum())
        raise StspbrError(f"frame {name}: {bad} pixels are NaN or infinite: render or export the image again")
    if image.min(initial=0.0) < 0:
        bad = int((image < 0).any(axis=-1).sum())
        raise StspbrError(f"frame {name}: {bad} pixels are negative: clip the image at 0 (a sharpening filter?)")
    if not np.isfinite(alpha).all() or alpha.min() < 0 or alpha.max() > 1 + 1e-3:
        raise StspbrError(f"frame {name}: its mask has values outside [0, 1]: export it again")
    if alpha.max() <= COVERED:
        raise StspbrError(f"frame {name}: its mask is empty: the object is not in it, remove the frame or fix the mask")
    if alpha.min() >= 0.999:
        raise StspbrError(f"frame {name}: has no mask, every pixel is covered: give alpha in the image or a mask_path")
    outside = alpha[..., 0] <= 0
    brightest = np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])
    if outside.any() and float(brightest[outside].max()) > 1e-3:
        warnings.append("there is colour where the mask is 0: the image is not premultiplied by alpha")
    if np.isfinite(frame.saturation):
        inside = alpha[..., 0] > COVERED
        clipped = float((brightest[inside] >= 0.999 * frame.saturation).mean())
        if clipped > 0.1:
            warnings.append("more than 10% of the object is clipped: expose darker or capture HDR")


def _check_duplicates(frames: list[Frame], digests: list[bytes]) -> None:
    names: set[str] = set()
    images: dict[bytes, str] = {}
    poses: dict[tuple[float, ...], str] = {}
    for frame, digest in zip(frames, digests, strict=True):
        if frame.name in names:
            raise StspbrError(f"frame {frame.name}: the capture has two frames of this name: remove one")
        names.add(frame.name)
        twin = images.setdefault(digest, frame.name)
        if twin != frame.name:
            raise StspbrError(f"frame {frame.name}: the same image as {twin}: remove one")
        camera = frame.camera
        numbers = [camera.fx, camera.fy, camera.cx, camera.cy]
        key = np.concatenate([np.ravel(camera.camera_to_world), np.ravel(frame.object_to_world), numbers])
        twin = poses.setdefault(tuple(np.round(key, 7) + 0.0), frame.name)
        if twin != frame.name:
            raise StspbrError(f"frame {frame.name}: the same camera and object pose as {twin}: remove one")


def _check_principal_points(frames: list[Frame], kinds: dict[str, list[str]]) -> None:
    """Warn of principal points that would be in the middle of an image of another size; not of crops of one lens."""
    lenses = {(frame.camera.fx, frame.camera.fy) for frame in frames}
    if len(lenses) == 1 and len({(frame.camera.cx, frame.camera.cy) for frame in frames}) > 1:
        return
    for frame in frames:
        camera = frame.camera
        x, y = 2 * camera.cx / camera.width, 2 * camera.cy / camera.height
        if abs(x / y - 1 if y else 1) < 0.1 and not 0.6 < x < 1.6:
            text = "its principal point is in a corner, as if the intrinsics were those of an image of another size"
            kinds.setdefault(f"{text}: check cx, cy, w and h", []).append(frame.name)


def _check_views(frames: list[Frame], kinds: dict[str, list[str]]) -> None:
    """Whether the cameras see the place where most masks put the object."""
    sphere = estimate_object_sphere(frames)
    if sphere is None:
        return
    centre, radius = sphere
    seen = [(frame, *project(frame, centre)) for frame in frames]
    away = [frame.name for frame, depth, _, _ in seen if depth <= 0]
    if len(away) > len(frames) // 2:
        raise StspbrError(
            f"frame {away[0]} and {len(away) - 1} more look away from the object: camera matrices must be "
            "camera-to-world with OpenGL axes (looking along -Z); turn OpenCV ones by diag(1, -1, -1)"
        )
    for frame, depth, x, y in seen:
        camera = frame.camera
        margin = max(camera.fx, camera.fy) * radius / max(depth, 1e-12)
        inside = -margin < x < camera.width + margin and -margin < y < camera.height + margin
        if depth <= 0 or not inside:
            raise StspbrError(
                f"frame {frame.name}: its camera does not see the object, which the masks of the other frames "
                "put elsewhere: fix its pose or remove the frame"
            )
        mask_x, mask_y, _ = mask_place(frame)
        if np.hypot(x - mask_x, y - mask_y) > 1.25 * margin + 1.0:
            kinds.setdefault("its mask is not where its pose puts the object: check both", []).append(frame.name)
