"""A second start goes on from features, matches and poses that the first one left."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stspbr.photos import pose_cache
from stspbr.photos import structure_from_motion as sfm
from stspbr.photos.photographs import find_photos
from stspbr.photos.structure_from_motion import PoseOptions

pytest.importorskip("pycolmap")
pytest.importorskip("cv2")


class Killed(BaseException):
    pass


def killed(*_):
    raise Killed


def poses(cache, folder, lines=None, **options):
    photos, failed = find_photos(folder)
    say = (lambda text: None) if lines is None else lines.append
    return pose_cache.cached_poses(cache, photos, {}, PoseOptions(**options), failed, on_message=say)


def test_a_second_start_goes_on_where_the_first_was_killed(tmp_path, ball_photos, monkeypatch):
    whole = poses(tmp_path / "whole", ball_photos)
    with monkeypatch.context() as patch:
        patch.setattr(sfm, "_match", killed)
        with pytest.raises(Killed):
            poses(tmp_path / "cache", ball_photos)
    (place,) = (tmp_path / "cache").iterdir()
    assert (place / "images").is_dir() and not (place / "matched").exists()
    with monkeypatch.context() as patch:
        patch.setattr(sfm, "_map", killed)
        patch.setattr(pose_cache, "_write_pictures", killed)  # they are there
        with pytest.raises(Killed):
            poses(tmp_path / "cache", ball_photos)
    assert not (place / "images").exists()  # matched: they are large and of no more use

    lines = []
    monkeypatch.setattr(sfm, "_extract", killed)
    found = poses(tmp_path / "cache", ball_photos, lines)
    assert lines == ["features and matches: from the cache"]
    assert [view.name for view in found.views] == [view.name for view in whole.views] and len(found.views) >= 4
    for a, b in zip(found.views, whole.views, strict=True):
        assert np.array_equal(a.camera_to_world, b.camera_to_world) and np.array_equal(a.seen, b.seen)
    monkeypatch.setattr(sfm, "_map", killed)
    again = poses(tmp_path / "cache", ball_photos, lines)
    assert lines[1:] == ["features and matches, and poses: from the cache"]
    assert np.array_equal(again.points, found.points)


def test_the_cache_is_of_these_photos_and_options(tmp_path, ball_photos, monkeypatch):
    keys = []
    monkeypatch.setattr(pose_cache, "_write_pictures", lambda *_: {})
    monkeypatch.setattr(pose_cache, "reconstruct_poses", lambda photos, folder, *_: keys.append(folder.name))
    copy = tmp_path / "photos"
    copy.mkdir()
    for path in ball_photos.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    poses(tmp_path, ball_photos, threads=1)
    poses(tmp_path, copy, threads=2)
    assert keys[0] == keys[1]  # the same content elsewhere, other threads
    poses(tmp_path, copy, camera_model="OPENCV")
    poses(tmp_path, copy, seed=1)
    Image.new("RGB", (40, 30)).save(copy / "p0.png")
    poses(tmp_path, copy)
    assert len(set(keys)) == 4
