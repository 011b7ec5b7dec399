"""Captures from a folder of photographs: poses, undistortion, masks, and the object's own frame.

Photos that fail are left out with a reason; that all of them fail is the only error.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.datasets.lens import object_bounds, pinhole_image, undistorted, undistortion_map
from stspbr.datasets.posed_images import held_out
from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.optimize.progress import Reporter
from stspbr.photos.carried_masks import PosedPhoto, carry_masks, object_points
from stspbr.photos.consensus_hull import pixels_of
from stspbr.photos.grabcut import inside_box, require_opencv
from stspbr.photos.object_frame import moved_camera, object_frame
from stspbr.photos.photographs import Photo, display, find_masks, find_photos, read_mask, read_photo
from stspbr.photos.sparse_model import SparseModel, View
from stspbr.photos.structure_from_motion import (
    PoseOptions,
    check_camera_model,
    reconstruct_poses,
    require_pycolmap,
)
from stspbr.scene import Camera, Capture, Frame
from stspbr.settings import CapturePhotosSettings
from stspbr.stages.session import Session

_COVERED = 0.5
_LEAST_AREA = 1e-4  # share of the picture that the object must cover


@dataclass
class PhotoReport:
    """How it went, for people and for ``run.json``.

    Attributes:
        photos: how many there were; registered: how many have a pose; frames: how many are in the capture.
        reprojection_error: mean, in pixels of the photos.
        failed: why, by name, for all others.
        up_from: what the up axis was estimated from; notes: what else should be known.
    """

    photos: int
    registered: int = 0
    frames: int = 0
    reprojection_error: float = 0.0
    points: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    up_from: str = ""
    cameras: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Plain data for the artifact's ``run.json``."""
        return dict(vars(self))

    def lines(self) -> list[str]:
        """The report, one line a fact."""
        out = [
            f"registered {self.registered} of {self.photos} photos, reprojection error "
            f"{self.reprojection_error:.2f} pixels, {self.points} points; {self.frames} frames in the capture"
        ]
        out += [f"  camera: {camera}" for camera in self.cameras]
        out += [f"  up: from the {self.up_from}"] if self.up_from else []
        out += [f"  left out: {name}: {reason}" for name, reason in sorted(self.failed.items())]
        return out + [f"  note: {note}" for note in self.notes]


def capture_photos(session: Session, settings: CapturePhotosSettings) -> tuple[Capture, PhotoReport]:
    """Make a capture from photographs.

    Returns:
        Frames through pinhole cameras, the object about the origin with radius 1 and up along +Y, and
        ``original_from_world``; and the report, which has been printed already.

    Raises:
        StspbrError: no photos, masks that cannot be had, fewer than three photos that fit together, or no frame left.
    """
    require_pycolmap()
    require_opencv()
    check_camera_model(settings.camera_model)
    _check_mask_settings(settings)
    photos, failed = find_photos(settings.folder)
    report = PhotoReport(len(photos) + len(failed), failed=failed)
    total = 4 * len(photos)  # features, poses, images, masks
    out = session.run / "logs" / "capture"
    with (
        Reporter("capture", total, out, quiet=session.quiet, json_lines=session.json_lines) as reporter,
        _scratch(session.run) as folder,
    ):
        progress = _Progress(reporter)
        masks = find_masks(settings.masks, photos) if settings.masks else {}
        photos = _copied(photos, masks, folder, settings, failed)
        if settings.mask == "grabcut":
            _box_photo(settings, [photo.name for photo in photos])
        model = reconstruct_poses(
            photos,
            folder,
            PoseOptions(
                settings.camera_model,
                settings.shared_camera,
                settings.feature_size,
                settings.pairs,
                session.seed,
                session.threads,
            ),
            on_photo=progress.photo,
            on_message=reporter.message,
            mask_folder=folder / "masks" if settings.features == "object" else None,
        )
        failed |= model.failed
        report.registered, report.points = len(model.views), len(model.points)
        report.reprojection_error = model.reprojection_error
        report.cameras = _camera_lines(model)
        by_name = {photo.name: photo for photo in photos}
        progress.at(2 * len(photos))
        shots = _undistorted(model, by_name, masks, settings, failed, progress)
        progress.at(3 * len(photos))
        if settings.mask == "grabcut":
            _carry(shots, model, settings, session.seed, failed, progress)
        frames, similarity = _frames(shots, model, settings, by_name, report)
        progress.at(total)
        reporter.summary(report.lines())
    return Capture(frames, original_from_world=np.linalg.inv(similarity)), report


