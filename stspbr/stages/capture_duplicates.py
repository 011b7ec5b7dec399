"""Captures from one photograph of several equal objects: a frame per copy, all through the one real camera.

The light stays in the world and the object turns, so that every copy shows it under another light.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.colour import linear_to_srgb, luminance_of
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.exif import read_exif
from stspbr.formats.images import read_image
from stspbr.metrics.poses import PoseErrors, pose_errors
from stspbr.notes import Notes
from stspbr.optimize.progress import Reporter
from stspbr.photos.grabcut import require_opencv
from stspbr.photos.instance_occlusion import may_be_hidden
from stspbr.photos.instance_plane import smallest_turn
from stspbr.photos.instance_poses import FoundPoses, PoseSearch, find_poses
from stspbr.photos.instances import Instance, find_copies, reaches, read_instances, require_copies
from stspbr.photos.structure_from_motion import require_pycolmap
from stspbr.procedural.by_name import is_procedural
from stspbr.procedural.pile import Pile, PileOptions, lay_pile, truth_of
from stspbr.scene import Camera, Capture, EnvironmentLight, Frame
from stspbr.scene.light import turned_light
from stspbr.settings import CaptureDuplicatesSettings
from stspbr.stages.capture_mesh import load_light
from stspbr.stages.duplicates_sheet import contact_sheet
from stspbr.stages.session import Session
from stspbr.stages.state import save_json

_EXIF_DEVIATION = 0.01  # of its focal length
_PILE_LIGHT = "procedural:studio"
_WHITE = 0.98  # of the range: saturated pixels claim nothing
SHEET, RECORD = "contact_sheet.png", "duplicates.json"


@dataclass
class DuplicatesReport:
    """How it went: what ``duplicates.json`` has, and the picture beside it.

    Attributes:
        found: the poses; copies: all of them, used or not; photo: its name.
        frames: names of the copies' frames.
        errors: of the frames' poses against the true ones, of a procedural pile.
    """

    found: FoundPoses
    copies: list[Instance]
    photo: str
    labels: np.ndarray
    display: np.ndarray
    frames: dict[int, str] = field(default_factory=dict)
    errors: PoseErrors | None = None

    def reason(self, copy: Instance) -> str | None:
        """Why a copy has no frame."""
        return copy.rejected or self.found.why.get(copy.number)

    def facts(self) -> dict[str, Any]:
        """Plain data."""
        found = self.found
        copies = []
        for copy in self.copies:
            state = "rejected" if copy.rejected else found.how[copy.number]
            entry: dict[str, Any] = {"label": copy.number, "box": list(copy.box), "pixels": copy.pixels, "state": state}
            if state == "rejected":
                entry["reason"] = self.reason(copy)
            else:
                entry |= {"frame": self.frames[copy.number], "coherence": found.coherence.shares[copy.number]}
            if copy.number in found.scores:
                overlap, likeness, other = found.scores[copy.number]
                entry |= {"overlap": overlap, "likeness": likeness, "likeness_elsewhere": other}
            if copy.number in found.deviations and state == "registered":
                entry["rotation_deviation_degrees"] = found.deviations[copy.number][0]
            copies.append(entry)
        pairs = [{"copies": list(pair), "matches": m, "inliers": i} for pair, (m, i) in sorted(found.pairs.items())]
        plane = None if found.plane is None else {"spread_degrees": found.plane.spread}
        return {
            "photo": self.photo,
            "focal": found.focal,
            "focal_deviation": found.focal_deviation,
            "registered": len(found.poses),
            "copies": copies,
            "pairs": pairs,
            "cut_pairs": [list(pair) for pair in found.cut],
            "points": len(found.points),
            "reprojection_error": found.error,
            "resting_plane": plane,
            "symmetry": None if found.symmetry is None else found.symmetry.name,
            **({} if self.errors is None else {"true_poses": {"rotation_degrees": self.errors.rotations,
                                                              "translations": self.errors.translations}}),
        }  # fmt: skip

    def left_out(self) -> list[str]:
        """One line per copy without a frame."""
        return [f"left out: copy {c.number}: {self.reason(c)}" for c in self.copies if c.number not in self.found.poses]

    def lines(self) -> list[str]:
        """The report for people, one line per fact."""
        found = self.found
        rescued = sum(how == "rescued" for how in found.how.values())
        out = [
            f"{len(found.poses)} of {len(self.copies)} copies have a pose ({rescued} of them by drawing), "
            f"{len(found.points)} points, reprojection error {found.error:.2f} pixels",
            f"  focal length {found.focal:.1f} pixels"
            + ("" if found.focal_deviation is None else f" ± {found.focal_deviation:.1f}"),
        ]
        if found.symmetry is not None:
            out.append(f"  {found.symmetry.name} symmetric, as far as the copies show")
        if found.plane is not None:
            out.append(f"  all stand on one plane, within {found.plane.spread:.1f} degrees")
        return out + [f"  {line}" for line in self.left_out()]

    def write(self, folder: Path) -> None:
        """Write ``duplicates.json`` and ``contact_sheet.png``."""
        save_json(self.facts(), folder / RECORD)
        states = {copy.number: "rejected" if copy.rejected else self.found.how[copy.number] for copy in self.copies}
        contact_sheet(folder / SHEET, self.display, self.labels, self.copies, states, self.found)


def capture_duplicates(
    session: Session, settings: CaptureDuplicatesSettings, notes: Notes
) -> tuple[Capture, DuplicatesReport]:
    """Make a capture from one photograph of equal objects.

    Returns:
        Frames of one size, each cut from the photo around one copy: premultiplied by its mask; unknown is where other
        copies may be in front, what is saturated and what is beside the photo. The world is the camera's, with the
        copies' mean at the origin, and +Y away from the table where all stand on one; the object has radius 1 about
        its middle.

    Raises:
        StspbrError: no photo or labels, fewer than three copies that can be used, or none that fit together.
    """
    require_pycolmap()
    require_opencv()
    photo, instances, pile = _files(session, settings)
    rgb, alpha, saturation = read_image(photo, upright=True, notes=notes)
    if alpha is not None:
        rgb = rgb / np.where(alpha > 0, alpha, 1.0)
    height, width = rgb.shape[:2]
    labels, copies = find_copies(read_instances(instances, (width, height), notes))
    chosen = [copy for copy in copies if not settings.keep or copy.number in settings.keep]
    missing = set(settings.keep) - {copy.number for copy in copies}
    if missing:
        raise StspbrError(f"--keep: {instances} has no label {min(missing)}: it has 1 to {len(copies)}")
    usable = require_copies(chosen, instances)
    display = linear_to_srgb(np.clip(luminance_of(rgb), 0.0, 1.0)).astype(np.float32)
    focal, deviation = _focal(settings, photo, (width, height), notes)
    search = PoseSearch(focal, deviation, settings.matcher, settings.resting, settings.symmetry, settings.rescue,
                        session.seed)  # fmt: skip
    out = session.run / "logs" / "capture"
    with Reporter("capture", 1, out, quiet=session.quiet, json_lines=session.json_lines) as reporter:
        found = find_poses(display, labels, usable, search, reporter.message)
        report = DuplicatesReport(found, chosen, photo.name, labels, display)
        frames = _frames(rgb, labels, usable, found, saturation)
        light = _known_light(settings, found, notes)
        report.frames = {number: frame.name for number, frame in frames.items()}
        if pile is not None:
            report.errors = _against_truth(frames, pile)
        reporter.step(1, {}, {}, {})
        reporter.summary(report.lines())
    back = None if report.errors is None else report.errors.similarity
    return Capture(list(frames.values()), light, original_from_world=back), report


def _against_truth(frames: dict[int, Frame], pile: Pile) -> PoseErrors:
    """Of the frames' poses; the similarity leads from the capture's object to the pile's asset."""
    view = pile.camera.world_to_camera
    true = {number: view @ pose for number, pose in enumerate(pile.poses, start=1)}
    found = {
        number: np.linalg.inv(frame.camera.camera_to_world) @ frame.object_to_world
        for number, frame in frames.items()
        if number in true
    }
    return pose_errors(found, true)


