"""The table: where it should be, and unlike itself everywhere."""

from __future__ import annotations

import numpy as np

from photo_table import printed_paper, table_asset


def test_the_table_faces_up_at_its_height():
    mesh = table_asset(-0.7, size=4.0, resolution=64).mesh
    assert (mesh.positions[:, 1] == np.float32(-0.7)).all() and np.ptp(mesh.positions[:, 0]) == 4.0
    a, b, c = (mesh.positions[mesh.faces[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 1] > 0).all()


def test_print_is_seeded_and_has_detail_everywhere():
    paper = printed_paper(128, seed=1)
    assert np.array_equal(paper, printed_paper(128, seed=1)) and not np.array_equal(paper, printed_paper(128, seed=2))
    assert paper.min() >= 0.02 and paper.max() <= 0.9
    blocks = paper.reshape(8, 16, 8, 16, 3).std(axis=(1, 3)).max(axis=-1)
    assert (blocks > 0.02).mean() > 0.9
