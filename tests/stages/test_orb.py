"""Stanford-ORB's protocol on a scene made here, whose right answer is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from stspbr.cli import app
from stspbr.datasets.orb_benchmark import wanted_views
from stspbr.errors import StspbrError
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import read_pixels, write_exr, write_hdr, write_png8
from stspbr.formats.obj_writer import write_obj
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.procedural.lights import studio_light
from stspbr.scene import Camera, Frame, look_at
from stspbr.scene.light import turned_light
from stspbr.settings import CaptureFolderSettings, EvaluateSettings
from stspbr.stages.capture import run_capture
from stspbr.stages.evaluation_pictures import Renders
from stspbr.stages.orb import run_orb
from stspbr.stages.session import Session

SIDE, FOCAL = 32, 60.0
Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # (x, y, z) → (x, −z, y)
OWN, OTHER = "jar_scene001", "jar_scene002"
TINT = np.float32([0.5, 1.0, 2.0])


def views(count, lift):
    places = [(3.4 * math.sin(k), lift, 3.4 * math.cos(k)) for k in range(count)]
    cameras = [Camera(look_at(p, (0, 0, 0)), FOCAL, FOCAL, SIDE / 2, SIDE / 2, SIDE, SIDE) for p in places]
    empty = np.zeros((SIDE, SIDE, 3), np.float32)
    return [Frame(f"{k:04d}", camera, empty, empty[..., :1]) for k, camera in enumerate(cameras)]


def photographs(folder, split, frames, renders, tint=1.0):
    """Write renders as photographs four times their size; return the entries of their JSON file."""
    entries = []
    for frame in frames:
        out = renders.of(frame)
        for name, image in (("images", out["rgb"] * tint), ("mask", out["alpha"])):
            large = image.repeat(4, axis=0).repeat(4, axis=1)
            place = folder / (split if name == "images" else f"{split}_mask")
            place.mkdir(parents=True, exist_ok=True)
            if name == "images":
                write_exr(place / f"{frame.name}.exr", large)
            else:
                write_png8(place / f"{frame.name}.png", large, srgb=False)
        pose = (Z_UP @ frame.camera.camera_to_world).tolist()
        entries.append({"file_path": f"./{split}/{frame.name}", "transform_matrix": pose})
    return entries


def listed(path, entries, **extra):
    angle = 2 * math.atan(0.5 * SIDE / FOCAL)
    frames = [{**entry, **extra, "camera_angle_x": angle} for entry in entries]
    path.write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """``(folder of the data set, run)``: a bake that is the truth, a tinted photograph under another light."""
    root = tmp_path_factory.mktemp("orb")
    run = root / "run"
    session, jar = Session.open(run, device="cpu", quiet=True), demo_asset(64)
    own = Renders(session, jar, demo_light())
    folder = root / "blender_HDR" / OWN
    train, test, novel = views(4, 0.8), views(2, 0.6), views(1, 1.0)
    listed_train = photographs(folder, "train", train, own)
    listed(folder / "transforms_train.json", listed_train)
    listed(folder / "transforms_test.json", photographs(folder, "test", test, own))
    relit = photographs(root / "blender_HDR" / OTHER, "test", novel, Renders(session, jar, studio_light()), TINT)
    listed(folder / "transforms_novel.json", relit, scene_name=OTHER)
    truth = root / "ground_truth"
    turn = novel[0].camera.camera_to_world[:3, :3]
    write_exr_in(truth / OTHER / "env_map" / "0000.exr", turned_light(studio_light(), turn.T).radiance)
    for frame in test:
        out = own.of(frame)
        normal = out["normal"] @ frame.camera.world_to_camera[:3, :3].T
        albedo = out["albedo"] / np.maximum(out["alpha"], 1e-6)
        place = truth / OWN / "pseudo_gt_albedo" / f"{frame.name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_png8(place, albedo.repeat(4, axis=0).repeat(4, axis=1), srgb=True)
        (truth / OWN / "surface_normal").mkdir(exist_ok=True)
        np.save(truth / OWN / "surface_normal" / f"{frame.name}.npy", normal.repeat(4, axis=0).repeat(4, axis=1))
        (truth / OWN / "z_depth").mkdir(exist_ok=True)
        np.save(truth / OWN / "z_depth" / f"{frame.name}.npy", np.full((4 * SIDE, 4 * SIDE), 3.4, np.float32))
    (truth / OWN / "mesh_blender").mkdir()
    write_obj(truth / OWN / "mesh_blender" / "mesh.obj", jar.transformed(Z_UP))
    run_capture(session, CaptureFolderSettings(kind="orb", folder=str(folder)))
    parent = session.parent("capture")
    for stage in ("coarse", "specialize", "bake"):
        settings = {"transport": {"mode": "off"}} if stage == "coarse" else {}
        with session.store.create(stage, settings=settings, parents=[parent], seed=0) as draft:
            if stage == "bake":
                write_glb(draft.path / "asset.glb", jar, texture_bits=16)
                write_hdr(draft.path / "light.hdr", demo_light().radiance)
                (draft.path / "metrics.json").write_text("{}")
        parent = draft.artifact
    return root, run


def write_exr_in(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_exr(path, image)


@pytest.fixture(scope="module")
def measured(benchmark):
    root, run = benchmark
    return run_orb(Session.open(run, device="cpu", quiet=True), EvaluateSettings(orb=str(root)))


def test_the_truth_has_the_best_figures(measured):
    scores = json.loads(measured.file("scores.json").read_text())
    stats = {
        task: {k: v[0] for k, v in row.items() if isinstance(v, list)} for task, row in scores["scores_stats"].items()
    }
    assert stats["view"]["psnr_ldr"] > 45 and stats["view"]["ssim"] > 0.999
    assert stats["light"]["psnr_ldr"] > 38  # its tint is scaled away; the light was resampled twice
    assert stats["material"]["psnr_ldr"] > 45
    assert stats["geometry"]["normal_angle"] < 1e-3 and 0 < stats["geometry"]["depth_mse_scene"] < 0.05
    assert 0 < stats["shape"]["bidir_chamfer"] < 0.01
    assert scores["scores_stats"]["light"]["scene_count"] == 1 and set(scores["scores"]["view_all"]) == {OWN}


def test_results_have_the_benchmarks_layout(benchmark, measured):
    info = json.loads(measured.file("results.json").read_text())["info"][OWN]
    assert [row["output_image"] for row in info["light"]] == [f"light/{OTHER}_0000.exr"]
    assert info["view"][1]["target_image"].endswith(f"blender_HDR/{OWN}/test/0001.exr")
    assert set(info["geometry"][0]) == {
        "output_normal", "target_normal", "output_depth", "target_depth", "target_mask",
    }  # fmt: skip
    assert read_pixels(measured.path / info["view"][0]["output_image"]).shape == (SIDE, SIDE, 3)
    normal = read_pixels(measured.path / info["geometry"][0]["output_normal"])
    assert normal[SIDE // 2, SIDE // 2, 2] > 0.5  # towards the camera
    depth = read_pixels(measured.path / info["geometry"][0]["output_depth"])
    assert 2 < depth[SIDE // 2, SIDE // 2, 0] < 3.5 and depth[0, 0, 0] == 0


def test_a_results_file_of_anyone_is_scored(benchmark, measured, tmp_path):
    root, _ = benchmark
    folder = tmp_path / "theirs"
    target = root / "blender_HDR" / OWN / "test" / "0000.exr"
    ours = read_pixels(measured.path / "view" / "0000.exr")
    folder.mkdir()
    write_png8(folder / "a.png", np.clip(ours, 0, 1), srgb=True)
    pairs = [{"output_image": name, "target_image": str(target)} for name in ("a.png", None)]
    (folder / "r.json").write_text(json.dumps({"info": {OWN: {"view": pairs[:1], "light": pairs[1:]}}}))
    done = CliRunner().invoke(app, ["evaluate", str(folder / "r.json")])
    assert done.exit_code == 0, done.output
    assert "novel views" in done.output and "no targets" in done.output
    scores = json.loads((folder / "r_scores.json").read_text())["scores"]
    assert scores["view_all"][OWN]["psnr_ldr"] > 35 and scores["light_all"][OWN]["psnr_ldr"] < 30
    assert scores["material_all"] == {}


def test_what_is_missing_is_named(benchmark, tmp_path):
    root, run = benchmark
    with pytest.raises(StspbrError, match="there is no blender_HDR/jar_scene001 in it"):
        run_orb(Session.open(run, device="cpu", quiet=True), EvaluateSettings(orb=str(tmp_path)))
    with pytest.raises(StspbrError, match="transforms_novel.json does not exist"):
        wanted_views(root, OTHER, novel=True)
    (tmp_path / "r.json").write_text('{"info": 3}')
    with pytest.raises(StspbrError, match="no results file of Stanford-ORB"):
        from stspbr.stages.orb import score_file

        score_file(tmp_path / "r.json")
