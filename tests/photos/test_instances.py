"""Instance segmentations in every accepted form, and the refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from stspbr.errors import StspbrError
from stspbr.photos.instances import UNCLAIMED, find_copies, read_instances, require_copies

SIZE = (120, 90)


def _labels() -> np.ndarray:
    labels = np.zeros(SIZE[::-1], np.int32)
    labels[10:40, 10:40], labels[20:50, 55:85], labels[55:85, 20:60] = 1, 2, 3
    return labels


def _run_lengths(mask: np.ndarray) -> list[int]:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [1 - int(flat[-1])]])))
    return [int(v) for v in np.diff(np.concatenate([[0], edges]))]


def _compressed(runs: list[int]) -> str:
    text = ""
    for index, run in enumerate(runs):
        value, more = run - (runs[index - 2] if index > 2 else 0), True
        while more:
            piece, value = value & 31, value >> 5
            more = value != (-1 if piece & 16 else 0)
            text += chr((piece | 32 if more else piece) + 48)
    return text


def _saved(form: str, folder) -> object:
    labels = _labels()
    path = folder / "seg.png"
    if form == "levels":
        Image.fromarray(np.rint(labels / 3 * 255).astype(np.uint8)).save(path)
    elif form == "resaved":
        levels = np.rint(labels / 3 * 255).astype(np.uint8)
        levels[60:70, 30:40][levels[60:70, 30:40] == 255] = 254
        Image.fromarray(levels).save(path)
    elif form == "plain":
        Image.fromarray(labels.astype(np.uint8)).save(path)
    elif form == "16 bit":
        Image.fromarray((labels * 300).astype(np.uint16)).save(path)
    elif form == "palette":
        image = Image.fromarray(labels.astype(np.uint8), "P")
        image.putpalette([0, 0, 0, 200, 30, 20, 20, 180, 40, 30, 40, 220])
        image.save(path)
    elif form == "colours":
        Image.fromarray(np.array([[0, 0, 0], [200, 30, 20], [30, 180, 40], [255, 40, 220]], np.uint8)[labels]).save(
            path
        )
    elif form == "antialiased":
        levels = np.rint(labels / 3 * 255).astype(np.uint8)
        levels[9, 10:40] = 41
        Image.fromarray(levels).save(path)
    elif form == "folder":
        (folder / "masks").mkdir()
        for k in (1, 2, 3):
            Image.fromarray(((labels == k) * 255).astype(np.uint8)).save(folder / "masks" / f"copy{k}.png")
        return folder / "masks"
    elif form == "binary":
        Image.fromarray(((labels > 0) * 255).astype(np.uint8)).save(path)
    else:
        runs = [_run_lengths(labels == k) for k in (1, 2, 3)]
        counts = [_compressed(r) for r in runs] if form == "coco text" else runs
        entries = [{"segmentation": {"size": list(labels.shape), "counts": c}, "image_id": 1} for c in counts]
        path = folder / "seg.json"
        path.write_text(json.dumps({"annotations": entries}))
    return path


FORMS = ("levels", "resaved", "plain", "16 bit", "palette", "colours", "antialiased", "folder", "binary", "coco list",
         "coco text")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_areas(form, tmp_path):
    found = read_instances(_saved(form, tmp_path), SIZE)
    if form == "antialiased":  # the soft row belongs to one of its neighbours
        found[9, 10:40] = 0
    true = _labels()
    pairs = {(int(a), int(b)) for a, b in zip(true.ravel(), found.ravel(), strict=True)}
    assert len(pairs) == 4 and (0, 0) in pairs  # one number per copy, whatever the order


def test_polygons(tmp_path):
    path = tmp_path / "seg.json"
    square = [10, 10, 40, 10, 40, 40, 10, 40]
    content = {"images": [{"width": SIZE[0], "height": SIZE[1]}], "annotations": [{"segmentation": [square]}]}
    path.write_text(json.dumps(content))
    found = read_instances(path, SIZE) == 1
    true = _labels() == 1
    assert (found & true).sum() / (found | true).sum() > 0.93


def test_a_jpeg_is_refused_by_name(tmp_path):
    path = tmp_path / "seg.jpg"
    Image.fromarray((_labels() * 80).astype(np.uint8)).save(path)
    with pytest.raises(StspbrError, match=r"seg\.jpg is a JPEG.*save the segmentation as PNG"):
        read_instances(path, SIZE)


@pytest.mark.parametrize("form", ["levels", "folder"])
def test_another_size_than_the_photo_is_refused(form, tmp_path):
    with pytest.raises(StspbrError, match="120x90, the photo 121x90"):
        read_instances(_saved(form, tmp_path), (121, 90))


def test_an_empty_or_continuous_image_is_refused(tmp_path):
    path = tmp_path / "seg.png"
    Image.fromarray(np.zeros(SIZE[::-1], np.uint8)).save(path)
    with pytest.raises(StspbrError, match="no labels"):
        read_instances(path, SIZE)
    Image.fromarray(np.full(SIZE[::-1], 7, np.uint8)).save(path)
    with pytest.raises(StspbrError, match="background"):
        read_instances(path, SIZE)


def test_void_of_a_palette_is_unclaimed(tmp_path):
    labels = _labels().astype(np.uint8)
    labels[70:80, 90:110] = 255
    image = Image.fromarray(labels, "P")
    image.putpalette([0, 0, 0, 200, 30, 20, 20, 180, 40, 30, 40, 220, *[224, 224, 192] * 252])
    image.save(tmp_path / "seg.png")
    found = read_instances(tmp_path / "seg.png", SIZE)
    assert (found[70:80, 90:110] == UNCLAIMED).all() and found.max() == 3


def test_copies_that_cannot_be_used_are_named():
    labels = np.zeros((1000, 1000), np.int32)
    labels[100:450, 100:450], labels[100:450, 500:900], labels[500:900, 100:500] = 1, 2, 3
    labels[600:640, 600:640] = 4  # small
    labels[700:1000, 990:1000] = 5  # at the border
    labels[50:60, 950:960] = 1  # a speck of the first
    found, copies = find_copies(labels)
    reasons = {copy.number: copy.rejected for copy in copies}
    assert [reasons[k] for k in (1, 2, 3)] == [None] * 3
    assert "1600 pixels, at least 2500" in str(reasons[4]) and "border" in str(reasons[5])
    assert (found[50:60, 950:960] == UNCLAIMED).all() and copies[0].box == (100, 100, 450, 450)
    assert len(require_copies(copies, "seg.png")) == 3
    with pytest.raises(StspbrError, match="2 of 4 copies can be used, at least 3 are needed"):
        require_copies(copies[1:], "seg.png")


def test_small_copies_are_refused_with_the_pixels_they_have_and_need():
    labels = np.zeros((400, 400), np.int32)
    for k in range(4):
        labels[20 + 90 * k : 105 + 90 * k, 20:110] = k + 1
    with pytest.raises(StspbrError, match="copies are 90 pixels wide; 300 are needed, 700 recommended"):
        require_copies(find_copies(labels)[1], "seg.png")
