"""What phones and cameras write: HEIC, AVIF and raw photographs."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from PIL import Image

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.exif import read_exif
from stspbr.formats.images import image_size, read_image


def colours():
    return np.repeat(np.repeat(np.array([[[200, 80, 40], [30, 160, 90]]], np.uint8), 32, 0), 32, 1)


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_photographs_of_phones(tmp_path, suffix):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path, exif = tmp_path / f"IMG{suffix.upper()}", Image.Exif()
    exif[0x0110] = "Phone"
    Image.fromarray(colours()).save(path, suffix[1:].replace("heic", "heif"), quality=95, exif=exif)
    found, alpha, saturation = read_image(path)
    assert alpha is None and saturation == 1 and image_size(path) == (64, 32)
    assert np.abs(found - srgb_to_linear(colours() / 255))[:, 4:28].max() < 0.03
    assert (read_exif(path).width, read_exif(path).height, read_exif(path).camera) == (64, 32, "Phone")


@pytest.mark.parametrize(("suffix", "package", "kind"), [(".heic", "pillow_heif", "HEIC"), (".nef", "rawpy", "raw")])
def test_the_extra_is_named_if_it_is_missing(tmp_path, monkeypatch, suffix, package, kind):
    monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    for read in (read_image, read_exif):
        with pytest.raises(StspbrError, match=rf"a{suffix} is a {kind}.*pip install 'stspbr\[photos\]'"):
            read(path)


def test_broken_ones_are_named(tmp_path):
    for suffix, package in ((".heic", "pillow_heif"), (".cr3", "rawpy"), (".avif", "PIL")):
        pytest.importorskip(package)
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
        with pytest.raises(StspbrError, match=f"a{suffix} is (truncated|not a)"):
            read_image(path)
        with pytest.raises(StspbrError, match=f"a{suffix} is not "):
            read_exif(path)


def dng(path, level, orientation=1):
    """A raw photograph, black on the left, grey on the right: 16 bits of a Bayer pattern, black 1000, white 61000."""
    width, height = 64, 48
    tags = {
        254: ("L", 0), 256: ("L", width), 257: ("L", height), 258: ("H", 16), 259: ("H", 1), 262: ("H", 32803),
        271: ("s", b"Maker\0"), 272: ("s", b"Model\0"), 274: ("H", orientation), 277: ("H", 1), 278: ("L", height),
        279: ("L", 2 * width * height), 284: ("H", 1), 33421: ("H", 2, 2), 33422: ("B", 0, 1, 1, 2),
        50706: ("B", 1, 4, 0, 0), 50708: ("s", b"Maker Model\0"), 50714: ("H", 1000), 50717: ("L", 61000),
        # sRGB's primaries from XYZ, a neutral of ones: the sensor's colours are linear sRGB
        50721: ("r", 3.2405, -1.5371, -0.4985, -0.9693, 1.8760, 0.0416, 0.0556, -0.2040, 1.0572),
        50728: ("u", 1.0, 1.0, 1.0), 50778: ("H", 21),
    }  # fmt: skip
    kinds = {"B": 1, "s": 2, "H": 3, "L": 4, "u": 5, "r": 10}
    entries, extra, at = b"", b"", 8 + 2 + 12 * (len(tags) + 1) + 4

    def packed(kind, values):
        if kind == "s":
            return values[0]
        if kind in "ru":
            return b"".join(struct.pack("<ii", round(10000 * v), 10000) for v in values)
        return struct.pack(f"<{len(values)}{kind}", *values)

    sizes = {tag: packed(kind, values) for tag, (kind, *values) in tags.items()}
    pixels_at = at + sum(len(v) + len(v) % 2 for v in sizes.values() if len(v) > 4)
    tags[273], sizes[273] = ("L", pixels_at), struct.pack("<L", pixels_at)
    for tag in sorted(tags):
        kind, *values = tags[tag]
        held = sizes[tag]
        count = len(values[0]) if kind == "s" else len(values)
        if len(held) > 4:
            entries += struct.pack("<HHLL", tag, kinds[kind], count, at + len(extra))
            extra += held + bytes(len(held) % 2)
        else:
            entries += struct.pack("<HHL", tag, kinds[kind], count) + held.ljust(4, b"\0")
    head = struct.pack("<2sHL", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + bytes(4) + extra
    mosaic = np.full((height, width), 1000 + round(60000 * level), "<u2")
    mosaic[:, : width // 2] = 1000
    path.write_bytes(head + mosaic.tobytes())


def test_raw_photographs_are_linear_and_turned(tmp_path):
    pytest.importorskip("rawpy")
    for orientation in (1, 6):
        dng(tmp_path / "a.dng", 0.25, orientation)
        found, _, saturation = read_image(tmp_path / "a.dng", upright=True)
        exif = read_exif(tmp_path / "a.dng")
        assert found.shape[:2] == (exif.height, exif.width) and exif.camera == "Maker Model" and saturation == 1
        lit = found[4:-4, 36:-4] if orientation == 1 else found[36:-4, 4:-4]
        assert lit == pytest.approx(0.25, abs=0.01)
        dark = found[4:-4, 4:28] if orientation == 1 else found[4:28, 4:-4]
        assert dark.max() < 0.005


@pytest.mark.parametrize("suffix", [".jpg", ".PNG"])
def test_heic_under_another_name(tmp_path, suffix):
    pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(colours()).save(tmp_path / "a.heic", "heif", quality=95)
    (tmp_path / f"b{suffix}").write_bytes((tmp_path / "a.heic").read_bytes())
    assert np.array_equal(read_image(tmp_path / f"b{suffix}")[0], read_image(tmp_path / "a.heic")[0])
    assert image_size(tmp_path / f"b{suffix}") == image_size(tmp_path / "a.heic")
    assert read_exif(tmp_path / f"b{suffix}") == read_exif(tmp_path / "a.heic")
