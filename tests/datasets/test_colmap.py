"""COLMAP models written by hand and by ourselves: axes, lenses, masks, and what can be missing."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from stspbr.colour import linear_to_srgb
from stspbr.datasets.colmap import read_colmap, write_colmap
from stspbr.datasets.lens import lens
from stspbr.errors import StspbrError
from stspbr.scene.capture import Capture

pycolmap = pytest.importorskip("pycolmap")
pytest.importorskip("cv2")
LENS = ("OPENCV", (60.0, 61.0, 23.2, 20.9, -0.25, 0.05, 0.004, -0.003))


def to_bytes(image):
    return np.rint(255 * linear_to_srgb(np.clip(image, 0, 1))).astype(np.uint8)


def write_model(folder, ball, model=LENS, place="sparse/0", masks="masks/{name}.png", count=12):
    """A text model as COLMAP's manual describes it, without our writer, and photographs through its lens."""
    width, height = ball.size
    own = lens(*model, width, height, "here")
    (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir()
    numbers = " ".join(map(repr, model[1]))
    (folder / place / "cameras.txt").write_text(f"# a camera\n7 {model[0]} {width} {height} {numbers}\n")
    (folder / place / "points3D.txt").write_text("")
    lines = []
    for k, pose in enumerate(ball.poses(count)):
        right, up, back, centre = pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3]
        camera_from_world = np.stack([right, -up, -back])
        x, y, z, w = Rotation.from_matrix(camera_from_world).as_quat()
        t = -camera_from_world @ centre
        name = f"a{k:02d}.png"
        lines += [f"{k + 1} {w!r} {x!r} {y!r} {z!r} {t[0]!r} {t[1]!r} {t[2]!r} 7 {name}", ""]
        image, alpha = ball.through(own, pose)
        opaque = np.where(alpha > 0, to_bytes(image), 90 + k).astype(np.uint8)  # a background that must go
        Image.fromarray(opaque).save(folder / "images" / name)
        mask = folder / masks.format(name=name, stem=name[:-4])
        mask.parent.mkdir(exist_ok=True)
        Image.fromarray((255 * alpha[..., 0]).astype(np.uint8)).save(mask)
    text = "\n".join(lines).replace("np.float64(", "").replace(")", "")
    (folder / place / "images.txt").write_text("# images\n" + text + "\n")
    return folder


def check_pictures(ball, frames):
    for frame in frames:
        image, alpha = ball.photograph(frame.camera)
        assert np.abs(frame.alpha - alpha).mean() < 0.02
        both = ((alpha == 1) & (frame.alpha > 0.999))[..., 0]
        assert both.sum() > 150 and np.abs(frame.image - image)[both].mean() < 0.004
        assert frame.image[alpha[..., 0] + frame.alpha[..., 0] == 0].max(initial=0) == 0


@pytest.mark.parametrize(
    "model",
    [
        ("SIMPLE_PINHOLE", (60.0, 24.0, 20.0)),
        ("PINHOLE", (60.0, 61.0, 23.2, 20.9)),
        ("SIMPLE_RADIAL", (60.0, 24.0, 20.0, -0.2)),
        LENS,
        ("OPENCV_FISHEYE", (60.0, 61.0, 23.2, 20.9, 0.05, -0.02, 0.01, 0.0)),
        ("THIN_PRISM_FISHEYE", (60, 61, 23.2, 20.9, 0.05, -0.02, 0.003, 0.002, 0.01, 0, 0.002, 0.001)),
    ],
)
def test_the_pinhole_camera_shows_what_the_picture_shows(tmp_path, ball, model):
    capture = read_colmap(write_model(tmp_path, ball, model), up="+y")
    check_pictures(ball, capture.frames)
    for frame, pose in zip(capture.frames, ball.poses(), strict=True):
        assert frame.camera.camera_to_world == pytest.approx(pose, abs=1e-9)
    names = [frame.name for frame in capture.frames]
    assert names[0] == "images/a00.png" and [f.name for f in capture.split("test")] == [names[0], names[8]]


