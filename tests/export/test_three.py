"""The exported GLB in three.js, headless: its buffers are the preview's, and lit it looks like the preview.

Needs the package ``playwright`` and a Chromium of the system; nothing is downloaded.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

import stspbr.report
from stspbr.formats.gltf.writer import write_glb
from stspbr.metrics.image import display, psnr
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.scene import Corners, Node

THREE = Path(stspbr.report.__file__).parent / "vendor" / "three.min.js"
HTML = Path(__file__).with_name("three_view.html")
# Our lights have −Z in the middle of the map, three.js's have +X there.
TURN = np.pi / 2


@pytest.fixture(scope="module")
def page(browser):
    tab = browser.new_page()
    tab.set_default_timeout(120_000)
    tab.goto(HTML.as_uri())
    tab.add_script_tag(path=str(THREE))
    return tab


@pytest.fixture(scope="module")
def three(page, studio):
    """``three(path, buffer)``: ``[H, W, 3]`` in [0, 1] as three.js shows it from the studio's camera.

    Lit, a list of them: one for each turn of the light (Euler angles).
    """
    camera, light = studio.camera, studio.light.radiance
    rgba = np.concatenate([light, np.ones_like(light[..., :1])], axis=-1).astype("<f4")

    def show(path, buffer, turns=((0, TURN, 0),)):
        asked = {
            "glb": base64.b64encode(path.read_bytes()).decode(),
            "side": camera.width,
            "focal": camera.fx,
            "near": camera.near,
            "far": camera.far,
            "pose": camera.camera_to_world.T.reshape(-1).tolist(),
            "buffer": buffer,
            "light": base64.b64encode(rgba.tobytes()).decode(),
            "width": rgba.shape[1],
            "turns": turns,
        }
        pictures = [
            np.frombuffer(base64.b64decode(data), np.uint8).reshape(camera.height, camera.width, 4)[::-1, :, :3] / 255
            for data in page.evaluate("(asked) => show(asked)", asked)
        ]
        return pictures if buffer == "lit" else pictures[0]

    return show


@pytest.fixture(scope="module")
def glb(studio, tmp_path_factory):
    path = tmp_path_factory.mktemp("three") / "ball.glb"
    write_glb(path, studio.asset)
    return path


def expected(studio) -> dict[str, np.ndarray]:
    """The preview's buffers as three.js would store them; occlusion, which the preview keeps to itself, beside."""
    out = {name: studio.preview[name] for name in ("albedo", "roughness", "metallic")}
    out["normal"] = studio.preview["normal"] * 0.5 + 0.5
    material = studio.asset.materials[0]
    grey = np.repeat(material.occlusion, 3, axis=-1)
    shown = replace(studio.asset, materials=[replace(material, albedo=grey)])
    out["occlusion"] = AssetRenderer(shown, studio.backend, studio.device).render(studio.view, studio.filtered)
    out["occlusion"] = out["occlusion"]["albedo"][0].numpy()
    return out


def inside(studio) -> np.ndarray:
    return binary_erosion(studio.preview["alpha"][..., 0] == 1, iterations=3)[..., None].astype(float)


@pytest.mark.parametrize("quantized", [False, True], ids=["full", "quantised"])
def test_buffers(studio, three, tmp_path, quantized):
    write_glb(tmp_path / "a.glb", studio.asset, quantized=quantized)
    mask = inside(studio)
    assert mask.mean() > 0.3
    for name, mine in expected(studio).items():
        theirs = three(tmp_path / "a.glb", name)
        found = psnr(np.broadcast_to(mine, theirs.shape), theirs, mask)
        assert found > (44 if quantized and name == "normal" else 45), (name, found)


@pytest.mark.parametrize("name", ["green", "roughness and metallic", "sRGB", "handedness"])
def test_a_writer_that_gets_it_wrong_is_seen(studio, three, tmp_path, name):
    """The same file with one thing flipped no longer shows the preview's buffers."""
    material = studio.asset.materials[0]
    mesh, buffer = studio.asset.mesh, "normal"
    if name == "green":
        material = replace(material, normal=material.normal * [1, -1, 1])
    elif name == "roughness and metallic":
        material, buffer = replace(material, roughness=material.metallic, metallic=material.roughness), "metallic"
    elif name == "sRGB":
        material, buffer = replace(material, albedo=material.albedo**2.2), "albedo"
    else:
        mesh = replace(mesh, tangents=Corners(mesh.tangents.values * [1, 1, 1, -1], mesh.tangents.index))
    write_glb(tmp_path / "a.glb", replace(studio.asset, materials=[material], mesh=mesh))
    mine, theirs = expected(studio)[buffer], three(tmp_path / "a.glb", buffer)
    assert psnr(np.broadcast_to(mine, theirs.shape), theirs, inside(studio)) < 30


@pytest.mark.slow
def test_lit(studio, three, glb):
    """three.js prefilters its light another way: a softer bound, but every wrong light is far below it."""
    turns = [(0, TURN, 0), (0, 0, 0), (0, -TURN, 0), (0, 2 * TURN, 0), (np.pi, TURN, 0)]
    preview = display(studio.preview["rgb"])
    right, *wrong = [psnr(preview, theirs, inside(studio)) for theirs in three(glb, "lit", turns)]
    assert right > 25, (right, wrong)
    assert max(wrong) < right - 6, (right, wrong)


def test_a_mirrored_node(studio, three, tmp_path):
    local = np.array([[0, -2, 0, 1], [0.5, 0, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1.0]])
    asset = replace(studio.asset, nodes=[Node("up", np.linalg.inv(local)), Node("ball", local, 0)])
    asset.mesh = replace(asset.mesh, face_node=np.ones(len(asset.mesh.faces), np.int32))
    for quantized in (False, True):
        write_glb(tmp_path / "a.glb", asset, quantized=quantized)
        mine, theirs = expected(studio)["albedo"], three(tmp_path / "a.glb", "albedo")
        assert psnr(mine, theirs, inside(studio)) > 45
