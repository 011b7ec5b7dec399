"""From one photograph of a pile to maps, against the truth: what ``make quality-duplicates ARGS="--maps"`` adds.

The recipe ``pile`` is run whole. Its result is measured by ours (points on the surface) and by the measure of
structure from duplicates (Cheng et al., NeurIPS 2023): images of the input view, in a display space of gamma 2.2, with
albedo scaled by the ratio of the channels' means in that space.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.artifacts import RUN_FACTS, Artifact
from stspbr.metrics.image import psnr
from stspbr.metrics.poses import pose_errors
from stspbr.scene import Asset, Capture, Frame

_GAMMA = 2.2
_STAGES = ("coarse", "specialize", "bake")


def from_pile_to_maps(run: Path, overrides: Sequence[str] = (), threads: int = 1) -> dict[str, Any]:
    """Run the recipe ``pile`` in ``run``, or what is left of it, and measure its result.

    Args:
        overrides: of the recipe, as ``--set`` has them.

    Returns:
        Copies with a pose, errors of the poses as mapped and as refined (degrees; shares of the object's diagonal),
        errors of maps and shape, relighting under every light of ``evaluate.lights``, seconds by stage.

    Raises:
        StspbrError: as the stages do.
    """
    from stspbr.settings import load_recipe
    from stspbr.stages.run import run_recipe
    from stspbr.stages.session import Session

    recipe = load_recipe("pile", overrides)
    session = Session.open(run, seed=recipe.seed, device="cpu", threads=threads, quiet=True, resume=True)
    done = run_recipe(session, recipe, lambda line: None, without=["unpack-orm"])
    return measured_maps(session, done)


def measured_maps(session: Any, done: dict[str, Artifact]) -> dict[str, Any]:
    """The figures of a finished run: see ``from_pile_to_maps``."""
    from stspbr.formats.assets import read_asset
    from stspbr.formats.gltf.reader import read_gltf
    from stspbr.stages.cameras import refined_capture
    from stspbr.stages.state import load_capture

    capture = load_capture(done["capture"], session)
    assert capture.original_from_world is not None
    asset = read_asset(done["capture"].settings["photo"])
    truth = asset.transformed(np.linalg.inv(capture.original_from_world))
    record = json.loads((done["capture"].path / "duplicates.json").read_text(encoding="utf-8"))
    errors = json.loads(done["evaluate"].file("errors.json").read_text(encoding="utf-8"))
    lit, geometry = errors["material"]["lit"], errors["geometry"]
    refined = refined_capture(capture, done["bake"])
    own = json.loads((session.run / "pile" / "truth.json").read_text(encoding="utf-8"))
    diagonal = float(np.linalg.norm(np.ptp(asset.mesh.positions, axis=0)))
    facts = {name: json.loads((done[name].path / RUN_FACTS).read_text(encoding="utf-8")) for name in _STAGES}
    # of the capture, only the writing is on record
    seconds = {name: own["seconds"] for name, own in facts.items() if "seconds" in own}
    return {
        "copies": len(record["copies"]),
        "registered": record["registered"],
        "mapped": against_truth(capture, record, own, diagonal),
        "refined": against_truth(refined, record, own, diagonal),
        "albedo_psnr": lit["albedo_psnr_scaled"],
        "roughness_mse": None if lit["roughness_rmse"] is None else lit["roughness_rmse"] ** 2,
        "metallic_mae": lit["metallic_mae"],
        "normal_angle": lit["normal_angle_mean"],
        "f_score_1%": geometry.get("seen", geometry)["f_score_1%"],
        "relit_psnr": {name: light["psnr"] for name, light in (errors["relighting"] or {}).items()},
        "theirs": in_their_measure(session, read_gltf(done["bake"].file("asset.glb")), truth, refined.frames),
        "seconds": seconds,
    }


def against_truth(capture: Capture, record: dict[str, Any], truth: dict[str, Any], diagonal: float) -> dict[str, float]:
    """Errors of a capture's poses: degrees, and shares of the object's diagonal, on average and at worst."""
    view = np.linalg.inv(np.asarray(truth["camera_to_world"]))
    frames = {frame.name: frame for frame in capture.frames}
    found, true = {}, {}
    for entry in record["copies"]:
        if "frame" in entry:
            frame, number = frames[entry["frame"]], entry["label"]
            found[number] = np.linalg.inv(frame.camera.camera_to_world) @ frame.object_to_world
            true[number] = view @ np.asarray(truth["object_to_world"][number - 1])
    errors = pose_errors(found, true)
    turns, shifts = (np.array(list(part.values())) for part in (errors.rotations, errors.translations))
    return {
        "rotation_mean": float(turns.mean()),
        "rotation_max": float(turns.max()),
        "translation_mean": float(shifts.mean()) / diagonal,
        "translation_max": float(shifts.max()) / diagonal,
    }


def in_their_measure(session: Any, estimate: Asset, truth: Asset, frames: Sequence[Frame]) -> dict[str, float]:
    """Albedo PSNR and roughness MSE of images of the copies, as structure from duplicates measures them.

    Over the pixels that both cover. Their code maps an estimate's roughness by the gamma, and the truth's from 8 bits
    by it and back; here both are the perceptual roughness as it is.
    """
    from stspbr.scene import EnvironmentLight
    from stspbr.stages.evaluation_pictures import Renders

    grey = EnvironmentLight(np.full((16, 32, 3), 0.5, np.float32))
    sides = [Renders(session, asset, grey) for asset in (truth, estimate)]
    values: dict[str, list[np.ndarray]] = {name: [] for name in ("true", "own", "rough", "own_rough")}
    for frame in frames:
        one, other = (side.of(frame) for side in sides)
        both = (one["alpha"] > 0.5)[..., 0] & (other["alpha"] > 0.5)[..., 0] & (frame.alpha > 0.5)[..., 0]
        values["true"].append(one["albedo"][both].clip(0.0, 1.0) ** (1.0 / _GAMMA))
        values["own"].append(other["albedo"][both].clip(0.0, 1.0) ** (1.0 / _GAMMA))
        values["rough"].append(one["roughness"][both])
        values["own_rough"].append(other["roughness"][both])
    true, own, rough, own_rough = (np.concatenate(part) for part in values.values())
    scaled = (own * (true.mean(axis=0) / np.maximum(own.mean(axis=0), 1e-6))).clip(0.0, 1.0)
    return {
        "albedo_psnr": psnr(true[None], scaled[None]),
        "roughness_mse": float(((rough - own_rough) ** 2).mean()),
    }
