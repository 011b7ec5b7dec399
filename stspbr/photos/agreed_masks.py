"""Masks of all photos without a box: what the cameras look at, agreed upon by all of them.

1. The object is sought where the optical axes meet (``found_object``); what it stands on is learned as seen from all
   sides (``table_look``): where a photo differs from that, something stands in front of it.
2. What nearly all photos agree on is a hull. Extended down to the table it hides all that the object can hide; from the
   other pixels the table is learned once more, now also close to the object.
3. Twice: GrabCut in each photo about the silhouette of the hull, and the hull of these masks.
4. The outline once more at full resolution. A mask's confidence is how well it meets the silhouette of what most agree
   on; where they differ by more than a seam, the silhouette counts, and the pixel is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stspbr.errors import StspbrError
from stspbr.photos import grabcut
from stspbr.photos.carried_masks import Votes, label_points, outlined
from stspbr.photos.consensus_hull import Hull, consensus_hull, pixels_across, pixels_of, silhouette
from stspbr.photos.found_object import FoundObject, Plane, find_object
from stspbr.photos.table_evidence import ALIKE, DIFFERENT, GAP, looks_alike, stands_out, sure_of
from stspbr.photos.table_look import Likeness, table_look
from stspbr.photos.thin_parts import seen_through, thickened, thin_parts
from stspbr.photos.working_photos import Outline, PosedPhoto, WorkingPhoto

_FIRST_AGREE = 0.96  # share of the photos for the first hull: few photos prove by a pattern that a place is empty
_PLAIN_AGREE = 0.85  # the same where likeness alone says it, which some photos of the object may show by chance
_BANDS = (0.2, 0.15)  # of the silhouette's radius, on both sides of its outline, per round: there colours decide
_NARROW = 0.06  # the same if the object has the table's colours
_SEAM = 0.025  # of the silhouette's radius: a mask may miss the hull's silhouette by this much
_LEAST_AGREEMENT = 0.6
_TRUSTED = 0.85
_THIN = 3.0  # cells of the hull: of thinner parts, it shows where they are, and the photo how wide
_MANY, _WIDE = 150, 1.3  # sparse points of an object that tell its outline; times their hull: the table was not told
_RARELY = 0.15  # share of the object that may look like the table if likeness is to say that it is the table


@dataclass(frozen=True)
class AgreedMasks:
    """The masks of all photos.

    Attributes:
        outlines: with what is unknown of each; None: the photo has no mask. confidence: of each, in [0, 1].
        failed: why, by name, where there is none. found: where the object is.
    """

    outlines: list[Outline | None]
    confidence: list[float]
    failed: dict[str, str]
    found: FoundObject


def agreed_masks(
    photos: Sequence[WorkingPhoto],
    points: np.ndarray,
    seed: int = 0,
    on_photo: Callable[[], None] = lambda: None,
    moving: Sequence[np.ndarray] | None = None,
) -> AgreedMasks:
    """Masks of all photos without any help.

    Args:
        points: ``[P, 3]`` sparse points in the world of the cameras.
        moving: ``[H, W]`` bool of each small photo: outside of it is a background that stands still.
        on_photo: called once per photo, when its mask is complete.

    Raises:
        StspbrError: OpenCV is missing; or the cameras do not tell where the object is.
    """
    small = [photo.small for photo in photos]
    found = find_object([photo.camera for photo in small], points)
    votes = Votes.known(found.on_object, found.beside)
    table: list[Likeness | None] = [None] * len(small)
    plain = False
    if moving is not None:
        hull = _hull(moving, small, found, _FIRST_AGREE)
    elif found.plane is not None:
        hull, table, plain = _before_table(small, found, found.plane)
        if found.on_object.sum() >= _MANY:
            around = _around_points(small, points, found)
            if _too_wide(hull, small, around):
                hull, table, plain = _hull(around, small, found, _TRUSTED), [None] * len(small), True
    else:
        hull = _hull(_around_points(small, points, found), small, found, _TRUSTED)
    if not len(hull.points):
        raise StspbrError(
            "the photos do not agree on any object where they look: give --masks DIR, or --mask grabcut --box "
            "x,y,width,height"
        )
    masks: list[np.ndarray] = []
    shapes: list[np.ndarray] = []
    for wide in _BANDS:
        band = wide if plain or found.plane is None or moving is not None else _NARROW
        shapes = [silhouette(hull, photo.camera) & photo.valid for photo in small]
        middle = hull.points.mean(axis=0)
        cells = [pixels_across(hull.cell, middle, photo.camera) for photo in small]
        moved = [None] * len(small) if moving is None else moving
        masks = [
            _cut(photo, points, votes, shape, own, plain, band, seed, _THIN * cell, motion)
            for photo, shape, own, cell, motion in zip(small, shapes, table, cells, moved, strict=True)
        ]
        wide_enough = [thickened(mask, cell) for mask, cell in zip(masks, cells, strict=True)]
        hull = _hull(wide_enough, small, found, _TRUSTED)
        if not len(hull.points):
            break
    sure = [sure_of(mask, own, shape, plain) for mask, own, shape in zip(masks, table, shapes, strict=True)]
    return _finished(photos, masks, hull, found, seed, on_photo, sure)


def agreed_upon(
    photos: Sequence[WorkingPhoto],
    masks: list[np.ndarray],
    points: np.ndarray,
    seed: int = 0,
    on_photo: Callable[[], None] = lambda: None,
) -> AgreedMasks:
    """Masks ``[H, W]`` bool that something else made of the small photos, compared with what most of them agree on.

    The other arguments are those of ``agreed_masks``.
    """
    small = [photo.small for photo in photos]
    found = find_object([photo.camera for photo in small], points, needed=False)
    own = [mask & photo.valid for mask, photo in zip(masks, small, strict=True)]
    return _finished(photos, own, _hull(own, small, found, _TRUSTED), found, seed, on_photo)


def _before_table(
    small: list[PosedPhoto], found: FoundObject, plane: Plane
) -> tuple[Hull, list[Likeness | None], bool]:
    """A hull of what stands before the table, each photo against the table, and whether likeness is enough.

    It is not if the object itself looks like the table in many places: then only the table's pattern proves it.
    """
    look = table_look(small, plane, found.centre, found.radius)
    hull, plain = Hull(np.zeros((0, 3)), 1.0), False
    compared: list[Likeness] = []
    for _ in range(2):
        compared = [look.compared(photo, k) for k, photo in enumerate(small)]
        hull = _hull([~own.proven for own in compared], small, found, _FIRST_AGREE)
        if not len(hull.points):
            break
        plain = looks_alike(compared, [silhouette(hull, photo.camera) for photo in small]) < _RARELY
        if plain:
            hull = _hull([stands_out(own) for own in compared], small, found, _PLAIN_AGREE)
        look = look.without(hull.points)  # below the object photos may agree on the object's own colour
    return hull, [*compared], plain


def _too_wide(hull: Hull, small: list[PosedPhoto], around: list[np.ndarray]) -> bool:
    """Whether a hull is much wider than the places ``[H, W]`` bool where the object has its points."""
    shares = [
        silhouette(hull, photo.camera).sum() / max(own.sum(), 1) for photo, own in zip(small, around, strict=True)
    ]
    return float(np.median(shares)) > _WIDE


def _around_points(small: list[PosedPhoto], points: np.ndarray, found: FoundObject) -> list[np.ndarray]:
    """The convex hull of the object's points, and of the table right below them, grown."""
    cv2 = grabcut.require_opencv()
    own = points[found.on_object]
    if found.plane is not None:  # what stands on a table reaches down to it, even where it has no points
        own = np.concatenate([own, own - found.plane.height(own)[:, None] * found.plane.normal])
    masks = []
    for photo in small:
        columns, rows, visible = pixels_of(own, photo.camera)
        mask = np.zeros(photo.valid.shape, np.uint8)
        if visible.sum() >= 3:
            xy = np.stack([columns[visible], rows[visible]], axis=1).astype(np.int32)
            cv2.fillConvexPoly(mask, cv2.convexHull(xy), 1)
        masks.append(grabcut.dilated(mask.astype(bool), 0.15 * np.sqrt(mask.sum() / np.pi) + 2.0))
    return masks