@pytest.mark.parametrize("masks", ["masks/{name}.png", "masks/{stem}.png", "masks/{stem}.jpg"])
def test_places_of_masks(tmp_path, ball, masks):
    frames = read_colmap(write_model(tmp_path, ball, masks=masks)).frames
    check_pictures(ball, frames)
    (tmp_path / "masks").rename(tmp_path / "silhouettes")
    for place in ("silhouettes", str(tmp_path / "silhouettes")):
        assert np.array_equal(read_colmap(tmp_path, masks=place).frames[3].alpha, frames[3].alpha)


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "."])
def test_places_of_models(tmp_path, ball, place):
    check_pictures(ball, read_colmap(write_model(tmp_path, ball, place=place)).frames)
    if place != ".":
        check_pictures(ball, read_colmap(tmp_path / place).frames)


@pytest.mark.parametrize("text", [False, True])
def test_what_is_written_is_what_pycolmap_reads(tmp_path, ball, text):
    capture = ball.capture()
    write_colmap(tmp_path, capture, text=text)
    suffix = "txt" if text else "bin"
    assert (tmp_path / f"sparse/0/images.{suffix}").is_file() and len(list(tmp_path.glob("images/*.png"))) == 12
    model = pycolmap.Reconstruction(str(tmp_path / "sparse/0"))
    assert model.num_reg_images() == 12 and model.num_cameras() == 1
    first = capture.frames[0]
    image = next(image for image in model.images.values() if image.name == "000.png")
    assert image.projection_center() == pytest.approx(first.camera.position)
    assert image.viewing_direction() == pytest.approx(-first.camera.camera_to_world[:3, 2])
    # A point left of and above the middle, projected by COLMAP.
    point = np.array([-0.2, 0.1, 0.0])
    x, y, z = (first.camera.world_to_camera @ np.append(point, 1))[:3]
    expected = first.camera.cx - 60 * x / z, first.camera.cy + 60 * y / z
    assert image.project_point(point) == pytest.approx(expected)
    points = np.array([p.xyz for p in model.points3D.values()])
    assert len(points) > 1000 and np.linalg.norm(points, axis=1).max() < 0.6  # the ball's radius is 0.5
    assert np.linalg.norm(points, axis=1).max() > 0.45
    held = [frame.name[7:10] + ".png" for frame in capture.split("test")]
    assert (tmp_path / "sparse/0/test.txt").read_text().split() == held
    again = read_colmap(tmp_path, up="+y")
    assert [frame.name for frame in again.split("test")] == [f"images/{name}" for name in held]


def test_names_from_folders_stay_apart(tmp_path, ball):
    capture = ball.capture()
    for k, frame in enumerate(capture.frames):
        frame.name = f"{frame.split}/r_{k // 4}.png" if k % 4 in (0, 1) else f"cam{k % 4}/r_{k // 4}.png"
    write_colmap(tmp_path, capture, "png")
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert len(names) == 12 and {"train_r_0.png", "test_r_0.png", "cam2_r_1.png"} <= set(names)


def test_what_is_missing(tmp_path, ball):
    write_model(tmp_path, ball)
    warnings = []
    Image.new("RGB", (8, 8)).save(tmp_path / "images/z.png")
    read_colmap(tmp_path, warnings.append)
    assert warnings == ["1 (z.png) of 13 images have no pose and are left out"]
    shutil.copytree(tmp_path / "sparse/0", tmp_path / "sparse/1")
    warnings.clear()
    read_colmap(tmp_path, warnings.append)
    assert warnings[0].endswith("sparse/0 is read; sparse contains 1 (1) more models: name one of them to read it")
    with pytest.raises(StspbrError, match=r"the mask folder .*silhouettes does not exist: check masks"):
        read_colmap(tmp_path, masks="silhouettes")
    for k in (1, 2, 5, 6):
        (tmp_path / f"masks/a{k:02d}.png.png").unlink()
    with pytest.raises(StspbrError, match=r"^no masks: 4 \(images/a01.png, .*a02.png, .*a05.png, …\) of 12 images"):
        read_colmap(tmp_path)
    shutil.rmtree(tmp_path / "masks")
    with pytest.raises(StspbrError, match=r"^no masks: 12 \(.*/masks "):
        read_colmap(tmp_path)
    for k in (1, 2, 5, 6):
        (tmp_path / f"images/a{k:02d}.png").unlink()
    with pytest.raises(StspbrError, match=r"images lacks 4 \(a01.png, a02.png, a05.png, …\) of 12 images that "):
        read_colmap(tmp_path)
    with pytest.raises(StspbrError, match="contains no COLMAP model"):
        read_colmap(tmp_path / "images")