@dataclass(eq=False)  # told apart by identity: they hold arrays
class _Shot:
    """A photo without distortion: straight linear colours; alpha ``[H, W, 1]`` where there is a mask."""

    view: View
    camera: Camera
    image: np.ndarray
    valid: np.ndarray
    alpha: np.ndarray | None
    box: tuple[float, float, float, float] | None = None

    @property
    def coverage(self) -> np.ndarray:
        """``alpha`` of a shot that has one."""
        if self.alpha is None:
            raise StspbrError(f"{self.view.name} has no mask")
        return self.alpha

    def posed(self) -> PosedPhoto:
        return PosedPhoto(self.view.name, display(self.image), self.valid, self.camera, self.view.seen)


class _Progress:
    def __init__(self, reporter: Reporter) -> None:
        self._reporter, self._step = reporter, 0

    def photo(self, _: str = "") -> None:
        self.at(self._step + 1)

    def at(self, step: int) -> None:
        step = min(step, self._reporter.total_steps)
        if step > self._step:
            self._step = step
            self._reporter.step(step, {}, {}, {})


@contextlib.contextmanager
def _scratch(run: Path) -> Iterator[Path]:
    """A folder in the run that is gone afterwards."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".photos-", dir=run))
    except OSError as error:
        raise StspbrError(f"cannot write {run} ({error.strerror}): choose another run") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_mask_settings(settings: CapturePhotosSettings) -> None:
    if settings.masks and settings.mask == "grabcut":
        raise StspbrError("--masks and --mask grabcut exclude each other: give one of them")
    if settings.mask == "grabcut" and settings.box is None:
        raise StspbrError("--mask grabcut needs --box x,y,width,height: a box about the object in the first photo")
    if settings.mask is None and (settings.box or settings.box_image):
        raise StspbrError("--box is for --mask grabcut: give that, too")
    if settings.features == "object" and not settings.masks:
        raise StspbrError("features=object needs --masks: features are then sought inside of the masks only")


def _box_photo(settings: CapturePhotosSettings, names: list[str]) -> str:
    """The photo that the box is in."""
    if settings.box_image is None:
        return names[0]
    wanted = settings.box_image
    found = next((n for n in names if wanted in (n, Path(n).name, Path(n).stem)), None)
    if found is None:
        import difflib

        near = difflib.get_close_matches(wanted, names, 1, 0.0)[0]
        raise StspbrError(f"--box-image {wanted}: there is no such photo (nearest: {near})")
    return found


def _copied(
    photos: list[Photo], masks: dict[str, Path], folder: Path, settings: CapturePhotosSettings, failed: dict[str, str]
) -> list[Photo]:
    """Upright 8-bit pictures for the feature detector; those that cannot be read are left out."""
    from stspbr.formats.images import encode_png

    cv2 = require_opencv()
    good, bare = [], []
    for photo in photos:
        try:
            rgb, alpha = read_photo(photo)
            mask = read_mask(masks[photo.name], photo) if photo.name in masks else None
        except StspbrError as error:
            failed[photo.name] = str(error)
            continue
        if settings.mask is None and mask is None and alpha is None:
            bare.append(photo.name)
            failed[photo.name] = f"no mask in {settings.masks}" if settings.masks else "no mask"
            continue
        with atomic_path(folder / "images" / f"{photo.name}.png") as temporary:
            cv2.imwrite(str(temporary), display(rgb)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if settings.features == "object" and mask is not None:
            with atomic_path(folder / "masks" / f"{photo.name}.png.png") as temporary:
                temporary.write_bytes(encode_png(np.rint(mask), bits=8, srgb=False))
        good.append(photo)
    if len(good) < 3:
        if len(bare) > len(photos) // 2:
            raise StspbrError(
                f"{len(bare)} of {len(photos)} photos have no mask: give --masks DIR, images with alpha, or "
                "--mask grabcut --box x,y,width,height"
            )
        name = next(iter(failed), "")
        raise StspbrError(f"{len(good)} of {len(photos)} photos can be used, at least 3 are needed: {failed[name]}")
    return good


def _camera_lines(model: SparseModel) -> list[str]:
    lenses = {view.lens: None for view in model.views}
    shown = list(lenses)[:4]
    out = [
        f"{lens.model} {lens.width}x{lens.height}, focal length {lens.intrinsics[0]:.1f} pixels"
        + ("" if lens.is_pinhole else f", distortion {', '.join(f'{p:.4g}' for p in _coefficients(lens))}")
        for lens in shown
    ]
    return out + ([f"and {len(lenses) - 4} more"] if len(lenses) > 4 else [])


def _coefficients(lens: Any) -> tuple[float, ...]:
    from stspbr.datasets.lens import parameter_names

    return lens.params[3:] if parameter_names(lens.model)[0] == "f" else lens.params[4:]


def _undistorted(
    model: SparseModel,
    photos: dict[str, Photo],
    masks: dict[str, Path],
    settings: CapturePhotosSettings,
    failed: dict[str, str],
    progress: _Progress,
) -> list[_Shot]:
    """Every view resampled to a pinhole image. One lens gives images of one size that hold all of the object."""
    groups: dict[Any, list[View]] = {}
    for view in model.views:
        groups.setdefault(view.lens, []).append(view)
    wanted = _box_photo(settings, [view.name for view in model.views]) if settings.mask == "grabcut" else None
    shots = []
    for lens, views in groups.items():
        bounds, kept = [], []
        for view in views:
            try:
                alpha = _alpha(photos[view.name], masks)
                bounds += [] if alpha is None else [object_bounds(lens, alpha, f"photo {view.name}")]
                kept.append(view)
            except StspbrError as error:
                failed[view.name] = str(error)
        pinhole = pinhole_image(lens, bounds)
        source = None if lens.is_pinhole else undistortion_map(lens, pinhole)
        for view in kept:
            shot = _resampled(view, photos[view.name], masks, pinhole, source, int(settings.image_scale))
            if view.name == wanted:
                shot.box = _moved_box(settings.box, lens, source, shot.camera)
            shots.append(shot)
            progress.photo()
    order = {name: index for index, name in enumerate(photos)}
    return sorted(shots, key=lambda shot: order[shot.view.name])


def _alpha(photo: Photo, masks: dict[str, Path]) -> np.ndarray | None:
    """The photo's own alpha times its mask, or None where it has neither."""
    _, alpha = read_photo(photo) if photo.path.suffix.lower() not in (".jpg", ".jpeg") else (None, None)
    if photo.name in masks:
        mask = read_mask(masks[photo.name], photo)
        alpha = mask if alpha is None else alpha * mask
    return alpha


