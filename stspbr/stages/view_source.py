"""What a viewer reads of a run: artifacts, photos and lights. Nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stspbr.artifacts import FINISHED, Artifact
from stspbr.datasets.transforms import frame_sizes, read_transforms
from stspbr.errors import StspbrError
from stspbr.fields.material_values import MaterialValues
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.images import read_image, read_pixels
from stspbr.optimize.appearance import FieldAppearance
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.lights import in_units_of
from stspbr.optimize.live_model import MATERIAL, LiveModel, read_live_model
from stspbr.render.asset_renderer import Around, AssetRenderer
from stspbr.render.gbuffer import GBuffer, Surface
from stspbr.render.lamp import CameraLamp
from stspbr.render.material_maps import sample_maps
from stspbr.render.prefilter import PrefilteredLight, cached_light, prefilter_latlong
from stspbr.render.raster_backend import RasterBackend
from stspbr.scene import Asset, Capture, EnvironmentLight, Frame, Normalization
from stspbr.settings import CaptureMeshSettings, CoarseSettings, parse_settings
from stspbr.stages.capture_mesh import load_asset
from stspbr.stages.evaluate import load_lights
from stspbr.stages.given_mesh import in_world_of, load_given_mesh
from stspbr.stages.session import Session
from stspbr.stages.state import IN_MEMORY, load_mesh, load_normalization, make_fields, make_light, make_transport
from stspbr.transport.ground import floored_light
from stspbr.transport.transport import Transport
from stspbr.view.run_state import Activity, RunState, Version
from stspbr.view.subject import Subject

_LIGHT_RESOLUTION = 256


class RunSource:
    """Reads a run for a viewer. Whatever it needs is kept in memory; the run's folder is never written to.

    Args:
        lights: files, folders and patterns, as ``evaluate --lights`` takes them.
    """

    def __init__(self, session: Session, lights: list[str] | None = None) -> None:
        self._session = session
        self.lights: Mapping[str, EnvironmentLight] = load_lights(lights or [])
        self._captures: dict[str, Capture] = {}

    def subject(self, version: Version) -> Subject | None:
        """What an artifact holds: an asset, networks on a mesh, or of a capture the asset that it was rendered from."""
        artifact = self._session.store.resolve(version.stage, version.version)
        lineage = self._session.store.lineage(artifact)
        if "capture" not in lineage:  # maps from a text
            light_file = artifact.file("light.hdr")
            return self._asset(read_gltf(artifact.file("asset.glb")), EnvironmentLight(read_image(light_file)[0]))
        source = lineage["capture"]
        capture = self._capture(source)
        if artifact.stage == "capture":
            return self._reference(artifact, capture)
        coarse, light = lineage["coarse"], _light_of(artifact, capture)

        def transport() -> Transport | None:
            return make_transport(source, capture, _settings(coarse).transport, self._session)

        if artifact.stage in FINISHED:
            subject = self._asset(read_gltf(artifact.file("asset.glb")), light)
            subject.maps = _confidence(artifact, subject)
        else:
            subject = self._networks(artifact, coarse, _settings(coarse), capture)
            subject.light = light
        subject.around = self._around(subject, transport)
        metrics = json.loads(artifact.file("metrics.json").read_text(encoding="utf-8"))
        subject.lamp = CameraLamp.of(metrics.get("flash"), self._session.device)
        return subject

    def live(self, activity: Activity) -> Subject:
        """The surface of a stage that is going on, its material given at vertices."""
        assert activity.model is not None
        model = read_live_model(activity.model)
        light = model.light or self._capture(self._session.store.resolve("capture")).light
        return _vertex_subject(model, light, self._session)

    def frames(self, state: RunState) -> list[Frame]:
        """The frames of the newest capture."""
        newest = next(version for version in reversed(state.versions) if version.stage == "capture")
        return self._capture(self._session.store.resolve("capture", newest.version)).frames

    def prefiltered(self, light: EnvironmentLight) -> PrefilteredLight:
        """A light as the shading reads it: from the run's cache if a stage has left it there, but never put there."""
        found = cached_light(light, _LIGHT_RESOLUTION, self._session.run / ".cache")
        return (found or prefilter_latlong(light, _LIGHT_RESOLUTION)).to(self._session.device)

    def _capture(self, artifact: Artifact) -> Capture:
        if artifact.content_hash not in self._captures:
            path = artifact.file("transforms.json")
            count, width, height = frame_sizes(path)
            small = 16 * count * width * height <= IN_MEMORY
            self._captures = {artifact.content_hash: read_transforms(path, stream=None if small else lambda _: None)}
        return self._captures[artifact.content_hash]

    def _asset(self, asset: Asset, light: EnvironmentLight | None) -> Subject:
        occluded = any(material.occlusion is not None for material in asset.materials)
        renderer = AssetRenderer(asset, self._session.backend, self._session.device)
        return Subject.of(renderer, light, occluded)

    def _reference(self, artifact: Artifact, capture: Capture) -> Subject | None:
        """The asset that a capture was rendered from; None for photos."""
        if artifact.settings.get("kind") != "mesh":
            return None
        settings = parse_settings(CaptureMeshSettings, artifact.settings, f"{artifact.path}: settings")
        try:
            asset = in_world_of(load_asset(settings), capture.original_from_world, settings.asset)
        except (StspbrError, OSError):
            return None  # the file has gone, and the photos are there
        if not settings.occlusion:
            asset = replace(asset, materials=[replace(material, occlusion=None) for material in asset.materials])
        subject = self._asset(asset, capture.light)
        how = CoarseSettings().transport
        subject.around = self._around(subject, lambda: make_transport(artifact, capture, how, self._session))
        return subject

    def _networks(self, artifact: Artifact, coarse: Artifact, settings: CoarseSettings, capture: Capture) -> Subject:
        """Networks on a mesh of ``coarse`` or ``specialize``."""
        normalization, given, device = load_normalization(artifact), load_given_mesh(coarse), self._session.device
        geometry = FixedGeometry(
            load_mesh(artifact.file("mesh.safetensors")), movable=False, laplacian=0.0, folding=0.0, device=device,
            normal_maps=() if given is None else given.normal_maps,
        )  # fmt: skip
        fields = make_fields(
            settings.fields, self._session, torch.Generator().manual_seed(0), artifact.file("fields.safetensors")
        )
        bends = settings.normals_from <= 1.0
        appearance = FieldAppearance(fields, 0.0 if bends else settings.normals_from)
        light = None
        if "light.safetensors" in artifact.files:
            metrics = json.loads(artifact.file("metrics.json").read_text(encoding="utf-8"))
            light = make_light(
                replace(capture, light=None), settings.light, self._session, artifact.file("light.safetensors"),
                metrics.get("ground", {}).get("grey"),
            )  # fmt: skip

        def material(gbuffer: GBuffer) -> MaterialValues:
            values = appearance.evaluate(_normalized(gbuffer, normalization), 1.0)
            return values if light is None else replace(values, albedo=in_units_of(light, values.albedo))

        def opacity(gbuffer: GBuffer) -> Tensor:
            found = appearance.evaluate(_normalized(gbuffer, normalization), 1.0).opacity
            assert found is not None
            return found

        surface = _in_world(geometry.surface(), normalization)
        return Subject(
            surface, material, self._session.backend, device,
            opacity=opacity if appearance.sees_through(1.0) else None, occluded=settings.fields.occlusion,
        )  # fmt: skip

    def _around(self, subject: Subject, make: Callable[[], Transport | None]) -> Callable[[], Around] | None:
        """What gives a subject's shadows, made when they are first asked for; None if it has none."""
        try:
            transport = None if subject.opacity is not None else make()
        except StspbrError:
            return None  # settings of another version of stspbr: the asset itself can be seen
        if transport is None:
            return None
        made: list[Around] = []

        def around() -> Around:
            if not made:
                transport.refresh(subject.surface, subject.material)
                made.append(transport.seen)
            return made[0]

        return around