def test_a_distorted_photograph_without_mask_is_not_taken_for_one(tmp_path, ball):
    write_model(tmp_path, ball)
    Image.new("L", ball.size, 255).save(tmp_path / "masks/a03.png.png")
    with pytest.raises(StspbrError, match=r"frame images/a03.png: has no mask"):
        read_colmap(tmp_path)


def test_one_corrupt_jpeg_in_a_hundred(tmp_path, ball):
    write_model(tmp_path, ball, count=20)
    model = tmp_path / "sparse/0/images.txt"
    model.write_text(model.read_text().replace(".png", ".jpg"))
    for path in (tmp_path / "images").glob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    for path in (tmp_path / "masks").glob("*.png"):
        path.rename(path.with_name(path.name.replace(".png.png", ".jpg.png")))
    assert len(read_colmap(tmp_path).frames) == 20
    for name in ("a13", "a17"):
        file = tmp_path / f"images/{name}.jpg"
        file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(StspbrError, match=r"a13\.jpg is truncated or corrupt, .*\(and 1 more images of 20\)$"):
        read_colmap(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("cameras.txt", "OPENCV", "PERISCOPE", r"sparse/0 is not a readable COLMAP model"),
        (
            "cameras.txt",
            " 48 40 ",
            " 24 40 ",
            r"frame images/a00.png: the image is 48x40 but its camera 24x40, of another shape",
        ),
        ("cameras.txt", " 60.0 ", " -60.0 ", r"camera 7 of .*: its focal length is not a positive number"),
        ("images.txt", "a03.png", "a02.png", r"two frames of this name|no COLMAP model"),
    ],
)
def test_broken_models(tmp_path, ball, file, old, new, message):
    path = write_model(tmp_path, ball) / "sparse/0" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StspbrError, match=message) as caught:
        read_colmap(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_truncated_binary_model(tmp_path, ball):
    write_colmap(tmp_path, ball.capture())
    path = tmp_path / "sparse/0/images.bin"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(StspbrError, match="images.bin is truncated or corrupt|lacks"):
        read_colmap(tmp_path)


def test_the_extra_is_named(tmp_path, ball, monkeypatch):
    import sys

    write_model(tmp_path, ball)
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    for call in (lambda: read_colmap(tmp_path), lambda: write_colmap(tmp_path / "out", Capture([]))):
        with pytest.raises(StspbrError, match=r"pip install 'stspbr\[photos\]'"):
            call()


PINHOLE = ("PINHOLE", (60.0, 61.0, 23.2, 20.9))


def renamed(folder, name):
    """Images and masks of a text model by the names that ``name`` makes of their own."""
    text = (folder / "sparse/0/images.txt").read_text()
    for path in sorted((folder / "images").iterdir()):
        (folder / "masks" / f"{path.name}.png").rename(folder / "masks" / f"{name(path.name)}.png")
        text = text.replace(f" {path.name}\n", f" {name(path.name)}\n")
        path.rename(path.with_name(name(path.name)))
    (folder / "sparse/0/images.txt").write_text(text)


@pytest.mark.parametrize("rigs", [False, True])
def test_names_with_blanks(tmp_path, ball, rigs):
    expected = read_colmap(write_model(tmp_path, ball, PINHOLE)).frames
    if rigs:  # as COLMAP 3.12 and later write it
        pycolmap.Reconstruction(str(tmp_path / "sparse/0")).write_text(str(tmp_path / "sparse/0"))
        assert (tmp_path / "sparse/0/frames.txt").is_file()
    renamed(tmp_path, lambda name: f"map plan ({name[1:3]}) of 12.png")
    frames = read_colmap(tmp_path).frames
    assert [frame.name for frame in frames] == [f"images/map plan ({k:02d}) of 12.png" for k in range(12)]
    for a, b in zip(expected, frames, strict=True):
        assert np.array_equal(a.image, b.image)
        assert b.camera.camera_to_world == pytest.approx(a.camera.camera_to_world, abs=1e-12)


def test_poses_of_a_rig(tmp_path, ball):
    """Two cameras on one rod: the poses of the second are those of the first and the rod's."""
    place = write_model(tmp_path, ball, PINHOLE) / "sparse/0"
    model = pycolmap.Reconstruction(str(place))
    rod = np.eye(4)
    rod[:3, :3], rod[:3, 3] = Rotation.from_euler("y", 3, degrees=True).as_matrix(), (0.05, 0.0, 0.0)
    x, y, z, w = Rotation.from_matrix(rod[:3, :3]).as_quat()
    sensor = f"1 {w} {x} {y} {z} {rod[0, 3]} {rod[1, 3]} {rod[2, 3]}"
    cameras = (place / "cameras.txt").read_text()
    (place / "cameras.txt").write_text(cameras + cameras.splitlines()[1].replace("7 ", "8 ", 1) + "\n")
    (place / "rigs.txt").write_text(f"1 2 CAMERA 7 CAMERA 8 {sensor}\n")
    rows, lines = [], (place / "images.txt").read_text().splitlines()
    for number in range(1, 13, 2):
        pose = model.images[number].cam_from_world()
        (qx, qy, qz, qw), t = pose.rotation.quat, pose.translation
        data = f"2 CAMERA 7 {number} CAMERA 8 {number + 1}"
        rows.append(f"{number} 1 {qw} {qx} {qy} {qz} {t[0]} {t[1]} {t[2]} {data}")
    (place / "frames.txt").write_text("\n".join(rows) + "\n")
    text = [line.replace(" 7 a", " 8 a") if line and int(line.split()[0]) % 2 == 0 else line for line in lines[1:]]
    (place / "images.txt").write_text("\n".join(text) + "\n")
    found = read_colmap(tmp_path, up="+y").frames
    assert len(found) == 12
    for first, second in zip(found[::2], found[1::2], strict=True):
        a, b = (np.diag([1, -1, -1, 1]) @ frame.camera.world_to_camera for frame in (first, second))
        assert b == pytest.approx(rod @ a, abs=1e-9)


def test_backslashes_in_names(tmp_path, ball):
    expected = read_colmap(write_model(tmp_path, ball, PINHOLE)).frames
    for kind in ("images", "masks"):
        (tmp_path / kind).rename(tmp_path / "part")
        (tmp_path / kind).mkdir()
        (tmp_path / "part").rename(tmp_path / kind / "part")
    path = tmp_path / "sparse/0/images.txt"
    path.write_text(path.read_text().replace(" a", " part\\a"))
    for a, b in zip(expected, read_colmap(tmp_path).frames, strict=True):
        assert np.array_equal(a.image, b.image) and b.name == a.name.replace("images/", "images/part/")


@pytest.mark.parametrize("binary", [False, True])
def test_names_that_are_not_utf8_are_refused(tmp_path, ball, binary):
    place = write_model(tmp_path, ball, PINHOLE) / "sparse/0"
    file, old, new = place / "images.txt", b"a00.png", b"\xba\xec .png"
    if binary:
        pycolmap.Reconstruction(str(place)).write_binary(str(place))
        file, old, new = place / "images.bin", b"a00.png\0", b"\xba\xec.png\0"
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(StspbrError, match="a name of an image is not UTF-8: rename the images"):
        read_colmap(tmp_path)


def test_images_of_another_size_get_the_lens_that_belongs_to_it(tmp_path, ball):
    write_model(tmp_path, ball, PINHOLE)
    for path in [*(tmp_path / "images").iterdir(), *(tmp_path / "masks").iterdir()]:
        image = Image.open(path)
        image.resize((24, 20), Image.Resampling.BOX).save(path)
    notes = []
    capture = read_colmap(tmp_path, notes.append)
    camera = capture.frames[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (30.0, 30.5, 11.6, 10.45)
    assert sum("the images are 24x20, their cameras 48x40: focal lengths" in note for note in notes) == 1
    for path in [*(tmp_path / "images").iterdir(), *(tmp_path / "masks").iterdir()]:
        image = Image.open(path)
        image.resize((24, 16)).save(path)
    with pytest.raises(StspbrError, match=r"frame images/a00.png: the image is 24x16 but its camera 48x40, of another"):
        read_colmap(tmp_path)


def test_a_world_far_from_the_origin_is_moved_there_and_can_be_put_back(tmp_path, ball):
    near = read_colmap(write_model(tmp_path / "near", ball, PINHOLE))
    write_model(tmp_path / "far", ball, PINHOLE)
    path, place = tmp_path / "far/sparse/0/images.txt", np.array([512345.5, 5403210.25, 431.0])
    lines = path.read_text().splitlines()
    for k, line in enumerate(lines):
        tokens = line.split()
        if len(tokens) == 10:
            turn = Rotation.from_quat([float(tokens[j]) for j in (2, 3, 4, 1)]).as_matrix()
            tokens[5:8] = [repr(float(v)) for v in np.array(tokens[5:8], float) - turn @ place]
            lines[k] = " ".join(tokens)
    path.write_text("\n".join(lines) + "\n")
    far = read_colmap(tmp_path / "far")
    for a, b in zip(near.frames, far.frames, strict=True):
        assert np.abs(b.camera.position).max() < 10 and b.camera.near == pytest.approx(a.camera.near, rel=1e-4)
        original = (far.original_from_world @ np.append(b.camera.position, 1))[:3]
        assert original == pytest.approx(
            (near.original_from_world @ np.append(a.camera.position, 1))[:3] + place, abs=1e-6
        )


def test_a_world_that_was_turned_can_be_turned_back(tmp_path, ball):
    write_model(tmp_path, ball, PINHOLE)
    plain, turned = read_colmap(tmp_path, up="+y"), read_colmap(tmp_path, up="-z")
    assert plain.original_from_world is None
    for a, b in zip(plain.frames, turned.frames, strict=True):
        assert turned.original_from_world @ b.camera.camera_to_world == pytest.approx(a.camera.camera_to_world)


@pytest.mark.parametrize("binary", [False, True])
def test_models_without_points_and_with_byte_order_marks(tmp_path, ball, binary):
    expected = read_colmap(write_model(tmp_path, ball, PINHOLE)).frames
    place = tmp_path / "sparse/0"
    if binary:
        pycolmap.Reconstruction(str(place)).write_binary(str(place))
    for path in place.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    for path in place.glob("points3D.*"):
        path.unlink()
    for a, b in zip(expected, read_colmap(tmp_path).frames, strict=True):
        assert a.name == b.name and b.camera.camera_to_world == pytest.approx(a.camera.camera_to_world, abs=1e-12)


def test_images_without_lines_of_points_are_refused(tmp_path, ball):
    path = write_model(tmp_path, ball, PINHOLE) / "sparse/0/images.txt"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if line) + "\n")
    with pytest.raises(StspbrError, match="images.txt: the line after an image does not hold its points"):
        read_colmap(tmp_path)


def test_images_that_the_lists_do_not_name_are_counted(tmp_path, ball):
    write_model(tmp_path, ball, PINHOLE)
    (tmp_path / "test_id.txt").write_text("a00.png\n")
    (tmp_path / "train_id.txt").write_text("".join(f"a{k:02d}.png\n" for k in range(1, 10)))
    notes = []
    assert len(read_colmap(tmp_path, notes.append).frames) == 10
    assert "2 images (a10.png, a11.png): left out, the lists of splits do not name them" in notes