def _resampled(
    view: View, photo: Photo, masks: dict[str, Path], pinhole: Any, source: np.ndarray | None, scale: int
) -> _Shot:
    rgb, _ = read_photo(photo)
    alpha = _alpha(photo, masks)
    # straight colours: what is outside of the mask is still wanted by grabcut, and nothing else looks there
    layers = np.concatenate([rgb, np.ones_like(rgb[..., :1]), *([] if alpha is None else [alpha])], axis=-1)
    layers = layers if source is None else undistorted(layers, source)
    camera = Camera(view.camera_to_world, **vars(pinhole))
    if scale > 1:
        camera, layers = _reduced(camera, layers, scale)
    valid = layers[..., 3] > 0.999
    return _Shot(view, camera, layers[..., :3].copy(), valid, None if alpha is None else layers[..., 4:].copy())


def _reduced(camera: Camera, layers: np.ndarray, scale: int) -> tuple[Camera, np.ndarray]:
    """Averaged over squares of ``scale``; a rest at the right and lower border is cut off."""
    width, height = camera.width // scale, camera.height // scale
    if min(width, height) < 8:
        raise StspbrError(f"image_scale={scale} leaves {width}x{height} pixels: choose a smaller one")
    camera = camera.resampled((0, 0, width * scale, height * scale), (width, height))
    layers = layers[: height * scale, : width * scale].reshape(height, scale, width, scale, -1)
    return camera, layers.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)