def _hull(masks: Sequence[np.ndarray], small: list[PosedPhoto], found: FoundObject, agree: float) -> Hull:
    cameras = [photo.camera for photo in small]
    return consensus_hull(masks, cameras, found.centre, found.radius, agree, found.may_be)


def _cut(
    photo: PosedPhoto,
    points: np.ndarray,
    votes: Votes,
    shape: np.ndarray,
    own: Likeness | None,
    plain: bool,
    band: float,
    seed: int,
    thin: float,
    moving: np.ndarray | None = None,
) -> np.ndarray:
    """A mask about the silhouette ``shape`` of what all agree on, given how the photo differs from the table.

    Args:
        band: of the silhouette's radius: so near to its outline colours and edges decide.
        thin: pixels: parts of the silhouette that are no wider stay unless the photo shows the table there.
    """
    out = np.zeros(photo.valid.shape, bool)
    if not shape.any():
        return out
    radius = float(np.sqrt(shape.sum() / np.pi))
    labels = np.full(shape.shape, grabcut.BACKGROUND, np.uint8)
    labels[grabcut.dilated(shape, min(band, _BANDS[-1]) * radius + 2)] = grabcut.PROBABLE_BACKGROUND
    labels[shape] = grabcut.PROBABLE_OBJECT
    core = grabcut.dilated(shape, -band * radius - 2)
    if own is not None:
        with np.errstate(invalid="ignore"):
            unlike, like = own.difference > DIFFERENT, own.difference < ALIKE
        labels[unlike & (labels == grabcut.PROBABLE_BACKGROUND)] = grabcut.PROBABLE_OBJECT
        sure = own.proven | like if plain else own.proven
        labels[sure & ~core & ~grabcut.dilated(shape & unlike, 1.5)] = grabcut.BACKGROUND
        labels[unlike & grabcut.dilated(shape, -2.0)] = grabcut.OBJECT
    labels[core] = grabcut.OBJECT
    kept = np.zeros_like(out)
    if own is not None:
        if plain:
            labels[core & seen_through(like & core, GAP)] = grabcut.PROBABLE_BACKGROUND
        kept = thin_parts(shape, thin) & (unlike | np.isnan(own.difference)) & photo.valid
        labels[kept] = grabcut.OBJECT
    label_points(photo, points, votes, labels)
    if moving is not None:
        labels[~moving] = grabcut.BACKGROUND
    rows, columns = (np.flatnonzero((labels != grabcut.BACKGROUND).any(axis=axis)) for axis in (1, 0))
    margin = round(0.25 * radius) + 4  # enough of what is around, and no more: that is what takes the time
    part = (
        slice(max(rows[0] - margin, 0), rows[-1] + margin),
        slice(max(columns[0] - margin, 0), columns[-1] + margin),
    )
    out[part] = grabcut.cut(photo.image[part], labels[part], 3, seed)
    return out | (kept & (labels == grabcut.OBJECT))


