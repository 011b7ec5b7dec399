"""Radiance pictures: orders, codings and header lines, against the values that were put in."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.formats.images import image_size, read_image
from stspbr.formats.rgbe import encode_rgbe
from stspbr.notes import Notes

HEAD = "#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n"
VALUES = np.random.default_rng(0).random((6, 10, 3)) + 0.05


def rgbe(values):
    _, exponent = np.frexp(values.max(-1))
    mantissa = np.floor(np.ldexp(values, 8 - exponent[..., None]))
    return np.concatenate([mantissa, exponent[..., None] + 128], -1).astype(np.uint8)


def stored(size, pixels, head=HEAD, newline="\n"):
    return f"{head}\n{size}\n".replace("\n", newline).encode() + bytes(pixels)


@pytest.fixture
def read(tmp_path):
    def one(data, notes=None):
        path = tmp_path / "a.hdr"
        path.write_bytes(data)
        assert image_size(path) == read_image(path)[0].shape[1::-1]
        return read_image(path, notes=notes)[0]

    return one


def close(found, values=VALUES, factor=1.0):
    return found.shape == values.shape and np.abs(found - values * factor).max() <= 0.008 * np.max(factor)


def test_the_eight_orders(read):
    """Rows run down for -Y and right for +X; the first axis is that of the scanlines."""
    for y, x in (("-", "+"), ("-", "-"), ("+", "+"), ("+", "-")):
        seen = VALUES[:: 1 if y == "-" else -1, :: 1 if x == "+" else -1]
        assert close(read(stored(f"{y}Y 6 {x}X 10", rgbe(seen).tobytes()))), (y, x)
        assert close(read(stored(f"{x}X 10 {y}Y 6", rgbe(seen.swapaxes(0, 1)).tobytes()))), (x, y)


def test_new_run_length_coding_in_all_orders(read):
    data = encode_rgbe(VALUES)
    start = data.index(b"-Y 6 +X 10\n")
    assert np.abs(read(data) - VALUES).max() < 0.005
    flipped = data[:start] + b"+Y 6 -X 10\n" + data[start + 11 :]
    assert np.abs(read(flipped) - VALUES[::-1, ::-1]).max() < 0.005
    lines = encode_rgbe(VALUES.swapaxes(0, 1)[:, :, :].repeat(2, 1))  # scanlines of 12 along Y
    start = lines.index(b"-Y 10 +X 12\n")
    assert np.abs(read(lines[:start] + b"+X 10 -Y 12\n" + lines[start + 12 :]) - VALUES.repeat(2, 0)).max() < 0.005


def test_old_run_length_coding(read):
    """(1, 1, 1, n) repeats the pixel before n times, the next one in a row 256 n times."""
    pixels = rgbe(VALUES)[0, :3]
    coded = [pixels[0], (1, 1, 1, 4), pixels[1], (1, 1, 1, 2), (1, 1, 1, 1), pixels[2]]
    counts = (5, 1 + 2 + 256, 1)
    found = read(stored(f"-Y 1 +X {sum(counts)}", np.array(coded, np.uint8).tobytes()))
    assert np.abs(found[0] - np.repeat(VALUES[0, :3], counts, axis=0)).max() <= 0.008


@pytest.mark.parametrize(
    ("head", "newline", "factor"),
    [
        (HEAD + "EXPOSURE=2.0\nEXPOSURE=4\n", "\n", 1 / 8),
        (HEAD + "COLORCORR=2 1 0.5\nCOLORCORR= 1 4 1\nEXPOSURE=2\n", "\n", np.array([0.25, 0.125, 1.0])),
        (HEAD, "\r\n", 1.0),
        (HEAD + "a.hdr:\n\tEXPOSURE=8\n\tpfilt -1\n", "\n", 1.0),
        ("FORMAT=32-bit_rle_rgbe\n", "\n", 1.0),
        ("#?RADIANCE\n", "\n", 1.0),
        ("#?RGBE\n# a comment\nSOFTWARE=x\nFORMAT=32-bit_rle_rgbe\n", "\n", 1.0),
        ("#?RADIANCE\0\nFORMAT=32-bit_rle_rgbe\n", "\n", 1.0),
        (HEAD + "PRIMARIES=0 0 0 0 0 0 0 0\nVIEW= -vtv -vh 45\nPIXASPECT=1\n", "\n", 1.0),
        (HEAD + "PRIMARIES=0.640 0.330 0.290 0.600 0.150 0.060 0.333 0.333\n", "\n", 1.0),
    ],
)  # fmt: skip
def test_header_lines(read, head, newline, factor):
    assert close(read(stored("-Y 6 +X 10", rgbe(VALUES).tobytes(), head, newline)), factor=factor)


def test_other_primaries_are_converted(read):
    notes = Notes()
    head = HEAD + "PRIMARIES=0.708 0.292 0.17 0.797 0.131 0.046 0.3127 0.329\n"
    found = read(stored("-Y 6 +X 10", rgbe(VALUES).tobytes(), head), notes)
    matrix = np.array([[1.66049, -0.58764, -0.07285], [-0.12455, 1.13290, -0.00835], [-0.01815, -0.10058, 1.11873]])
    assert np.abs(found - np.maximum(VALUES @ matrix.T, 0)).max() < 0.02
    assert "a.hdr: Rec. 2020: converted to sRGB's primaries" in notes.lines()


def test_xyz_white_is_white(read):
    grey = np.full((6, 10, 3), 0.5)
    found = read(stored("-Y 6 +X 10", rgbe(grey).tobytes(), "#?RADIANCE\nFORMAT=32-bit_rle_xyze\n"))
    assert found == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (stored("-Y 6 +X 10", rgbe(VALUES).tobytes()[:-30]), "cut off"),
        (stored("-Y 60000 +X 90000", rgbe(VALUES).tobytes()), "cannot hold 90000x60000 pixels"),
        (stored("-Y 6 +Y 10", rgbe(VALUES).tobytes()), "one axis twice"),
        (HEAD.encode(), "no line of the size"),
        (stored("-Y 6 +X 10", rgbe(VALUES).tobytes(), HEAD + "EXPOSURE=bright\n"), "EXPOSURE=bright"),
        (stored("-Y 6 +X 10", rgbe(VALUES).tobytes(), "#?RADIANCE\nFORMAT=other\n"), "FORMAT is other"),
    ],
)
def test_damage_is_named(tmp_path, data, reason):
    (tmp_path / "a.hdr").write_bytes(data)
    with pytest.raises(StspbrError, match=reason):
        read_image(tmp_path / "a.hdr")
