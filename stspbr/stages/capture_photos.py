"""Captures from a folder of photographs: poses, undistortion, masks, and the object's own frame.

Photos that fail are left out with a reason; that all of them fail is the only error.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.choices import FileChoices
from stspbr.formats.masks import MaskReading
from stspbr.notes import Notes
from stspbr.optimize.progress import Reporter
from stspbr.photos.agreed_masks import agreed_masks, agreed_upon
from stspbr.photos.carried_masks import carry_masks
from stspbr.photos.grabcut import require_opencv
from stspbr.photos.network_masks import MaskNetwork
from stspbr.photos.photographs import Photo, display, find_masks, find_photos
from stspbr.photos.pose_cache import cached_poses, require_three
from stspbr.photos.shots import Box, Shot, make_shots, own_alpha
from stspbr.photos.sparse_model import SparseModel
from stspbr.photos.still_background import still_background
from stspbr.photos.structure_from_motion import PoseOptions, check_camera_model, require_pycolmap
from stspbr.photos.working_photos import PosedPhoto, WorkingPhoto
from stspbr.scene import Capture
from stspbr.scene.stored_frame import memory_line, workers
from stspbr.settings import CapturePhotosSettings
from stspbr.stages.photo_frames import chosen_shots, place_object, stored_frames
from stspbr.stages.session import Session

T = TypeVar("T")
_TURNTABLE = (
    "turntable: {share:.0%} of the photos' pattern stands still behind the object, so poses are the object's, and the "
    "light stands still with the camera (features=photo: the camera moved after all)"
)


@dataclass
class PhotoReport:
    """How it went, for people and for ``run.json``.

    Attributes:
        photos: how many there were; registered: how many have a pose; frames: how many are in the capture.
        reprojection_error: mean, in pixels of the photos.
        failed: why, by name, for all others.
        up_from: what the up axis was estimated from; notes: further remarks.
        mask_confidence: how well each mask that was found meets what all of them agree on, in [0, 1], by name.
        turntable: the object was turned before a camera and a background at rest.
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
    mask_confidence: dict[str, float] = field(default_factory=dict)
    turntable: bool = False

    def facts(self) -> dict[str, Any]:
        """Plain data for the artifact's ``run.json``."""
        return dict(vars(self))

    def lines(self) -> list[str]:
        """The report, one line per fact."""
        out = [
            f"registered {self.registered} of {self.photos} photos, reprojection error "
            f"{self.reprojection_error:.2f} pixels, {self.points} points; {self.frames} frames in the capture"
        ]
        out += [f"  camera: {camera}" for camera in self.cameras]
        out += [f"  up: from the {self.up_from}"] if self.up_from else []
        if self.mask_confidence:
            values = sorted(self.mask_confidence.values())
            out.append(
                f"  masks: found without a box, confidence {values[len(values) // 2]:.0%} (lowest {values[0]:.0%}); "
                "look at them with `stspbr capture check`"
            )
        out += [f"  left out: {line}" for line in self.left_out()]
        return out + [f"  note: {note}" for note in self.notes]

    def left_out(self) -> list[str]:
        """One line per reason, with the photos that it holds for."""
        notes = Notes()
        for name, reason in sorted(self.failed.items()):
            _, found, rest = reason.partition(f"{name} ")  # errors name the file themselves
            notes(rest if found else reason, name)
        return notes.lines()


