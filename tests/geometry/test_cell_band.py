"""The band of cells: the same lattice as the whole grid's, split exactly, closed at its border."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.geometry.cell_band import CellBand, around, children, follow, parents
from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.tet_grid import border_vertices, grid_cells, tet_grid

LOW, HIGH = np.array([-1.0, -0.6, -0.5]), np.array([1.0, 0.6, 0.5])
COUNTS = grid_cells(24, LOW, HIGH, DMTet.per_cell)


def sorted_tets(tets: np.ndarray) -> np.ndarray:
    """Rows that start with the smallest index, orientation kept, in order."""
    even = [p for p in np.array(np.meshgrid(*[range(4)] * 4)).T.reshape(-1, 4) if _even(p)]
    rows = np.stack([tets[:, p] for p in even], axis=1)
    keys = (rows.astype(np.int64) * (10**12, 10**8, 10**4, 1)).sum(-1)
    return np.sort(keys.min(axis=1))


def _even(p) -> bool:
    return len(set(p)) == 4 and np.linalg.det(np.eye(4)[p]) > 0


def volumes(positions: np.ndarray, tets: np.ndarray) -> np.ndarray:
    a, b, c, d = (positions[tets[:, k]].astype(np.float64) for k in range(4))
    return np.einsum("ij,ij->i", np.cross(b - a, c - a), d - a) / 6.0


def test_the_band_of_all_cells_is_the_grid():
    vertices, tets, edges = tet_grid(24, LOW, HIGH)
    band = CellBand.whole(COUNTS)
    ours, our_edges, border = band.tets()
    np.testing.assert_array_equal(band.positions(LOW, HIGH), vertices)
    np.testing.assert_array_equal(our_edges, edges)
    np.testing.assert_array_equal(border, border_vertices(vertices))
    np.testing.assert_array_equal(sorted_tets(ours), sorted_tets(tets))


def ball(band: CellBand, radius: float = 0.42) -> np.ndarray:
    return np.linalg.norm(band.positions(LOW, HIGH), axis=1) < radius


def test_tetrahedra_fill_the_cells_of_a_band():
    whole = CellBand.whole(COUNTS)
    band, _ = follow(whole, ball(whole), 1)
    assert 0 < len(band.cells) < 0.8 * len(whole.cells)
    tets, edges, border = band.tets()
    volume = volumes(band.positions(LOW, HIGH), tets)
    cell = (HIGH - LOW).prod() / COUNTS.prod()
    assert volume.min() > 0.99 * cell / 12 and volume.sum() == pytest.approx(len(band.cells) * cell, rel=1e-5)
    pairs = np.sort(np.concatenate([tets[:, [a, b]] for a in range(4) for b in range(a)]), axis=1)
    np.testing.assert_array_equal(edges, np.unique(pairs, axis=0))
    sides = np.sort(np.concatenate([np.delete(tets, k, axis=1) for k in range(4)]), axis=1)
    faces, uses = np.unique(sides, axis=0, return_counts=True)
    assert set(uses) == {1, 2}
    np.testing.assert_array_equal(np.unique(faces[uses == 1]), np.nonzero(border)[0])


def test_the_border_of_a_band_is_on_one_side_per_face():
    whole = CellBand.whole(3 * COUNTS)
    band, inside = follow(whole, ball(whole), 2)
    tets, _, border = band.tets()
    np.testing.assert_array_equal(inside, ball(band))
    sides = np.sort(np.concatenate([np.delete(tets, k, axis=1) for k in range(4)]), axis=1)
    faces, uses = np.unique(sides, axis=0, return_counts=True)
    outer = inside[faces[uses == 1]]
    assert (outer.all(axis=1) | ~outer.any(axis=1)).all() and outer.any() and not outer.all()


@pytest.mark.parametrize("partial", [False, True])
def test_split_halves_the_edges_of_the_grid(partial):
    band = CellBand.whole(COUNTS)
    cells = band.cells
    if partial:
        cells = around(band, band.cells[band.crossed(ball(band))], 1)
    fine = CellBand.of(2 * COUNTS, children(cells))
    ends = parents(band, fine.sites)
    assert len(fine.cells) == 8 * len(cells) and (fine.counts == 2 * COUNTS).all()
    middle = band.positions(LOW, HIGH)[ends].mean(axis=1)
    np.testing.assert_allclose(fine.positions(LOW, HIGH), middle, atol=2e-7)
    _, edges, _ = band.tets()
    proper = np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1)
    assert len(np.unique(proper, axis=0)) == len(proper)
    known = {tuple(edge) for edge in edges.tolist()}
    assert all(tuple(pair) in known for pair in proper.tolist())
    if not partial:
        assert len(fine.sites) == len(band.sites) + len(edges)


def test_a_grown_band_knows_the_side_of_new_vertices():
    """Both sides of a shell: what joins outside is outside, what joins in the hollow is inside again."""
    band = CellBand.whole(3 * COUNTS)

    def shell(band):
        radius = np.linalg.norm(band.positions(LOW, HIGH), axis=1)
        return (radius < 0.45) & (radius > 0.2)

    narrow, inside = follow(band, shell(band), 1)
    wide, grown = follow(narrow, inside, 3)
    assert len(wide.cells) > len(narrow.cells) and (wide.find(narrow.sites) >= 0).all()
    np.testing.assert_array_equal(grown, shell(wide))
    np.testing.assert_array_equal(wide.cells, follow(band, shell(band), 3)[0].cells)


def test_sites_beyond_the_lattice_or_the_band_are_not_found():
    band = CellBand.of(COUNTS, np.array([[0, 0, 0], [0, 0, 1]]))
    assert band.find(np.array([[-1, 1, 1], [1, 1, 2 * COUNTS[2] + 1], [1, 1, 5], [0, 0, 6]])).tolist() == [-1] * 4
    assert (band.find(band.sites) == np.arange(len(band.sites))).all()
    with pytest.raises(ValueError, match="beyond the band"):
        parents(band, np.array([[11, 11, 11]]))
