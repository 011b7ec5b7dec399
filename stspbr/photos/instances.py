"""Which pixels of one photograph show which copy of an object: an instance segmentation in any of its usual forms.

Labels are data. Nothing here is ever interpolated, and a lossy file is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from stspbr.errors import StspbrError
from stspbr.formats.mask_numbers import MaskNumbers, decode_mask, numbers_of
from stspbr.photos.instance_json import read_instance_json

UNCLAIMED = -1
"""The label of pixels of which nobody says what they show."""
NEEDED, RECOMMENDED = 300, 700  # pixels along the longer side of a copy's box
_LEAST_PIXELS = 2500
_MOST_CUT = 0.15  # share of a copy's outline that may lie on the photo's border
_SPECK = 0.05  # of a copy's largest part: smaller parts are not taken for the copy
_RARE = 2e-4  # of all labelled pixels: fewer are no label
_MOST_LABELS = 250
_AROUND, _AS_LARGE = 0.12, 1.1  # of a copy's side about its box; of the largest copy's side
_Note = Callable[[str], None]


@dataclass(frozen=True)
class Instance:
    """One copy.

    Attributes:
        number: its label in ``[1, N]``.
        box: left, top, right and bottom edge of its pixels; right and bottom are exclusive.
        pixels: how many it has.
        cut: share of its outline that lies on the photo's border.
        rejected: why it takes no part; None: it does.
    """

    number: int
    box: tuple[int, int, int, int]
    pixels: int
    cut: float
    rejected: str | None = None

    @property
    def side(self) -> int:
        """The longer side of its box in pixels."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


def read_instances(path: str | Path, size: tuple[int, int], note: _Note = lambda line: None) -> np.ndarray:
    """The labels of a photograph.

    Accepted are images of grey levels (k/N of the full scale, or 0 … N, of 8 or 16 bits), of palette indices (255
    beside others: nobody knows) and of colours on black; a folder of masks, one per copy; and JSON with run lengths or
    polygons as COCO has them. If an image has one level only, its connected areas are the copies.

    Args:
        size: ``(width, height)`` of the photograph.
        note: called with what was decided, one line each.

    Returns:
        ``[H, W]`` int32: 0 background, 1 … N the copies, ``UNCLAIMED`` what belongs to none for certain.

    Raises:
        StspbrError: the file is missing, lossy, of another size, or has no labels.
    """
    path = Path(path)
    if path.is_dir():
        labels = _from_folder(path, size)
    elif path.suffix.lower() == ".json":
        labels = read_instance_json(path)
    else:
        labels = _from_image(path, note)
    if labels.shape != (size[1], size[0]):
        raise StspbrError(
            f"{path}: the labels are {labels.shape[1]}x{labels.shape[0]}, the photo {size[0]}x{size[1]}: "
            "export them at the photo's own size, without smoothing"
        )
    if not (labels > 0).any():
        raise StspbrError(f"{path} has no labels: the background is 0 (black), every copy has a value of its own")
    return labels


def find_copies(labels: np.ndarray) -> tuple[np.ndarray, list[Instance]]:
    """The copies in labels ``[H, W]``, each with the reason if it cannot be used.

    Returns:
        The labels with specks unclaimed (parts below 5 % of a copy's largest), and the copies in the order of their
        numbers.
    """
    labels = labels.copy()
    height, width = labels.shape
    copies = []
    for number, window in enumerate(ndimage.find_objects(np.maximum(labels, 0)), start=1):
        if window is None:
            continue
        own = labels[window] == number
        parts, count = ndimage.label(own, np.ones((3, 3)))
        if count > 1:
            sizes = np.bincount(parts.ravel())[1:]
            specks = own & (sizes < _SPECK * sizes.max())[np.maximum(parts, 1) - 1]
            labels[window][specks] = UNCLAIMED
            own &= ~specks
        rows, columns = np.nonzero(own)
        top, left = rows.min() + window[0].start, columns.min() + window[1].start
        bottom, right = rows.max() + 1 + window[0].start, columns.max() + 1 + window[1].start
        cut = _cut(labels == number, height, width)
        reason = None
        if len(rows) < _LEAST_PIXELS:
            reason = (
                f"{len(rows)} pixels, at least {_LEAST_PIXELS} are needed: photograph from nearer, or at more pixels"
            )
        elif cut > _MOST_CUT:
            reason = f"cut by the photo's border along {cut:.0%} of its outline: photograph it whole"
        copies.append(Instance(number, (int(left), int(top), int(right), int(bottom)), len(rows), cut, reason))
    return labels, copies


def reaches(copies: Sequence[Instance]) -> dict[int, tuple[int, int, int, int]]:
    """The box (left, top, right, bottom; it may leave the photo) that a copy cannot leave, hidden or not, by number.

    All copies are as large as the largest one at most, give or take what perspective and another side do.
    """
    most = max(copy.side for copy in copies)
    out = {}
    for copy in copies:
        left, top, right, bottom = copy.box
        wide, tall = (max(_AROUND * copy.side, _AS_LARGE * most - extent) for extent in (right - left, bottom - top))
        out[copy.number] = (int(left - wide), int(top - tall), int(right + wide), int(bottom + tall))
    return out