def _files(session: Session, settings: CaptureDuplicatesSettings) -> tuple[Path, Path, Pile | None]:
    """The photo and its labels; of a procedural pile they are made first, under ``RUN/pile``, and it comes along."""
    if not is_procedural(settings.photo):
        photo = Path(settings.photo)
        if not photo.is_file():
            raise StspbrError(f"{photo}: there is no such photo: check the path")
        if settings.instances is None:
            raise StspbrError("give --instances: an image, a folder or a JSON with the labels of the copies")
        return photo, Path(settings.instances), None
    from stspbr.render.pile_photo import photograph, write_photograph

    options = PileOptions(settings.copies, settings.poses, (settings.side, settings.side), seed=session.seed)
    pile = lay_pile(read_asset(settings.photo), options)
    photo, labels = write_photograph(
        session.run / "pile",
        *photograph(pile, load_light(settings.light or _PILE_LIGHT), settings.samples, seed=session.seed),
    )
    save_json(truth_of(pile), session.run / "pile" / "truth.json")
    return photo, labels, pile


def _focal(
    settings: CaptureDuplicatesSettings, photo: Path, size: tuple[int, int], say: Callable[[str], None]
) -> tuple[float | None, float]:
    """The focal length in pixels, if there is any, and its relative standard deviation."""
    if settings.focal is not None and settings.fov is not None:
        raise StspbrError("--focal and --fov exclude each other: give one of them")
    if settings.focal is not None:
        return settings.focal, 0.0
    if settings.fov is not None:
        return 0.5 * max(size) / float(np.tan(np.radians(0.5 * settings.fov))), 0.0
    focal = read_exif(photo).focal
    if focal is not None:
        say("the focal length is that of the photo's Exif data, within 1 %")
        return focal, _EXIF_DEVIATION
    return None, 0.0