def _finished(
    photos: Sequence[WorkingPhoto],
    masks: list[np.ndarray],
    hull: Hull,
    found: FoundObject,
    seed: int,
    on_photo: Callable[[], None],
    sure: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
) -> AgreedMasks:
    """The outlines; ``sure`` of each photo: see ``sure_of``."""
    outlines: list[Outline | None] = []
    confidence, failed = [], {}
    for number, (photo, mask) in enumerate(zip(photos, masks, strict=True)):
        small = photo.small
        shape = silhouette(hull, small.camera) & small.valid
        if sure is not None:
            shape = (shape & ~sure[number][1]) | sure[number][0]
        agreement = float((mask & shape).sum() / max((mask | shape).sum(), 1))
        if not mask.any():
            failed[small.name] = "its mask is empty: the object was not found in it"
        elif agreement < _LEAST_AGREEMENT:
            failed[small.name] = f"its mask agrees with those of the other photos by {agreement:.0%} only"
        confidence.append(agreement)
        differs = disputed(mask, shape)
        settled = np.where(differs, shape, mask)
        outlines.append(None if small.name in failed else outlined(photo, settled, seed, differs))
        on_photo()
    return AgreedMasks(outlines, confidence, failed, found)


def disputed(mask: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """``[H, W]`` bool: where a mask and the silhouette of what all agree on differ by more than a seam."""
    seam = max(2.0, _SEAM * float(np.sqrt(shape.sum() / np.pi)))
    too_much = mask & ~grabcut.dilated(shape, seam)
    too_little = grabcut.dilated(shape, -seam) & ~mask
    return too_much | too_little
