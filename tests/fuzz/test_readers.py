"""Every reader on damaged files: the result is a value or one line, never another error, a hang, or memory without end.

Small sound files are damaged in ways that are drawn from a fixed seed. ``STSPBR_FUZZ=N`` makes N times as many.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import resource
import signal
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

from stspbr.datasets.captures import read_capture, write_dataset
from stspbr.datasets.transforms_writer import write_transforms
from stspbr.errors import StspbrError
from stspbr.formats.asset_writer import write_asset
from stspbr.formats.assets import read_asset
from stspbr.formats.images import image_size, read_image, read_pixels, write_exr, write_hdr, write_png8, write_png16
from stspbr.scene.asset import Asset, Node
from stspbr.scene.camera import Camera, look_at
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh
from stspbr.settings import load_recipe
from stspbr.stages.state import load_mesh, save_mesh

TIMES = int(os.environ.get("STSPBR_FUZZ", "1"))
MEMORY = 3 << 30  # bytes of address space beyond what the process has
SECONDS = 60  # a hang; a damaged file takes milliseconds
NUMBERS = ("nan", "-inf", "-1", "0", "1e308", "1e-320", "99999999999999999999", "2147483648", "x", "")
JUNK = (None, True, -1, 0, 1e308, 10**30, 2**31, 1.5, "", "x", "\0", [], {}, [[]], [None], {"index": 10**9}, "data:,x")


@contextlib.contextmanager
def bounded():
    """Memory and time that suffice for any honest reader of a small file."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    old = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the reader hangs"))
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, before)