def _known_light(
    settings: CaptureDuplicatesSettings, found: FoundPoses, say: Callable[[str], None]
) -> EnvironmentLight | None:
    """The light that was given, in the world of the capture; of a procedural pile it is left to be found."""
    if settings.light is None or is_procedural(settings.photo):
        return None
    if found.plane is None:
        say("warning: the copies stand on no plane: the light is taken as if the camera had been held level")
    return turned_light(load_light(settings.light), light_rotation(found, settings.light_turn))


def light_rotation(found: FoundPoses, turn: float) -> np.ndarray:
    """``[3, 3]`` from a light's own axes, whose middle is where the camera looks, to the world of the capture.

    Args:
        turn: degrees, counter-clockwise as seen from above.
    """
    world, _ = placed(found)
    ahead = -world[:3, 2]
    yaw = np.arctan2(-ahead[0], -ahead[2]) + np.radians(turn)  # from −Z, about +Y
    return np.array([[np.cos(yaw), 0.0, np.sin(yaw)], [0.0, 1.0, 0.0], [-np.sin(yaw), 0.0, np.cos(yaw)]])


def _frames(
    rgb: np.ndarray, labels: np.ndarray, copies: list[Instance], found: FoundPoses, saturation: float
) -> dict[int, Frame]:
    """A frame per copy that has a pose, all of one size."""
    height, width = labels.shape
    whole = Camera(np.eye(4), found.focal, found.focal, 0.5 * width, 0.5 * height, width, height)
    posed = [copy for copy in copies if copy.number in found.poses]
    reach = reaches(copies)
    sides = [max(r[2] - r[0], r[3] - r[1]) for r in (reach[copy.number] for copy in posed)]
    side = int(np.ceil((max(sides) + 4) / 8.0)) * 8
    world, poses = placed(found)
    depths = [-(np.linalg.inv(world) @ pose)[2, 3] for pose in poses.values()]
    near, far = max(0.5 * (min(depths) - 1.0), 0.01), 1.5 * (max(depths) + 1.5)
    hidden = may_be_hidden(labels, found.poses, found.focal, found.coherence)
    frames = {}
    for copy in posed:
        bounds = reach[copy.number]
        left, top = (bounds[0] + bounds[2] - side) // 2, (bounds[1] + bounds[3] - side) // 2
        own = _window(labels, left, top, side, -1)
        image = _window(rgb, left, top, side, 0.0)
        mask = (own == copy.number)[..., None].astype(np.float32)
        unknown = np.zeros(own.shape, bool)
        part = slice(bounds[1] - top, bounds[3] - top), slice(bounds[0] - left, bounds[2] - left)
        # beside the photo, and where another copy may be in front; farther away it cannot be
        unknown[part] = _window(hidden[copy.number], left, top, side, True)[part]
        if np.isfinite(saturation):
            unknown |= (own == copy.number) & (image >= _WHITE * saturation).all(axis=-1)
        known = None if not unknown.any() else (~unknown)[..., None].astype(np.float32)
        if known is not None:
            mask = mask * known
        camera = replace(
            whole.resampled((left, top, side, side), (side, side)), camera_to_world=world, near=near, far=far
        )
        name = f"images/copy_{copy.number:03d}.exr"
        frames[copy.number] = Frame(name, camera, np.ascontiguousarray(image * mask, np.float32), mask,
                                    poses[copy.number], saturation=saturation, known=known)  # fmt: skip
    return frames


def placed(found: FoundPoses) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The camera's pose ``[4, 4]``, and ``object_to_world`` by copy, of an object of radius 1 about its middle."""
    inside = found.coherence.inside()
    centre = 0.5 * (inside.min(axis=0) + inside.max(axis=0))
    radius = float(np.linalg.norm(inside - centre, axis=1).max())
    turn_object, turn_world, up = np.eye(3), np.eye(3), np.array([0.0, 1.0, 0.0])
    if found.plane is not None:
        turn_object, turn_world = (smallest_turn(axis, up) for axis in (found.plane.axis, found.plane.up))
    local = {}
    for number, pose in found.poses.items():
        own = np.eye(4)
        own[:3, :3] = pose[:3, :3] @ turn_object.T
        own[:3, 3] = (pose[:3, :3] @ centre + pose[:3, 3]) / radius
        local[number] = own
    world = np.eye(4)
    world[:3, :3] = turn_world
    world[:3, 3] = -turn_world @ np.mean([own[:3, 3] for own in local.values()], axis=0)
    return world, {number: world @ own for number, own in local.items()}


def _window(values: np.ndarray, left: int, top: int, side: int, beside: float) -> np.ndarray:
    """``[side, side, …]`` of the photo from ``left`` and ``top`` on; ``beside`` where the photo ends."""
    height, width = values.shape[:2]
    out = np.full((side, side, *values.shape[2:]), beside, values.dtype)
    rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
    out[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = values[rows, columns]
    return out
