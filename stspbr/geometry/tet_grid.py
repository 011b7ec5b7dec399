"""The tetrahedral grid of the signed distance: a body-centred cubic lattice."""

from __future__ import annotations

import math

import numpy as np

from stspbr.errors import StspbrError

TETS_PER_CELL = 12
"""Tetrahedra per cubic cell of the lattice."""
_SPARE_CELLS = 2  # cells of the resolution's size added to both ends of every side but the longest
_FEWEST = (
    9  # such cells along a side, rounded up to cells of the lattice; fewer only if the cube of this size has fewer
)


def tet_grid(resolution: int, box_min: np.ndarray, box_max: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fill a box with the tetrahedra of a body-centred cubic lattice.

    Every tetrahedron spans two neighbouring cell centres and one edge of the face between them: all inner ones have
    the same good shape (dihedral angles 60° and 90°). Half pyramids at the border make the grid fill the box exactly.

    Args:
        resolution: of a voxel grid along the box's longest side whose voxels have the volume of the tetrahedra: a cube
            at 64 has about 64³ tetrahedra.
        box_min, box_max: ``[3]`` corners of the box, object units. Cells are stretched to fit it.

    Returns:
        ``vertices [V, 3]`` float32; ``tets [T, 4]`` int32, all of positive volume
        (``(p1−p0) × (p2−p0) · (p3−p0) > 0``); ``edges [E, 2]`` int32, unique, first index smaller than the
        second, sorted.

    Raises:
        StspbrError: the box is empty or the resolution is below 4.
    """
    low, high = checked_box(resolution, box_min, box_max)
    cells = grid_cells(resolution, low, high, TETS_PER_CELL ** (1.0 / 3.0))
    corner_count = int(np.prod(cells + 1))
    vertices = np.concatenate([_lattice(cells + 1, 0.0), _lattice(cells, 0.5)])
    vertices = (low + vertices * ((high - low) / cells)).astype(np.float32)
    # border vertices are recognised by comparing with the box: no rounding there
    low32, high32 = low.astype(np.float32), high.astype(np.float32)
    corners = vertices[:corner_count].reshape(*(cells + 1), 3)
    for axis in range(3):
        face = np.moveaxis(corners[..., axis], axis, 0)
        face[0], face[-1] = low32[axis], high32[axis]
    tets = np.concatenate([_tets_along(axis, cells, corner_count) for axis in range(3)])
    return vertices, tets, _edges(cells, corner_count)


def checked_box(resolution: int, box_min: np.ndarray, box_max: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both corners of the box as float64.

    Raises:
        StspbrError: the box is empty or the resolution is below 4.
    """
    low, high = np.asarray(box_min, dtype=np.float64), np.asarray(box_max, dtype=np.float64)
    if not np.all(np.isfinite(low)) or not np.all(np.isfinite(high)) or np.any(high <= low):
        raise StspbrError(f"the grid's box is empty: from {low.tolist()} to {high.tolist()}; give box_min < box_max")
    if resolution < 4:
        raise StspbrError(f"grid resolution {resolution} is too small: give at least 4")
    return low, high


def tight_grid(resolution: int, extent: np.ndarray, per_cell: float) -> tuple[int, np.ndarray]:
    """The finest cubic lattice around a box that has no more cells than a cube's at ``resolution``.

    Shorter sides get at least two cells of free space at both ends, and at least nine cells in all (fewer below a
    resolution of 8), but never more than the longest side: the lattice stays in the cube around the box. A cell is a
    voxel of the resolution. A plate of 2 % is about 3 cells thick at 64 (1 in the cube); more cells across it would
    cost more than the cube does.

    Args:
        resolution: of the cube, see ``grid_cells``.
        extent: ``[3]`` sides of the box, any unit.
        per_cell: voxels of the resolution along the side of a lattice's cell.

    Returns:
        The resolution along the longest side, and ``[3]`` the sides of the lattice's box as
        fractions of the longest: whole numbers of cells. A cube, and a box that needs all of it, keep ``resolution``.
    """
    share = np.asarray(extent, dtype=np.float64) / np.max(extent)
    fewest = math.ceil(_FEWEST / per_cell)
    cube = max(2, round(resolution / per_cell))

    def counts(longest: int) -> np.ndarray:
        return np.clip(np.ceil(share * longest + 2 * _SPARE_CELLS / per_cell), min(fewest, cube), longest)

    longest = cube
    while counts(longest + 1).prod() <= cube**3:
        longest += 1
    return resolution if longest == cube else round(longest * per_cell), counts(longest) / longest


def grid_cells(resolution: int, box_min: np.ndarray, box_max: np.ndarray, per_cell: float) -> np.ndarray:
    """``[3]`` int: number of cubic cells along each axis of the box, at least 2.

    Args:
        resolution: voxels along the longest side.
        per_cell: voxels along the side of a cell; with the cube root of ``TETS_PER_CELL``, a voxel has the volume of a
            tetrahedron.
    """
    extent = np.asarray(box_max, dtype=np.float64) - np.asarray(box_min, dtype=np.float64)
    longest = max(2, round(resolution / per_cell))
    return np.maximum(2, np.rint(longest * extent / extent.max())).astype(np.int64)


def border_vertices(vertices: np.ndarray) -> np.ndarray:
    """``[V]`` bool: which vertices ``[V, 3]`` of the grid are on the faces of its box."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return np.any((vertices <= low) | (vertices >= high), axis=1)


def _lattice(counts: np.ndarray, offset: float) -> np.ndarray:
    axes = [np.arange(n) + offset for n in counts]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _corner_index(ijk: np.ndarray, cells: np.ndarray) -> np.ndarray:
    return (ijk[..., 0] * (cells[1] + 1) + ijk[..., 1]) * (cells[2] + 1) + ijk[..., 2]


def _centre_index(ijk: np.ndarray, cells: np.ndarray, corner_count: int) -> np.ndarray:
    return corner_count + (ijk[..., 0] * cells[1] + ijk[..., 1]) * cells[2] + ijk[..., 2]


def _face_corners(axis: int, faces: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """``[N, 4]`` corners around lattice faces, counter-clockwise seen from the positive end of ``axis``."""
    step = np.eye(3, dtype=np.int64)
    second, third = step[(axis + 1) % 3], step[(axis + 2) % 3]
    ring = np.stack([0 * second, second, second + third, third])
    return _corner_index(faces[:, None, :] + ring[None], cells)


def _integer_lattice(counts: np.ndarray) -> np.ndarray:
    return _lattice(counts, 0.0).astype(np.int64)


def _tets_along(axis: int, cells: np.ndarray, corner_count: int) -> np.ndarray:
    """The tetrahedra around all lattice faces that are perpendicular to ``axis``."""
    step = np.eye(3, dtype=np.int64)[axis]
    inner = _integer_lattice(cells - step) + step
    ring = _face_corners(axis, inner, cells)
    before = _centre_index(inner - step, cells, corner_count)
    after = _centre_index(inner, cells, corner_count)
    parts = [np.stack([before, after, ring[:, k], ring[:, (k + 1) % 4]], axis=1) for k in range(4)]
    for last in (False, True):  # the border's half pyramids
        plane_cells = cells.copy()
        plane_cells[axis] = 1
        border_cell = _integer_lattice(plane_cells) + step * ((cells[axis] - 1) if last else 0)
        face = border_cell + (step if last else 0)
        ring = _face_corners(axis, face, cells)
        centre = _centre_index(border_cell, cells, corner_count)
        order = (0, 1, 2, 3) if last else (0, 3, 2, 1)
        a, b, c, d = (ring[:, k] for k in order)
        parts += [np.stack(corners, axis=1) for corners in ([a, c, b, centre], [a, d, c, centre])]
    return np.concatenate(parts).astype(np.int32)


def _edges(cells: np.ndarray, corner_count: int) -> np.ndarray:
    all_cells = _integer_lattice(cells)
    centre = _centre_index(all_cells, cells, corner_count)
    ends = [(_corner_index(all_cells + corner, cells), centre) for corner in _integer_lattice(np.array([2, 2, 2]))]
    for axis in range(3):
        step = np.eye(3, dtype=np.int64)[axis]
        start = _integer_lattice(cells + 1 - step)
        ends.append((_corner_index(start, cells), _corner_index(start + step, cells)))
        start = _integer_lattice(cells - step)
        ends.append((_centre_index(start, cells, corner_count), _centre_index(start + step, cells, corner_count)))
        plane = cells.copy()
        plane[axis] = 1
        for border in (0, cells[axis]):  # the diagonals of the border's squares
            ring = _face_corners(axis, _integer_lattice(plane) + step * border, cells)
            ends.append(tuple(np.sort(ring[:, [0, 2]], axis=1).T))
    edges = np.concatenate([np.stack(pair, axis=1) for pair in ends])
    return edges[np.lexsort((edges[:, 1], edges[:, 0]))].astype(np.int32)
