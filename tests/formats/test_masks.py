"""Masks as people export them: the coverage that each means, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stspbr.errors import StspbrError
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.images import write_exr
from stspbr.formats.masks import MaskReading
from stspbr.notes import Notes

SIDE = 48
DAVIS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def disc(x=24.0, y=24.0, radius=12.0):
    """Coverage of a disc, sixteen samples per pixel."""
    at = (np.arange(SIDE * 4) + 0.5) / 4
    inside = (at[None] - x) ** 2 + (at[:, None] - y) ** 2 < radius**2
    return inside.reshape(SIDE, 4, SIDE, 4).mean((1, 3))


def hard(**place):
    return disc(**place) > 0.5


def labels():
    """Object 1 with object 2 beside it."""
    return np.where(hard(x=34.0, radius=6.0), 2, hard(x=18.0, radius=8.0).astype(np.uint8)).astype(np.uint8)


def palette(indices, colours=DAVIS):
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette(colours + [0] * (768 - len(colours)))
    return image


def saved(folder, image, name="a.png", **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(folder / name, **options)
    return folder / name


def read(path, notes=None, **choices):
    return MaskReading([path], FileChoices(**choices), notes).read(path)[..., 0]


def on_black(coverage, colour):
    return np.rint(coverage[..., None] * np.array(colour)).astype(np.uint8)


HARD = {
    "palette of a video tracker": palette(hard()),
    "palette of greys, white first": palette(~hard(), [255, 255, 255, 0, 0, 0]),
    "0 and 1": hard().astype(np.uint8),
    "0 and 254": hard() * np.uint8(254),
    "0 and 1 of 16 bits": hard().astype(np.uint16),
    "0 and 255 of 16 bits": hard() * np.uint16(255),
    "0 and 65535": hard() * np.uint16(65535),
    "one bit": Image.fromarray(hard()),
    "green on black": on_black(hard(), (0, 255, 0)),
    "dark red on black": on_black(hard(), (128, 0, 0)),
    "white on black": on_black(hard(), (255, 255, 255)),
    "white with an alpha of 0 everywhere": np.concatenate(
        [on_black(hard(), (255, 255, 255)), np.zeros((SIDE, SIDE, 1), np.uint8)], -1
    ),
    "white with an alpha of 1": np.concatenate(
        [on_black(hard(), (255, 255, 255)), np.full((SIDE, SIDE, 1), 255, np.uint8)], -1
    ),
    "grey with an alpha": np.stack([np.full((SIDE, SIDE), 90, np.uint8), hard() * np.uint8(255)], -1),
}


@pytest.mark.parametrize("kind", HARD)
def test_one_object_is_covered_wherever_it_is(tmp_path, kind):
    assert np.array_equal(read(saved(tmp_path, HARD[kind])), hard()), kind


def cut_out(coverage):
    """What a matting tool saves: the image with an alpha."""
    colour = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    return np.concatenate([colour, np.rint(255 * coverage)[..., None].astype(np.uint8)], -1)


SOFT = {
    "grey": np.rint(255 * disc()).astype(np.uint8),
    "grey of 16 bits": np.rint(65535 * disc()).astype(np.uint16),
    "cut-out": cut_out(disc()),
    "green": on_black(disc(), (0, 255, 0)),
    "orange": on_black(disc(), (240, 120, 60)),
    "up to 254": np.rint(254 * disc()).astype(np.uint8),
    "percent": np.rint(100 * disc()).astype(np.uint8),
    "8 bits in 16": np.rint(255 * disc()).astype(np.uint16),
}


@pytest.mark.parametrize("kind", SOFT)
def test_soft_masks_stay_soft(tmp_path, kind):
    assert np.abs(read(saved(tmp_path, SOFT[kind])) - disc()).max() < 0.011, kind


def test_float_masks(tmp_path):
    for top in (1.0, 255.0):
        write_exr(tmp_path / "a.exr", np.repeat(np.rint(top * hard())[..., None], 3, -1))
        assert np.array_equal(read(tmp_path / "a.exr"), hard())


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 255, 0), (220, 40, 40)])
def test_jpeg_masks_lose_their_noise(tmp_path, colour):
    path = saved(tmp_path, on_black(hard(), colour), "a.jpg", quality=85, subsampling=0)
    found = read(path)
    assert found[:6].max() == 0 and np.abs(found[18:30, 18:30] - 1).max() < 0.06
    assert ((found > 0.5) == hard()).mean() > 0.99


@pytest.mark.parametrize("suffix", ["webp", "avif"])
def test_masks_of_other_lossy_kinds(tmp_path, suffix):
    path = saved(tmp_path, on_black(disc(), (255, 255, 255)), f"a.{suffix}", quality=70)
    notes = Notes()
    assert np.abs(read(path, notes) - disc()).mean() < 0.005 and notes.lines() == []


def test_labels_of_lossy_masks_reach_their_edges(tmp_path):
    """The colours beside an edge are mixed ones there: each pixel belongs to the nearest label."""
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    path = saved(tmp_path, colours[labels()], "a.jpg", quality=80)
    for label, wanted in (("#ff0000", labels() == 1), ("#ff0000, #00ff00", labels() > 0)):
        assert (read(path, mask_label=label) == wanted).mean() > 0.985


def test_values_near_both_ends_are_noise(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, (SIDE, SIDE))
    mask = np.where(hard(), 255 - noise, noise).astype(np.uint8)
    assert np.abs(read(saved(tmp_path, mask)) - hard()).max() < 0.01


def test_files_of_different_scales_are_named(tmp_path):
    paths = [saved(tmp_path, top * hard().astype(np.uint8), f"{top}.png") for top in (np.uint8(1), np.uint8(255))]
    with pytest.raises(StspbrError, match="several labels, 1, 255 in 2 files"):
        MaskReading(paths, USUAL)
    reading = MaskReading(paths, FileChoices(mask_label="all"))
    assert all(np.array_equal(reading.read(path)[..., 0], hard()) for path in paths)


def test_an_object_on_black_covers_what_is_not_black(tmp_path):
    colour = np.random.default_rng(0).integers(1, 255, (SIDE, SIDE, 3), np.uint8) * hard()[..., None]
    notes = Notes()
    assert np.array_equal(read(saved(tmp_path, colour.astype(np.uint8)), notes), hard())
    assert "what is not black is the object" in notes.lines()[0]


@pytest.mark.parametrize(
    ("image", "held"),
    [
        (palette(labels()), "1, 2"), (labels(), "1, 2"), (labels() * np.uint8(100), "100, 200"),
        (labels().astype(np.uint16) * 1000, "1000, 2000"),
        (np.array([0, 1, 255], np.uint8)[labels()], "1, 255"), (np.array([0, 1, 255], np.uint16)[labels()], "1, 255"),
        (np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)[labels()], "#0000ff, #ff0000"),
    ],
)  # fmt: skip
def test_several_labels_are_named_and_one_is_chosen(tmp_path, image, held):
    path = saved(tmp_path, image)
    with pytest.raises(StspbrError, match=f"several labels, {held} .*choose the object's, e.g. --mask-label"):
        read(path)
    for number, label in zip((1, 2), sorted(held.split(", "), reverse=held[0] == "#"), strict=True):
        assert np.array_equal(read(path, mask_label=label), labels() == number)
    assert np.array_equal(read(path, mask_label=held), labels() > 0)
    assert np.array_equal(read(path, mask_label="all"), labels() > 0)


def test_grey_128_is_unknown(tmp_path):
    """A hand in front of a disc: neither object nor background, in every mask of the capture that has one."""
    disc_, hand = hard(), np.zeros((SIDE, SIDE), bool)
    hand[:14, 10:30] = True
    three = np.where(hand, 128, 255 * disc_).astype(np.uint8)
    Image.fromarray(three).save(tmp_path / "a.png")
    Image.fromarray((255 * disc_).astype(np.uint8)).save(tmp_path / "b.png")
    notes = Notes()
    reading = MaskReading([tmp_path / "a.png", tmp_path / "b.png"], USUAL, notes)
    coverage, known = reading.read_both(tmp_path / "a.png")
    np.testing.assert_array_equal(coverage[..., 0], disc_ & ~hand)
    np.testing.assert_array_equal(known[..., 0], ~hand)
    coverage, known = reading.read_both(tmp_path / "b.png")
    assert known is None and (coverage[..., 0] == disc_).all()
    assert any("128 is unknown" in line for line in notes.lines())
    inverted = MaskReading([tmp_path / "a.png"], FileChoices(None, None, True)).read_both(tmp_path / "a.png")
    np.testing.assert_array_equal(inverted[0][..., 0], ~disc_ & ~hand)


def test_a_label_that_no_mask_holds(tmp_path):
    path = saved(tmp_path, palette(labels()))
    with pytest.raises(StspbrError, match=r"mask_label=7 is in no mask of 1 file \(.*a.png\): choose one of 1, 2"):
        read(path, mask_label="7")
    with pytest.raises(StspbrError, match="mask_label=cat: give numbers or colours"):
        read(path, mask_label="cat")


def test_void_is_not_the_object(tmp_path):
    indices = np.where(disc() > 0.9, 1, np.where(disc() > 0.1, 255, 0)).astype(np.uint8)
    notes = Notes()
    assert np.array_equal(read(saved(tmp_path, palette(indices)), notes), indices == 1)
    assert "255 of a palette is void" in notes.lines()[0]


def test_all_masks_are_decided_together(tmp_path):
    """Label 2 is absent from the first file, and the object from the second cut-out."""
    first, second = saved(tmp_path, hard().astype(np.uint8), "a.png"), saved(tmp_path, labels(), "b.png")
    with pytest.raises(StspbrError, match="several labels, 1, 2"):
        MaskReading([first, second], USUAL)
    full = cut_out(np.ones((SIDE, SIDE)))
    cut_outs = [saved(tmp_path, image, f"{k}.png") for k, image in enumerate((cut_out(disc()), full))]
    assert MaskReading(cut_outs, USUAL).read(cut_outs[1]).min() == 1


def test_inverted_masks_are_noticed_and_inverted(tmp_path):
    for inverted in (False, True):
        paths = [saved(tmp_path, np.rint(255 * abs(inverted - disc(x=20.0 + k))).astype(np.uint8), f"{k}.png")
                 for k in range(6)]  # fmt: skip
        notes = Notes()
        MaskReading(paths, USUAL, notes)
        assert any("give --invert-masks" in line for line in notes.lines()) == inverted, notes.lines()
        notes = Notes()
        reading = MaskReading(paths, FileChoices(invert_masks=True), notes)
        assert any("leave it out?" in line for line in notes.lines()) != inverted
    assert np.abs(reading.read(paths[4])[..., 0] - disc()).max() < 0.01


def test_an_object_that_leaves_the_image_is_not_called_inverted(tmp_path):
    paths = [saved(tmp_path, 255 * hard(x=4.0 + k, y=40.0, radius=30).astype(np.uint8), f"{k}.png") for k in range(4)]
    notes = Notes()
    MaskReading(paths, USUAL, notes)
    assert notes.lines() == []


def test_what_was_decided_is_one_line_per_kind(tmp_path):
    paths = [saved(tmp_path, hard(x=20.0 + k).astype(np.uint8), f"{k}.png") for k in range(5)]
    notes = Notes()
    MaskReading(paths, USUAL, notes)
    (line,) = notes.lines()
    assert line.startswith("5 files (") and line.endswith("the values 0 and 1 (of 255) are read as coverage 0 and 1")


def test_a_broken_mask_is_an_error_of_its_own(tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    reading = MaskReading([tmp_path / "a.png"], USUAL)
    with pytest.raises(StspbrError, match="a.png is truncated or corrupt, or not an image"):
        reading.read(tmp_path / "a.png")


def test_frames_without_the_object_do_not_matter(tmp_path):
    empty = np.zeros((SIDE, SIDE), bool)
    colours = np.array([[0, 0, 0], [255, 0, 0], [255, 255, 255]], np.uint8)
    kinds = {"palette": palette, "colour": lambda indices: colours[np.asarray(indices, np.uint8)]}
    for name, made in kinds.items():
        paths = [saved(tmp_path, made(m), f"{name}{k}.png") for k, m in enumerate((hard(), empty, hard(x=20.0)))]
        assert [MaskReading(paths, USUAL).read(path).mean() for path in paths][1] == 0
    paths = [
        saved(tmp_path, colours[m], f"{k}.png") for k, m in enumerate((labels(), 2 * (labels() == 2), 0 * labels()))
    ]
    reading = MaskReading(paths, FileChoices(mask_label="#ffffff"))
    assert np.array_equal(reading.read(paths[0]), reading.read(paths[1])) and reading.read(paths[2]).max() == 0
    assert np.array_equal(reading.read(paths[0])[..., 0], labels() == 2)
