"""Evaluation of maps from a text: against the ranges of the words, not against an asset."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.images import read_image
from stspbr.metrics.prompt import light_in_albedo, prompt_error
from stspbr.metrics.sampling import sample_surface
from stspbr.priors.vocabulary import Vocabulary
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.gbuffer import surface_points
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, EnvironmentLight
from stspbr.settings import EvaluateSettings
from stspbr.stages.session import Session
from stspbr.stages.state import save_json

_SAMPLES = 20_000


def evaluate_prompt(session: Session, settings: EvaluateSettings, bake: Artifact) -> Artifact:
    """Write ``prompt.json``: per part the distance of its averages to the words' ranges, and the light in its albedo.

    Raises:
        StspbrError: the maps do not come from a text, or from one that no vocabulary knows.
    """
    metrics = json.loads(bake.file("metrics.json").read_text(encoding="utf-8"))
    if "prompts" not in metrics:
        raise StspbrError(f"{bake.path}: its maps do not come from a text; leave --prompt out")
    asset = read_gltf(bake.file("asset.glb"))
    light = EnvironmentLight(read_image(bake.file("light.hdr"))[0])
    found = prompt_errors(session, asset, metrics["prompts"], light, settings.samples or _SAMPLES)
    with session.create("evaluate", settings, [bake]) as draft:
        save_json({"prior": metrics["prior"], "parts": found}, draft.path / "prompt.json")
    return draft.artifact


@torch.no_grad()
def prompt_errors(
    session: Session, asset: Asset, prompts: dict[str, str], light: EnvironmentLight, samples: int
) -> dict[str, Any]:
    """``prompt_error`` and ``light_in_albedo`` of each part at points even over it.

    Args:
        prompts: by the names of the materials of a part, joined with `` + ``.
    """
    vocabulary, out = Vocabulary.read(), {}
    names = [material.name for material in asset.materials]
    renderer = AssetRenderer(asset, session.backend, session.device)
    around = prefilter_latlong(light, 128, session.run / ".cache").to(session.device)
    for label, prompt in prompts.items():
        caption = vocabulary.parse(prompt)
        own = [names.index(name) for name in label.split(" + ")]
        faces = np.flatnonzero(np.isin(asset.mesh.material_of, own))
        _, chosen, barycentric = sample_surface(asset.mesh.of_faces(faces), samples, session.seed)
        triangle = torch.as_tensor(faces[chosen], dtype=torch.int64, device=session.device)
        weights = torch.as_tensor(barycentric[:, 1:], dtype=torch.float32, device=session.device)
        places = surface_points(renderer.surface, triangle, weights, session.backend)
        if places.uv_da is not None:
            places.uv_da = torch.zeros_like(places.uv_da)  # texels, not their means over a triangle
        material = renderer.material(places)
        albedo = material.albedo.cpu().numpy()
        values = [getattr(material, name)[:, 0].cpu().numpy() for name in ("roughness", "metallic")]
        seen = session.backend.texture(
            around.diffuse[None], places.normal[None, None].contiguous(), filter_mode="linear", boundary_mode="cube"
        )
        irradiance = seen[0, 0].mean(1).cpu().numpy()
        out[label] = {
            "prompt": prompt, **prompt_error(caption, vocabulary, albedo, *values),
            "light_in_albedo": light_in_albedo(albedo, irradiance),
        }  # fmt: skip
    return out