def damaged_bytes(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with some changed, lost, doubled or added."""
    out = bytearray(data)
    at = int(random.integers(len(out)))
    match int(random.integers(6)):
        case 0:
            for place in random.integers(len(out), size=int(random.integers(1, 9))):
                out[place] = int(random.choice([0, 255, int(random.integers(256))]))
        case 1:
            word = int(random.choice([0xFFFFFFFF, 0x7FFFFFFF, 0x40000000, 0x00010000]))
            out[at : at + 4] = struct.pack(str(random.choice(["<I", ">I"])), word)
        case 2:
            del out[at:]
        case 3:
            del out[at : at + int(random.integers(1, 40))]
        case 4:
            out[at:at] = out[at : at + int(random.integers(1, 40))]
        case _:
            out += random.bytes(int(random.integers(1, 40)))
    return bytes(out)


def damaged_text(data: bytes, random: np.random.Generator) -> bytes:
    """A text with a number replaced, or damaged as bytes."""
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?(e-?\d+)?", data))
    if random.random() < 0.4 or not numbers:
        return damaged_bytes(data, random)
    for found in sorted(random.choice(len(numbers), size=min(2, len(numbers)), replace=False), reverse=True):
        start, end = numbers[found].span()
        data = data[:start] + str(random.choice(NUMBERS)).encode() + data[end:]
    return data


def damaged_json(content, random: np.random.Generator):
    """JSON with one or two values replaced, or lost."""
    content = copy.deepcopy(content)
    for _ in range(int(random.integers(1, 3))):
        places = []
        stack = [content]
        while stack:
            value = stack.pop()
            keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
            places += [(value, key) for key in keys]
            stack += [value[key] for key in keys]
        if not places:
            break
        value, key = places[int(random.integers(len(places)))]
        if random.random() < 0.2:
            del value[key]
        else:
            value[key] = copy.deepcopy(JUNK[int(random.integers(len(JUNK)))])
    return content


def attempts(path: Path, count: int, damage, read, accepted=(StspbrError,)) -> int:
    """Read ``count`` damaged versions of a file; how many were refused."""
    data = path.read_bytes()
    random = np.random.default_rng(len(data))
    refused = 0
    with bounded():
        for number in range(count * TIMES):
            path.write_bytes(damage(data, random))
            try:
                read()
            except accepted as error:
                assert "\n" not in str(error), f"{path.name} {number}"
                refused += 1
            except Exception as error:
                kept = path.with_name(f"damaged_{number}_{path.name}")
                kept.write_bytes(path.read_bytes())
                raise AssertionError(f"{kept}: {type(error).__name__}: {error}") from error
    path.write_bytes(data)
    read()  # the harness itself must not be what fails
    return refused


def square(textured: bool = True) -> Asset:
    positions = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    random = np.random.default_rng(0)
    maps = [random.random((4, 4, channels), np.float32) for channels in (3, 1, 1, 1)]
    mesh = Mesh(
        positions,
        faces,
        Corners(positions[:, :2].copy(), faces) if textured else None,
        Corners(np.array([[0, 0, 1]], np.float32), np.zeros_like(faces)),
        face_node=np.zeros(2, np.int32),
    )
    return Asset(mesh, [Material(*maps, name="paint")], nodes=[Node("part", np.eye(4), None, "part")])


def ball(count: int = 6) -> Capture:
    rows, columns = np.mgrid[:16, :16]
    alpha = ((rows - 7.5) ** 2 + (columns - 7.5) ** 2 < 30).astype(np.float32)[..., None]
    frames = []
    for k in range(count):
        turn = 2 * np.pi * k / count
        camera = Camera(look_at((3 * np.cos(turn), 1.0, 3 * np.sin(turn)), (0, 0, 0)), 20, 20, 8, 8, 16, 16)
        image = (0.3 + 0.05 * k) * alpha * np.ones(3, np.float32)
        frames.append(Frame(f"images/{k}.png", camera, image, alpha, split="test" if k == 0 else "train"))
    return Capture(frames)


def pixels(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).random((9, 7, channels), np.float32)


def image_file(folder: Path, name: str) -> Path:
    path = folder / name
    match name:
        case "rgba.png":
            write_png8(path, pixels(), srgb=True, alpha=pixels(1))
        case "grey16.png":
            write_png16(path, pixels(1), srgb=False)
        case "a.exr":
            write_exr(path, pixels(), alpha=pixels(1))
        case "a.hdr":
            write_hdr(path, pixels())
        case _:
            from PIL import Image

            Image.fromarray((255 * pixels()).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "count"),
    [("rgba.png", 60), ("grey16.png", 30), ("a.jpg", 40), ("a.tif", 60), ("a.exr", 60), ("a.hdr", 60), ("a.webp", 20),
     ("a.bmp", 20), ("a.tga", 20)],
)  # fmt: skip
def test_images(tmp_path, name, count):
    path = image_file(tmp_path, name)

    def read():
        image_size(path)
        read_image(path)

    assert attempts(path, count, damaged_bytes, read) > 0
    attempts(path, count // 4, damaged_bytes, lambda: read_pixels(path))


def png_head(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def tiff_head(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 16)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", png_head(160_000, 160_000)),
        ("a.png", png_head(2**31 - 1, 2**31 - 1)),
        ("a.tif", tiff_head(200_000, 200_000)),
        ("a.hdr", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 200000 +X 200000\n" + bytes(64)),
        ("a.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 90, 0, 0, 54, 40, 200_000, 200_000, 1, 24, 0, 0, 0, 0, 0, 0)),
        ("a.tga", struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65535, 65535, 24, 0) + bytes(64)),
        ("a.jpg", b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xd9"),
    ],
    ids=["png", "largest-png", "tiff", "hdr", "bmp", "tga", "jpeg"],
)
def test_images_that_promise_more_than_they_hold_are_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with bounded(), pytest.raises(StspbrError):
        read_image(tmp_path / name)


def test_exr_that_promises_more_than_it_holds_is_refused(tmp_path):
    path = image_file(tmp_path, "a.exr")
    small, large = struct.pack("<4i", 0, 0, 6, 8), struct.pack("<4i", 0, 0, 299_999, 299_999)
    data = path.read_bytes()
    assert data.count(small) == 2
    path.write_bytes(data.replace(small, large))
    with bounded(), pytest.raises(StspbrError):
        read_image(path)


def test_obj_and_mtl(tmp_path):
    write_asset(tmp_path / "a.obj", square())
    text = (tmp_path / "a.obj").read_text()
    (tmp_path / "a.obj").write_text(text.replace("f ", "s 1\no part\nf ", 1) + "f 1 2 3 4\ns off\nf -1 -2 -3\nl 1 2\n")
    text = (tmp_path / "a.mtl").read_text().replace("map_ao ", "map_ao -clamp on -mm 0 1 ")
    text = re.sub("(?m)^(map_\\w+) ", r"\1 -s 2 2 1 -o 0.5 0 0 ", text)
    (tmp_path / "a.mtl").write_text(text + "d 1\nKe 0 0 0\n")
    for name in ("a.obj", "a.mtl"):
        assert attempts(tmp_path / name, 120, damaged_text, lambda: read_asset(tmp_path / "a.obj")) > 0


def test_glb(tmp_path):
    write_asset(tmp_path / "a.glb", square())
    assert attempts(tmp_path / "a.glb", 150, damaged_bytes, lambda: read_asset(tmp_path / "a.glb")) > 0


def everything_gltf(folder: Path) -> Path:
    """A glTF with what the reader knows: skin, morph target, instances, transforms, both material models."""
    write_asset(folder / "a.gltf", square())
    content = json.loads((folder / "a.gltf").read_text())
    primitive = content["meshes"][0]["primitives"][0]
    joints, weights = np.zeros((4, 4), np.uint8), np.tile(np.float32([1, 0, 0, 0]), (4, 1))
    bind = np.eye(4, dtype=np.float32).reshape(1, 16)
    arrays = [joints, weights, bind, np.ones((4, 3), np.float32), np.zeros((3, 3), np.float32)]
    blob = bytearray((folder / "a.bin").read_bytes())
    names = {(4, 1): ("VEC4", 5121), (4, 4): ("VEC4", 5126), (16, 4): ("MAT4", 5126), (3, 4): ("VEC3", 5126)}
    first = len(content["accessors"])
    for array in arrays:
        blob += b"\0" * (-len(blob) % 4)
        kind, component = names[(array.shape[1], array.dtype.itemsize)]
        entry = {"bufferView": len(content["bufferViews"]), "componentType": component, "count": len(array)}
        content["accessors"].append(entry | {"type": kind})
        content["bufferViews"].append({"buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes})
        blob += array.tobytes()
    content["buffers"][0]["byteLength"] = len(blob)
    (folder / "a.bin").write_bytes(blob)
    primitive["attributes"] |= {"JOINTS_0": first, "WEIGHTS_0": first + 1, "COLOR_0": first + 3}
    primitive["targets"] = [{"POSITION": first + 3}]
    content["meshes"][0]["weights"] = [0.5]
    content["skins"] = [{"joints": [0], "inverseBindMatrices": first + 2}]
    instances = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": first + 4}}}
    content["nodes"] += [{"mesh": 0, "skin": 0, "scale": [1, 1, 1]}, {"mesh": 0, "extensions": instances}]
    content["scenes"][0]["nodes"] += [1, 2]
    info = {"index": 0, "extensions": {"KHR_texture_transform": {"scale": [2, 2], "offset": [0.5, 0], "rotation": 0}}}
    old = {"diffuseTexture": info, "specularFactor": [0.1] * 3, "glossinessFactor": 0.5}
    content["materials"].append({"alphaMode": "MASK", "extensions": {"KHR_materials_pbrSpecularGlossiness": old}})
    content["meshes"][0]["primitives"].append({**primitive, "material": 1})
    (folder / "a.gltf").write_text(json.dumps(content))
    return folder / "a.gltf"


def test_gltf(tmp_path):
    path = everything_gltf(tmp_path)

    def damage(data, random):
        return json.dumps(damaged_json(json.loads(data), random)).encode()

    assert attempts(path, 200, damage, lambda: read_asset(path)) > 0


@pytest.mark.parametrize("claim", [{"count": 10**11}, {"count": 2**28, "bufferView": None}, {"count": -5}])
def test_gltf_that_promises_more_than_it_holds_is_refused(tmp_path, claim):
    path = everything_gltf(tmp_path)
    content = json.loads(path.read_text())
    entry = content["accessors"][content["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    entry.update(claim)
    if entry["bufferView"] is None:
        del entry["bufferView"]
    path.write_text(json.dumps(content))
    with bounded(), pytest.raises(StspbrError):
        read_asset(path)


def test_glb_of_forty_bytes_that_promises_a_lot_is_refused(tmp_path):
    text = b'{"asset":{"version":"2.0"}} '
    for total, chunk in ((2**32 - 1, len(text)), (20 + len(text), 2**32 - 1)):
        (tmp_path / "a.glb").write_bytes(struct.pack("<4sIII4s", b"glTF", 2, total, chunk, b"JSON") + text)
        with bounded(), pytest.raises(StspbrError, match="truncated or corrupt"):
            read_asset(tmp_path / "a.glb")


@pytest.mark.parametrize(("suffix", "count"), [(".usda", 60), (".usdc", 3), (".usdz", 2)])
def test_usd(tmp_path, monkeypatch, suffix, count):
    pytest.importorskip("pxr")
    monkeypatch.setattr("stspbr.formats.usd.probe._SECONDS", 10.0)
    path = tmp_path / f"a{suffix}"
    write_asset(path, square())
    damage = damaged_text if suffix == ".usda" else damaged_bytes
    assert attempts(path, count, damage, lambda: read_asset(path)) > 0


@pytest.mark.parametrize("suffix", [".ply", ".stl", ".off"])
def test_meshes_that_trimesh_reads(tmp_path, suffix):
    import trimesh

    path = tmp_path / f"a{suffix}"
    trimesh.creation.box().export(path)
    damage = damaged_text if suffix == ".off" else damaged_bytes
    attempts(path, 60, damage, lambda: read_asset(path))


@pytest.mark.parametrize("text", [True, False])
def test_colmap(tmp_path, text):
    pytest.importorskip("pycolmap")
    place = write_dataset(tmp_path / "d", ball(), "colmap", text=text)
    suffix, damage = (".txt", damaged_text) if text else (".bin", damaged_bytes)
    for name in ("cameras", "images"):
        attempts(place / f"{name}{suffix}", 60, damage, lambda: read_capture(tmp_path / "d"))


def test_transforms(tmp_path):
    path = write_transforms(tmp_path / "d", ball(), "png")

    def damage(data, random):
        return json.dumps(damaged_json(json.loads(data), random)).encode()

    assert attempts(path, 100, damage, lambda: read_capture(tmp_path / "d")) > 0
    assert attempts(path, 30, damaged_bytes, lambda: read_capture(tmp_path / "d")) > 0


def test_llff(tmp_path):
    write_dataset(tmp_path / "d", ball(), "llff")
    path = tmp_path / "d/poses_bounds.npy"
    assert attempts(path, 80, damaged_bytes, lambda: read_capture(tmp_path / "d")) > 0
    path.write_bytes(path.read_bytes().replace(b"(6, 17)", b"(99999999999, 17)"))
    with bounded(), pytest.raises(StspbrError):
        read_capture(tmp_path / "d")


def test_own_artifacts(tmp_path):
    save_mesh(square().mesh, tmp_path / "mesh.safetensors")
    path = tmp_path / "mesh.safetensors"
    assert attempts(path, 150, damaged_bytes, lambda: load_mesh(path)) > 0


def test_recipes(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\n[capture]\nkind = "mesh"\nasset = "procedural:jar"\n'
                    'light = "procedural:studio"\nviews = 12\n'
                    "[coarse.optimize]\niterations = 10\n[bake]\ntexture_resolution = 64\n")  # fmt: skip
    assert attempts(path, 200, damaged_text, lambda: load_recipe(path)) > 0