def _settings(coarse: Artifact) -> CoarseSettings:
    return parse_settings(CoarseSettings, coarse.settings, f"{coarse.path}: settings")


def _normalized(gbuffer: GBuffer, normalization: Normalization) -> GBuffer:
    centre = torch.as_tensor(normalization.centre, dtype=torch.float32, device=gbuffer.position.device)
    return replace(gbuffer, position=(gbuffer.position - centre) / normalization.scale)


def _in_world(surface: Surface, normalization: Normalization) -> Surface:
    positions = surface.positions.detach()
    centre = torch.as_tensor(normalization.centre, dtype=torch.float32, device=positions.device)
    return replace(surface, positions=positions * normalization.scale + centre)


def _light_of(artifact: Artifact, capture: Capture) -> EnvironmentLight | None:
    """The light that an artifact was made with."""
    if "light.hdr" in artifact.files:
        return EnvironmentLight(read_image(artifact.file("light.hdr"))[0])
    metrics = json.loads(artifact.file("metrics.json").read_text(encoding="utf-8"))
    if "ground" in metrics and capture.light is not None:
        return floored_light(capture.light, metrics["ground"]["grey"])
    return capture.light


def _confidence(artifact: Artifact, subject: Subject) -> dict[str, Callable[[GBuffer], Tensor]]:
    """What ``confidence/<channel>.png`` say, by channel; nothing where there are none."""
    found: dict[str, Callable[[GBuffer], Tensor]] = {}
    for name in artifact.files:
        path = Path(name)
        if path.parent.as_posix() == "confidence" and path.suffix == ".png" and subject.surface.uvs is not None:
            pixels = read_pixels(artifact.file(name))[None, ..., :1]
            image = torch.as_tensor(np.ascontiguousarray(pixels), device=subject.device)
            found[path.stem] = partial(_looked_up, image, subject.backend)
    return found


def _looked_up(image: Tensor, backend: RasterBackend, gbuffer: GBuffer) -> Tensor:
    return sample_maps([image], None, *gbuffer.coordinates(), backend.texture)


def _vertex_subject(model: LiveModel, light: EnvironmentLight | None, session: Session) -> Subject:
    """A surface whose material is given at its vertices."""
    surface = Surface.of(model.mesh, session.device)
    parts = [torch.as_tensor(model.material[name], device=session.device) for name in MATERIAL]
    values = torch.cat(parts, dim=1)[None].contiguous()

    def material(gbuffer: GBuffer) -> MaterialValues:
        listed = gbuffer.rast.reshape(-1, 4).index_select(0, gbuffer.covered)[None, None].contiguous()
        found = session.backend.interpolate(values, listed, surface.faces)[0][0, 0]
        own = dict(zip(MATERIAL, found.split(list(MATERIAL.values()), dim=1), strict=True))
        own["normal"] = torch.nn.functional.normalize(own["normal"], dim=1)
        return MaterialValues(**own)

    return Subject(surface, material, session.backend, session.device, light=light)