def capture_photos(
    session: Session, settings: CapturePhotosSettings, notes: Notes | None = None
) -> tuple[Capture, PhotoReport]:
    """Make a capture from photographs.

    Args:
        notes: receives how photos and masks were read, also when the pixels of the frames are.

    Returns:
        Frames through pinhole cameras whose pixels stay in the photos' files, the object about the origin with radius 1
        and up along +Y, and ``original_from_world``; and the report, which has been printed already.

    Raises:
        StspbrError: no photos, masks that cannot be had, fewer than three photos that fit together, or no frame left.
    """
    require_pycolmap()
    require_opencv()
    check_camera_model(settings.camera_model)
    _check_mask_settings(settings)
    photos, failed = find_photos(settings.folder, notes)
    report = PhotoReport(len(photos) + len(failed), failed=failed)
    found_by = settings.camera_model, settings.shared_camera, settings.feature_size, settings.pairs
    poses = PoseOptions(*found_by, session.seed, session.threads)
    total = 4 * len(photos)  # features, poses, images, masks
    out = session.run / "logs" / "capture"
    with (
        Reporter(
            "capture", total, out, quiet=session.quiet, json_lines=session.json_lines, whole=session.whole
        ) as reporter,
        _scratch(session.run) as scratch,
    ):
        progress = _Progress(reporter)
        masks = find_masks(settings.masks, photos) if settings.masks else {}
        choices = FileChoices(settings.layer, settings.mask_label, settings.invert_masks)
        reading = MaskReading(list(masks.values()), choices, notes)
        photos, searched = _usable(photos, masks, settings, failed)
        network = MaskNetwork(settings.mask_model or "", session.threads) if settings.mask == "rembg" else None
        if settings.mask == "grabcut":
            _box_photo(settings, [photo.name for photo in photos])
        reporter.message(memory_line([(photo.exif.width, photo.exif.height) for photo in photos], "photos"))
        model = cached_poses(
            session.run / ".cache" / "photos",
            photos,
            masks,
            poses,
            failed,
            reading=reading,
            on_photo=progress.photo,
            on_message=reporter.message,
            features=settings.features,
        )
        failed |= model.failed
        if model.still_share is not None:
            report.turntable = True
            report.notes.append(_TURNTABLE.format(share=model.still_share))
        report.registered, report.points = len(model.views), len(model.points)
        report.reprojection_error = model.reprojection_error
        report.cameras = _camera_lines(model)
        progress.at(2 * len(photos))
        shots = make_shots(
            model, {photo.name: photo for photo in photos}, masks, int(settings.image_scale), failed, reading
        )
        if settings.box is not None:
            names = [photo.name for photo in photos]
            first = _box_photo(settings, names if settings.box_image else [shot.view.name for shot in shots])
            shots = _carry(shots, model, settings.box, first, scratch, session.seed, failed, progress)
        elif searched or network is not None:
            shots = _search(shots, model, network, scratch, session.seed, report, progress)
        shots = _looked_at(shots, failed)
        progress.at(3 * len(photos))
        shots = chosen_shots(shots, model.points, failed)
        placed = place_object(shots, model.points)
        frames = stored_frames(shots, placed.world_from_original, settings.hold_out_every, report.notes)
        report.up_from, report.frames = placed.up_from, len(frames)
        progress.at(total)
        reporter.summary(report.lines())
    return Capture([*frames], original_from_world=np.linalg.inv(placed.world_from_original)), report


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
        folder = tempfile.TemporaryDirectory(prefix=".photos-", dir=run, ignore_cleanup_errors=True)
    except OSError as error:
        raise StspbrError(f"cannot write {run} ({error.strerror}): choose another run") from error
    with folder as path:
        yield Path(path)


def _check_mask_settings(settings: CapturePhotosSettings) -> None:
    if settings.masks and settings.mask != "auto":
        raise StspbrError(f"--masks and --mask {settings.mask} exclude each other: give one of them")
    if settings.mask == "rembg" and not settings.mask_model:
        raise StspbrError("--mask rembg needs --mask-model FILE: the ONNX file of a segmentation network of yours")
    if settings.mask_model and settings.mask != "rembg":
        raise StspbrError("--mask-model needs --mask rembg: give that, too")
    if settings.mask == "grabcut" and settings.box is None:
        raise StspbrError("--mask grabcut needs --box x,y,width,height: a box about the object in the first photo")
    if settings.mask != "grabcut" and (settings.box or settings.box_image):
        raise StspbrError("--box needs --mask grabcut: give that, too")
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


