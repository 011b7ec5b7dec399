"""Contact sheets: size, placement and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.report.contact_sheet import contact_sheet


def test_images_are_placed_in_a_labelled_grid(tmp_path):
    from PIL import Image

    red, grey = np.zeros((40, 60, 3)), np.full((40, 60, 1), 0.5)
    red[..., 0] = 1.0
    path = contact_sheet([[red, grey], [None, red]], ["ours", "truth"], ["target", "albedo"], tmp_path / "a" / "s.png")
    sheet = np.asarray(Image.open(path)).astype(int)
    pure = (sheet == [255, 0, 0]).all(-1)
    assert pure.sum() == 2 * 40 * 60
    half = (sheet == [128, 128, 128]).all(-1)
    assert half.sum() >= 40 * 60
    rows, columns = np.nonzero(pure)
    # first row: left cell; second row: right cell
    assert columns[rows < rows.mean()].max() < columns[rows > rows.mean()].min()
    first = rows[rows < rows.mean()].min()
    assert (sheet[:first] > 180).any()  # column labels above
    assert (sheet[:, : columns.min()] > 180).any()  # row labels at the left


def test_cells_are_scaled_and_values_outside_are_visible(tmp_path):
    from PIL import Image

    strange = np.full((10, 20, 3), 2.0)
    strange[:, 10:] = np.nan
    path = contact_sheet([[strange]], ["x"], ["y"], tmp_path / "s.png", cell=100)
    sheet = np.asarray(Image.open(path))
    assert (sheet == [255, 255, 255]).all(-1).sum() == 50 * 50
    assert (sheet == [255, 0, 255]).all(-1).sum() == 50 * 50


def test_labels_must_fit(tmp_path):
    image = np.zeros((4, 4))
    with pytest.raises(StspbrError, match="row labels"):
        contact_sheet([[image]], [], ["a"], tmp_path / "s.png")
    with pytest.raises(StspbrError, match="column labels"):
        contact_sheet([[image, image]], ["a"], ["a"], tmp_path / "s.png")
    with pytest.raises(StspbrError, match=r"\[H, W, 3\]"):
        contact_sheet([[np.zeros((4, 4, 2))]], ["a"], ["a"], tmp_path / "s.png")