def require_copies(copies: list[Instance], where: str | Path) -> list[Instance]:
    """The copies that can be used.

    Raises:
        StspbrError: they are fewer than three, or too small for poses.
    """
    usable = [copy for copy in copies if copy.rejected is None]
    if copies:
        side = int(np.median([copy.side for copy in usable or copies]))
        if side < NEEDED:
            raise StspbrError(
                f"{where}: copies are {side} pixels wide; {NEEDED} are needed, {RECOMMENDED} recommended: photograph "
                "from nearer, with fewer copies at a time, or give the photo at its full size"
            )
    if len(usable) < 3:
        found = f"{len(usable)} of {len(copies)} copies can be used" if len(usable) < len(copies) else (
            f"{len(copies)} copies")  # fmt: skip
        first = next((f"; copy {c.number}: {c.rejected}" for c in copies if c.rejected), "")
        raise StspbrError(
            f"{where}: {found}, at least 3 are needed: put more equal objects in the photo, each turned to another "
            f"side, none covered by more than half{first}"
        )
    return usable


def _cut(mask: np.ndarray, height: int, width: int) -> float:
    """The share of the outline of ``mask`` ``[H, W]`` that lies on the image's border."""
    outline = mask & ~ndimage.binary_erosion(mask)
    rows, columns = np.nonzero(outline)
    on_border = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns == width - 1)
    return float(on_border.sum() / max(len(rows), 1))


def _from_folder(folder: Path, size: tuple[int, int]) -> np.ndarray:
    from stspbr.formats.images import LDR_SUFFIXES

    files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in LDR_SUFFIXES and not p.name.startswith(".")]
    if not files:
        raise StspbrError(f"{folder} has no masks: put one image per copy there, white where the copy is")
    labels = np.zeros((size[1], size[0]), np.int32)
    for number, file in enumerate(files, start=1):
        stored = _lossless(file)
        mask = stored.codes > (0.5 * stored.full if stored.codes.max(initial=0) > 0.5 * stored.full else 0)
        if mask.shape != labels.shape:
            raise StspbrError(
                f"{file}: the mask is {mask.shape[1]}x{mask.shape[0]}, the photo {size[0]}x{size[1]}: export it again"
            )
        labels[mask] = np.where(labels[mask] == 0, number, UNCLAIMED)
    return labels


def _lossless(path: Path) -> MaskNumbers:
    decoded = decode_mask(path)
    if decoded.lossy:
        raise StspbrError(f"{path} is a JPEG, whose compression changes labels: save the segmentation as PNG")
    numbers = numbers_of(decoded, by_alpha=False)
    covered = decoded.pixels[..., -1] > 0 if decoded.pixels.shape[-1] in (2, 4) else None
    if covered is None or covered.all():
        return numbers
    return MaskNumbers(numbers.kind, np.where(covered, numbers.codes, 0), numbers.full)


def _from_image(path: Path, note: _Note) -> np.ndarray:
    stored = _lossless(path)
    codes = np.asarray(stored.codes)
    if codes.dtype.kind == "f" and not (codes == np.rint(codes)).all():
        codes = np.rint(codes * 65535.0)
    codes = codes.astype(np.int64)
    unclaimed = np.zeros(codes.shape, bool)
    if stored.kind == "palette" and (codes == 255).any() and ((codes > 0) & (codes < 255)).any():
        unclaimed = codes == 255
        codes = np.where(unclaimed, 0, codes)
    values, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(codes.shape)
    if values[0] != 0:
        raise StspbrError(f"{path}: no pixel is 0: the background of a segmentation must be black (0)")
    real = _real(inverse, counts)
    merged = _merged(values, real) if stored.kind == "grey" else np.arange(len(values))
    if int(real.sum()) - 1 > _MOST_LABELS:
        raise StspbrError(f"{path} has {int(real.sum()) - 1} levels: this is a picture, not a segmentation")
    if not real[1:].any():
        raise StspbrError(f"{path} has no labels: every copy must fill an area with one value")
    code = merged[inverse]
    if not real.all():
        soft = ~real[inverse]
        nearest = ndimage.distance_transform_edt(soft, return_distances=False, return_indices=True)
        code = np.where(soft, code[tuple(nearest)], code)
        note(f"{int(soft.sum())} pixels between the labels have levels of their own: they count to the nearest label")
    levels = np.unique(code)
    labels = np.searchsorted(levels, code).astype(np.int32)
    if len(levels) == 2:
        parts, count = ndimage.label(labels, np.ones((3, 3)))
        labels = parts.astype(np.int32)
        note(f"the segmentation has one level: its {count} connected areas are taken for the copies")
    labels[unclaimed] = UNCLAIMED
    return labels


def _real(inverse: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``[L]`` bool: the levels that fill areas and are not rare; what antialiasing adds lies on borders only."""
    same = np.zeros(inverse.shape, bool)
    inner = inverse[1:-1, 1:-1]
    same[1:-1, 1:-1] = True
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2), (0, 0), (0, 2), (2, 0), (2, 2)):
        height, width = inner.shape
        same[1:-1, 1:-1] &= inverse[rows : rows + height, columns : columns + width] == inner
    inside = np.bincount(inverse[same], minlength=len(counts))
    out = (inside > 0) & (counts >= _RARE * counts[1:].sum())
    out[0] = True
    return out


def _merged(values: np.ndarray, real: np.ndarray) -> np.ndarray:
    """``[L]`` the level that each counts as: of k/N of the full scale, neighbours by 1 are one (254 beside 255)."""
    out = np.arange(len(values))
    levels = np.flatnonzero(real)
    gaps = np.diff(values[levels])
    if values[levels[-1]] < 128 or len(gaps) == 0 or np.median(gaps) <= 3:
        return out
    for low, high, gap in zip(levels[:-1], levels[1:], gaps, strict=True):
        if gap == 1:
            out[high] = out[low]
    return out