def _moved_box(box: Any, lens: Any, source: np.ndarray | None, camera: Camera) -> tuple[float, float, float, float]:
    """The box of a photo in the undistorted and reduced image."""
    labels = (inside_box((lens.height, lens.width), box) > 0).astype(np.float32)[..., None]
    labels = labels if source is None else undistorted(labels, source)
    rows, columns = (np.flatnonzero(labels[..., 0].max(axis=axis) > 0.5) for axis in (1, 0))
    if not len(rows):
        return (0.0, 0.0, 0.0, 0.0)  # outside of the photo: the masks' code says so
    scale = camera.height / labels.shape[0]
    left, top = columns[0] * scale, rows[0] * scale
    return left, top, (columns[-1] + 1) * scale - left, (rows[-1] + 1) * scale - top


def _carry(
    shots: list[_Shot],
    model: SparseModel,
    settings: CapturePhotosSettings,
    seed: int,
    failed: dict[str, str],
    progress: _Progress,
) -> None:
    """Masks from the box; shots without one are dropped."""
    boxed = next(((index, shot.box) for index, shot in enumerate(shots) if shot.box is not None), None)
    if boxed is None:
        name = settings.box_image or "the first photo"
        raise StspbrError(f"{name}, which has the box, has no pose: choose another photo with --box-image")
    posed = [shot.posed() for shot in shots]
    masks, lost = carry_masks(posed, model.points, *boxed, seed, progress.photo)
    failed |= lost
    for shot, mask in zip(shots, masks, strict=True):
        shot.alpha = mask
    shots[:] = [shot for shot in shots if shot.alpha is not None]


def _frames(
    shots: list[_Shot],
    model: SparseModel,
    settings: CapturePhotosSettings,
    photos: dict[str, Photo],
    report: PhotoReport,
) -> tuple[list[Frame], np.ndarray]:
    """Frames in the object's frame, and the similarity that leads there."""
    for shot in shots:
        if (shot.coverage[..., 0] > _COVERED).mean() < _LEAST_AREA:
            report.failed[shot.view.name] = "its mask is empty: the object is not in it"
    good = [shot for shot in shots if shot.view.name not in report.failed]
    covered = [shot.coverage[..., 0] > _COVERED for shot in good]
    known = model.points[object_points([shot.posed() for shot in good], covered, model.points)]
    for shot, mask in zip(list(good), covered, strict=True):
        # all of the object's points project into its mask, whether seen or not; an object without texture has none
        columns, rows, visible = pixels_of(known, shot.camera)
        if len(known) and not mask[rows[visible], columns[visible]].any():
            report.failed[shot.view.name] = "its mask touches no point of the object: it covers something else"
            good.remove(shot)
    if len(good) < 3:
        reason = next(iter(report.failed.items()), ("", "no masks"))
        raise StspbrError(
            f"{len(good)} of {report.photos} photos have a pose and a mask, at least 3 are needed; "
            f"the first that failed is {reason[0]}: {reason[1]}"
        )
    covered = [shot.coverage[..., 0] > _COVERED for shot in good]
    on_object = object_points([shot.posed() for shot in good], covered, model.points)
    placed = object_frame([shot.camera for shot in good], covered, model.points, on_object)
    report.up_from, report.frames = placed.up_from, len(good)
    exposures = [photos[shot.view.name].exif.exposure for shot in good]
    if any(exposures) and not all(exposures):
        silent = sum(not exposure for exposure in exposures)
        report.notes.append(f"{silent} of {len(good)} photos do not say how they were exposed: exposure is ignored")
        exposures = [None] * len(good)
    every = settings.hold_out_every if len(good) > 3 else 0
    splits = held_out([shot.view.name for shot in good], every)
    frames = []
    for shot, exposure, split in zip(good, exposures, splits, strict=True):
        camera = replace(shot.camera, camera_to_world=moved_camera(shot.camera, placed.world_from_original))
        alpha = np.clip(shot.coverage, 0.0, 1.0)
        frames.append(
            Frame(
                shot.view.name,
                camera,
                shot.image * alpha,
                alpha,
                split=split,
                saturation=1.0,
                exposure=exposure,
            )
        )
    return frames, placed.world_from_original
