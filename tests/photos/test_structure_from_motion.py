"""Poses: why photos fail, which share a camera, and errors that say what to do. The run is in the stage's test."""

from __future__ import annotations

import builtins

import pytest

from stspbr.errors import StspbrError
from stspbr.formats.exif import Exif
from stspbr.photos import structure_from_motion as sfm
from stspbr.photos.colmap_database import camera_groups
from stspbr.photos.photographs import Photo


def photo(name: str, width=400, height=300, focal=None, camera="C") -> Photo:
    return Photo(name, None, Exif(1, width, height, focal, None, camera))


def test_reasons():
    names = ["a", "b", "c", "d", "e", "f"]
    features = dict.fromkeys(names, 900) | {"d": 12}
    pairs = {("a", "b"): 80, ("b", "c"): 20, ("c", "f"): 31, ("a", "d"): 9, ("e", "a"): 0}

    def reason(name, others=()):
        return sfm._reason(name, features, pairs, {"a", "b"}, list(others))

    assert reason("d").startswith("too few features (12)")
    assert reason("e") == "too few matches: no other photo shows the same points"
    assert reason("c") == "not registered: 31 matches with f, which has no pose either at best, which fix no pose"
    assert "fits 2 other photos, which do not connect to the rest" in reason("c", [{"c", "f", "e"}])


def test_photos_of_one_zoom_share_a_camera():
    photos = [photo("a", focal=500), photo("b", focal=502), photo("c", focal=600), photo("d", 300, 400, 500),
              photo("e"), photo("f", camera="D", focal=500)]  # fmt: skip
    groups = [[p.name for p in group] for group in camera_groups(photos, shared=True)]
    assert sorted(groups) == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]
    assert len(camera_groups(photos, shared=False)) == 6


def test_nothing_fits_together():
    photos = [photo(name) for name in "abcde"]
    with pytest.raises(StspbrError, match="no poses: 3 of 5 photos have too few features: put the object on"):
        sfm._fail(photos, dict.fromkeys("abc", "too few features (3): blurred") | {"d": "x", "e": "y"})
    with pytest.raises(StspbrError, match="no poses: fewer than 3 of 5 photos fit together: neighbouring photos must"):
        sfm._fail(photos, dict.fromkeys("abcde", "too few matches"))


def test_unknown_camera_model_and_missing_extra(monkeypatch):
    assert sfm.check_camera_model("opencv") == "OPENCV"
    with pytest.raises(StspbrError, match="camera model 'FISH' is unknown: choose one of"):
        sfm.check_camera_model("FISH")
    real = builtins.__import__

    def absent(name, *rest, **more):
        if name == "pycolmap":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(StspbrError, match=r"photos need the package pycolmap: pip install 'stspbr\[photos\]'"):
        sfm.require_pycolmap()
