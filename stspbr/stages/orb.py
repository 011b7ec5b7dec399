"""Evaluate on Stanford-ORB's own protocol: render what the benchmark asks for, in its layout, and score it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stspbr.artifacts import Artifact
from stspbr.datasets.orb_benchmark import (
    Wanted,
    mask_of,
    read_results,
    scores_of,
    target_files,
    target_mesh,
    wanted_views,
)
from stspbr.datasets.world_axes import y_up_from
from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.images import read_image, write_exr
from stspbr.formats.lights import read_light
from stspbr.formats.obj_writer import write_obj
from stspbr.metrics.orb import CHAMFER_IN_TABLES
from stspbr.render.gbuffer import Surface, ViewBatch, render_gbuffer
from stspbr.scene import Asset, Camera, Capture, EnvironmentLight, Frame, Material
from stspbr.scene.light import turned_light
from stspbr.settings import CoarseSettings, EvaluateSettings, parse_settings
from stspbr.stages.evaluation_pictures import Renders
from stspbr.stages.session import Session, on_first_rank
from stspbr.stages.state import load_capture, make_transport, save_json
from stspbr.transport.ground import floored_light

RESULTS, SCORES = "results.json", "scores.json"


@on_first_rank
def run_orb(session: Session, settings: EvaluateSettings) -> Artifact:
    """Render the newest bake, or its refinement, as Stanford-ORB asks for it, and compute the benchmark's figures.

    Writes ``view/``, ``light/``, ``material/`` and ``geometry/`` (EXR, a quarter of the photographs' size),
    ``mesh.obj`` in the data set's world, ``results.json`` and ``scores.json`` in the benchmark's formats.
    """
    root = Path(settings.orb or "").resolve()
    bake = session.asset()
    lineage = session.lineage(bake)
    source = lineage["capture"]
    capture = load_capture(source, session)
    scene = _scene(root, source)
    back = _scene_from_world(source, capture)
    asset = read_gltf(bake.file("asset.glb"))
    coarse = lineage["coarse"]
    coarse_settings = parse_settings(CoarseSettings, coarse.settings, f"{coarse.path}: settings")
    metrics = json.loads(bake.file("metrics.json").read_text(encoding="utf-8"))
    grey = metrics["ground"]["grey"] if "ground" in metrics else None
    exported = EnvironmentLight(read_image(bake.file("light.hdr"))[0])
    test, novel = wanted_views(root, scene, novel=False), wanted_views(root, scene, novel=True)
    test, novel = ([_moved(item, back) for item in items] for items in (test, novel))
    transport = make_transport(source, capture, coarse_settings.transport, session)

    def renders(light: EnvironmentLight) -> Renders:
        return Renders(session, asset, light, transport)

    with session.create("orb", settings, [bake]) as draft:
        folder = draft.path
        own = renders(exported)
        tasks: dict[str, Any] = {"view": [], "light": [], "geometry": [], "material": []}
        truths = _truths(root, scene, [item.name for item in test])
        for item in test:
            out = own.of(_frame(item))
            tasks["view"].append(_pair(folder, f"view/{item.name}.exr", out["rgb"], item.image))
            tasks["geometry"] += _geometry(session, folder, asset, item, out, truths)
            if item.name in truths["material"]:
                cover = np.maximum(out["alpha"], 1e-6)  # renders are premultiplied
                pair = _pair(folder, f"material/{item.name}.exr", out["albedo"] / cover, truths["material"][item.name])
                tasks["material"].append({**pair, "target_mask": str(mask_of(item.image))})
        for item in novel:
            if item.light is None:
                raise StspbrError(f"{item.scene} has no light for {item.name}: unpack ground_truth of Stanford-ORB")
            light = turned_light(read_light(item.light), item.camera.camera_to_world[:3, :3])
            out = renders(light if grey is None else floored_light(light, grey)).of(_frame(item))
            tasks["light"].append(_pair(folder, f"light/{item.scene}_{item.name}.exr", out["rgb"], item.image))
        half = np.full((1, 1, 3), 0.5, np.float32)
        plain = Material(half, half[..., :1], half[..., :1])
        mesh = replace(asset.mesh, uvs=None, tangents=None, face_material=None)
        write_obj(folder / "mesh.obj", Asset(mesh, [plain]).transformed(back))
        if target_mesh(root, scene).is_file():
            tasks["shape"] = {"output_mesh": "mesh.obj", "target_mesh": str(target_mesh(root, scene))}
        info = {scene: tasks}
        save_json({"info": info}, folder / RESULTS)
        save_json(scores_of(info, folder), folder / SCORES)
    return draft.artifact


def score_file(path: Path) -> Path:
    """Compute the figures of anyone's results file; return the path of ``<stem>_scores.json`` beside it.

    Raises:
        StspbrError: see ``scores_of``.
    """
    scores = scores_of(read_results(path), path.parent)
    out = path.with_name(f"{path.stem}_scores.json")
    save_json(scores, out)
    return out


def orb_table(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows (what, value) for the terminal, in the benchmark's units."""
    stats, rows = scores["scores_stats"], []
    labels = {"light": "relighting", "view": "novel views", "material": "albedo"}
    forms = {"psnr_hdr": "PSNR-H {:.2f}", "psnr_ldr": "PSNR-L {:.2f}", "ssim": "SSIM {:.3f}", "lpips": "LPIPS {:.3f}"}
    for task, label in labels.items():
        found = stats.get(task, {})
        texts = [form.format(found[key][0]) for key, form in forms.items() if found.get(key)]
        rows.append((label, ", ".join(texts) or "no targets"))
    for task, key, label, factor in (
        ("geometry", "depth_mse_scene", "depth, 10⁻³", 1e3),
        ("geometry", "normal_angle", "normals, 1 − cos", 1.0),
        ("shape", "bidir_chamfer", "shape, as in the tables", CHAMFER_IN_TABLES),
    ):
        value = stats.get(task, {}).get(key)
        rows.append((label, f"{factor * value[0]:.3f}" if value else "no targets"))
    return rows


def _scene(root: Path, source: Artifact) -> str:
    """The name of the scene that was captured."""
    if source.settings.get("kind") != "orb":
        raise StspbrError("--orb measures captures of Stanford-ORB: make one with `stspbr capture orb`")
    scene = Path(str(source.settings["folder"])).name
    if not (root / "blender_HDR" / scene).is_dir():
        raise StspbrError(
            f"--orb {root}: there is no blender_HDR/{scene} in it: give the folder that holds blender_HDR"
        )
    return scene


def _scene_from_world(source: Artifact, capture: Capture) -> np.ndarray:
    """``[4, 4]`` from the capture's world to that of ``blender_HDR``."""
    if capture.original_from_world is not None:
        return np.asarray(capture.original_from_world, np.float64)
    if Path(str(source.settings["folder"])).parent.name.startswith("llff"):
        raise StspbrError("--orb needs a capture of blender_HDR or blender_LDR: COLMAP's world is another one")
    up = str(source.settings.get("up", "auto"))  # captures of versions that did not write the world down
    return y_up_from("+z" if up == "auto" else up).T


def _moved(item: Wanted, back: np.ndarray) -> Wanted:
    """``item`` with its camera in the capture's world, which ``back`` leads from."""
    pose = np.linalg.inv(back) @ item.camera.camera_to_world
    pose[:3, :3] /= np.cbrt(np.linalg.det(pose[:3, :3]))
    return replace(item, camera=replace(item.camera, camera_to_world=pose))


def _frame(item: Wanted) -> Frame:
    empty = np.zeros((item.camera.height, item.camera.width, 3), np.float32)
    return Frame(item.name, item.camera, empty, empty[..., :1])


def _truths(root: Path, scene: str, names: Sequence[str]) -> dict[str, dict[str, Path]]:
    kinds = {"normal": ("surface_normal", "npy"), "depth": ("z_depth", "npy"), "material": ("pseudo_gt_albedo", "png")}
    return {key: target_files(root, scene, kind, suffix, names) for key, (kind, suffix) in kinds.items()}


def _pair(folder: Path, name: str, image: np.ndarray, target: Path) -> dict[str, str]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_exr(folder / name, image)
    return {"output_image": name, "target_image": str(target)}


def _geometry(
    session: Session, folder: Path, asset: Asset, item: Wanted, out: dict[str, np.ndarray], truths: dict
) -> list[dict[str, str]]:
    """Normals in the camera's axes (+X right, +Y up, +Z towards it) and depth along its axis, 0 where there is none."""
    if item.name not in truths["normal"] and item.name not in truths["depth"]:
        return []
    row = {"target_mask": str(mask_of(item.image))}
    (folder / "geometry").mkdir(exist_ok=True)
    images = {
        "normal": (out["normal"] @ item.camera.world_to_camera[:3, :3].T, ("R", "G", "B")),
        "depth": (_depth(session, asset, item.camera), ("Y",)),
    }
    for kind, (image, channels) in images.items():
        if item.name in truths[kind]:
            name = f"geometry/{kind}_{item.name}.exr"
            write_exr(folder / name, image, channels=channels)
            row |= {f"output_{kind}": name, f"target_{kind}": str(truths[kind][item.name])}
    return [row]


@torch.no_grad()
def _depth(session: Session, asset: Asset, camera: Camera) -> np.ndarray:
    views = ViewBatch.of([camera], [np.eye(4)], session.device)
    gbuffer = render_gbuffer(Surface.of(asset.mesh, session.device), views, session.backend)
    turn = camera.world_to_camera
    depth = np.zeros(camera.height * camera.width, np.float32)
    positions = gbuffer.position.cpu().numpy().astype(np.float64)
    depth[gbuffer.covered.cpu().numpy()] = -(positions @ turn[2, :3] + turn[2, 3])
    return depth.reshape(camera.height, camera.width, 1)
