"""Which photos and masks there are, and what is said where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stspbr.errors import StspbrError
from stspbr.photos.photographs import display, find_masks, find_photos, read_mask, read_photo


def fill(folder, names, size=(8, 6), **options):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (10 * number + 5, 100, 50)).save(folder / name, **options)


def test_photos_are_found_in_order_and_broken_ones_named(tmp_path):
    fill(tmp_path, ["b.jpg", "a.PNG", "sub/c.tif", ".hidden.jpg"])
    (tmp_path / "d.jpeg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("hello")
    photos, failed = find_photos(tmp_path)
    assert [photo.name for photo in photos] == ["a.PNG", "b.jpg", "sub/c.tif"]
    assert list(failed) == ["d.jpeg"] and "d.jpeg is not an image" in failed["d.jpeg"]


def test_no_photos(tmp_path):
    with pytest.raises(StspbrError, match="gone is not a folder of photos"):
        find_photos(tmp_path / "gone")
    fill(tmp_path, ["a.jpg", "b.jpg"])
    with pytest.raises(StspbrError, match="has 2 photos .* at least 3 are needed: check the path"):
        find_photos(tmp_path)
    (tmp_path / "c.HEIC").write_bytes(b"x")
    with pytest.raises(StspbrError, match="convert the .heic files"):
        find_photos(tmp_path)


def test_masks_belong_to_photos(tmp_path):
    fill(tmp_path / "p", ["a.jpg", "s/b.jpg", "c.jpg", "d.jpg"])
    photos, _ = find_photos(tmp_path / "p")
    fill(tmp_path / "m", ["a.png", "b.png", "c.jpg.png", "zzz.png"])
    found = find_masks(tmp_path / "m", photos)
    names = {name: path.name for name, path in found.items()}
    assert names == {"a.jpg": "a.png", "s/b.jpg": "b.png", "c.jpg": "c.jpg.png"}
    with pytest.raises(StspbrError, match="is not a folder of masks"):
        find_masks(tmp_path / "gone", photos)
    fill(tmp_path / "other", ["x.png"])
    with pytest.raises(StspbrError, match="has no mask of these photos: name the mask of a.jpg a.png"):
        find_masks(tmp_path / "other", photos)


def test_masks_turn_with_their_photo(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    fill(tmp_path / "p", ["a.jpg", "b.jpg", "c.jpg"], exif=exif)
    photo = find_photos(tmp_path / "p")[0][0]
    upright = (np.random.default_rng(0).random((8, 6)) > 0.5).astype(np.uint8) * 255
    Image.fromarray(upright).save(tmp_path / "upright.png")
    Image.fromarray(np.rot90(upright)).save(tmp_path / "stored.png")
    for name in ("upright.png", "stored.png"):
        assert np.array_equal(read_mask(tmp_path / name, photo)[..., 0] * 255, upright), name
    Image.new("L", (5, 5)).save(tmp_path / "wrong.png")
    with pytest.raises(StspbrError, match="wrong.png: the mask is 5x5, its photo 6x8"):
        read_mask(tmp_path / "wrong.png", photo)


def test_photos_are_upright_linear_and_straight(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    pixels = np.random.default_rng(0).integers(1, 256, (4, 6, 4), dtype=np.uint8)
    for name in "abc":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", exif=exif)
    rgb, alpha = read_photo(find_photos(tmp_path)[0][0])
    assert rgb.shape == (6, 4, 3) and alpha.shape == (6, 4, 1)
    assert np.array_equal(display(rgb), np.rot90(pixels)[..., :3])
    assert np.array_equal(np.rint(alpha * 255), np.rot90(pixels)[..., 3:])