def _usable(
    photos: list[Photo], masks: dict[str, Path], settings: CapturePhotosSettings, failed: dict[str, str]
) -> tuple[list[Photo], bool]:
    """The photos that have a mask or will get one, and whether masks are to be searched for."""
    if settings.mask != "auto":
        return photos, False
    good = [photo for photo in photos if photo.name in masks or _has_alpha(photo, failed)]
    bare = [photo for photo in photos if photo not in good and photo.name not in failed]
    if len(good) < 3 and len(bare) > len(photos) // 2:
        if settings.masks:
            raise StspbrError(
                f"{len(bare)} of {len(photos)} photos have no mask in {settings.masks}: give all, or none"
            )
        return [*good, *bare], True
    failed |= {photo.name: f"no mask in {settings.masks}" if settings.masks else "no mask" for photo in bare}
    require_three(good, photos, failed)
    return good, False


def _has_alpha(photo: Photo, failed: dict[str, str]) -> bool:
    try:
        return own_alpha(photo, None) is not None
    except StspbrError as error:
        failed[photo.name] = str(error)
        return False


def _camera_lines(model: SparseModel) -> list[str]:
    lenses = {view.lens: None for view in model.views}
    shown = list(lenses)[:4]
    out = [
        f"{lens.model} {lens.width}x{lens.height}, focal length {lens.intrinsics[0]:.1f} pixels"
        + ("" if lens.is_pinhole else f", distortion {', '.join(f'{p:.4g}' for p in lens.distortion)}")
        for lens in shown
    ]
    return out + ([f"and {len(lenses) - 4} more"] if len(lenses) > 4 else [])


def _carry(
    shots: list[Shot],
    model: SparseModel,
    box: Box,
    name: str,
    folder: Path,
    seed: int,
    failed: dict[str, str],
    progress: _Progress,
) -> list[Shot]:
    """The shots that get a mask from the box in the photo ``name``; images of the outlines' size are in ``folder``."""
    first = next((index for index, shot in enumerate(shots) if shot.view.name == name), None)
    if first is None:
        raise StspbrError(f"{name}, which has the box, has no pose: choose another photo with --box-image")

    photos = _working(shots, folder, progress)
    outlines, lost = carry_masks(photos, model.points, first, shots[first].lens.moved_box(box), seed, progress.photo)
    failed |= lost
    for shot, outline in zip(shots, outlines, strict=True):
        shot.outline = outline
    return [shot for shot in shots if shot.outline is not None]


def _search(
    shots: list[Shot],
    model: SparseModel,
    network: MaskNetwork | None,
    folder: Path,
    seed: int,
    report: PhotoReport,
    progress: _Progress,
) -> list[Shot]:
    """The shots that get a mask without any help, or by a network; what is unknown of it takes part in nothing."""
    photos = _working(shots, folder, progress)
    still = still_background([photo.small.image for photo in photos]) if model.still_share is not None else None
    if network is None:
        agreed = agreed_masks(photos, model.points, seed, progress.photo, still.moving if still else None)
    else:
        masks = [network.mask(photo.small.image) for photo in photos]
        agreed = agreed_upon(photos, masks, model.points, seed, progress.photo)
    report.failed.update(agreed.failed)
    for shot, outline, confidence in zip(shots, agreed.outlines, agreed.confidence, strict=True):
        shot.outline = outline
        if outline is not None:
            report.mask_confidence[shot.view.name] = round(confidence, 4)
    return [shot for shot in shots if shot.outline is not None]


def _working(shots: list[Shot], folder: Path, progress: _Progress) -> list[WorkingPhoto]:
    """The photos as masks are made from them; images of the outlines' size are in ``folder``."""

    def working(shot: Shot) -> WorkingPhoto:
        posed = PosedPhoto(shot.view.name, display(shot.image()), shot.valid(), shot.camera, shot.seen)
        progress.photo()
        return WorkingPhoto.of(posed, folder / f"{id(shot)}.npz")

    return _in_parallel(shots, working)


def _looked_at(shots: list[Shot], failed: dict[str, str]) -> list[Shot]:
    """The shots whose mask can be read, with that mask."""

    def look(shot: Shot) -> None:
        try:
            shot.look()
        except StspbrError as error:
            failed[shot.view.name] = str(error)

    _in_parallel(shots, look)
    return [shot for shot in shots if shot.mask is not None]


def _in_parallel(shots: list[Shot], work: Callable[[Shot], T]) -> list[T]:
    with ThreadPoolExecutor(workers(max((shot.file_pixels for shot in shots), default=0))) as pool:
        return list(pool.map(work, shots))
