"""Write the parts of a reconstruction into an artifact, and read them in the next stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from stspbr.artifacts import Artifact
from stspbr.datasets.tiled_frames import tiled
from stspbr.datasets.transforms import frame_sizes, read_transforms
from stspbr.errors import StspbrError, first_line
from stspbr.fields.materials import MaterialFields
from stspbr.optimize.flash import Flash
from stspbr.optimize.lights import KnownLight, LearnedLight, Light
from stspbr.optimize.views import overview_scale
from stspbr.render.light import EnvironmentCube
from stspbr.render.light_filter import light_filter
from stspbr.render.prefilter import PrefilteredLight, prefilter_latlong
from stspbr.render.rays.backend import choose_rays
from stspbr.scene import Capture, Corners, EnvironmentLight, Mesh, Normalization
from stspbr.settings import METAL_PRIOR, CoarseSettings, FieldSettings, LightSettings, TransportSettings
from stspbr.stages.ground import chosen_ground
from stspbr.stages.session import Session
from stspbr.transport.ground import FIRST_GREY, FloorLight, lower_light, upper_half, upper_light
from stspbr.transport.neighbours import Neighbours
from stspbr.transport.transport import Transport

_BESIDE_FLASH = 0.3  # of its usual start: what a learned light has beside a flash
IN_MEMORY = 1 << 29
"""Bytes of all frames above which they are left on disk."""


def load_capture(artifact: Artifact, session: Session | None = None) -> Capture:
    """The checked capture of a capture artifact.

    Args:
        session: if the frames are large, they are decoded once into a file of the run's cache (``tiled_frames``), and
            stay there; None: they are read into memory.
    """
    path = artifact.file("transforms.json")
    if session is None:
        return read_transforms(path)
    count, width, height = frame_sizes(path)
    if 16 * count * width * height <= IN_MEMORY:
        return read_transforms(path)
    tiles = session.run / ".cache" / "frames" / f"{artifact.content_hash[:16]}.tiles"
    scale = overview_scale((height, width))

    def make() -> Capture:
        return read_transforms(path, stream=session.say)

    def of_first_rank() -> None:
        if tiled(tiles, make, scale)[1]:
            size = tiles.stat().st_size / 1e9
            session.say(f"{count} frames of {width}x{height} decoded once, {size:.2f} GB in {tiles}")

    session.ranks.first(of_first_rank)
    return tiled(tiles, make, scale)[0]


def known_light(capture: Capture, settings: LightSettings) -> EnvironmentLight | None:
    """The capture's light if it is used as it is; None if the light is learned.

    Raises:
        StspbrError: the mode is ``known``, but the capture has no light.
    """
    if settings.mode == "known" and capture.light is None:
        raise StspbrError("light.mode=known, but the capture stores no light: give one, or set light.mode=learned")
    return None if settings.mode == "learned" else capture.light


def make_light(
    capture: Capture,
    settings: LightSettings,
    session: Session,
    state: Path | None = None,
    grey: list[float] | None = None,
    flash: float | None = None,
) -> Light:
    """The light of a stage: a known light, prefiltered once, or a learned light from ``state`` or from grey.

    Args:
        grey: ``[3]`` albedo that the floor's starts from, unless ``state`` has it; None: there is no floor.
        flash: usual distance of the cameras if a new light has a flash on them; that of ``state`` has its own.

    Raises:
        StspbrError: a flash beside a known light.
    """
    if (known := known_light(capture, settings)) is not None:
        if flash is not None:
            raise StspbrError("light.flash=on: beside a flash the light is learned: set light.mode=learned")

        def filtered(light: EnvironmentLight) -> PrefilteredLight:
            resolution, cache = settings.known_resolution, session.run / ".cache"
            return prefilter_latlong(light, base_resolution=resolution, cache_dir=cache).to(session.device)

        if grey is None:
            return KnownLight(filtered(known))
        return KnownLight(filtered(upper_light(known)), FloorLight(filtered(lower_light(known)), grey))
    size = settings.learned_resolution
    tensors = None if state is None else _tensors(state)
    lamp = Flash(1.0 if flash is None else flash) if flash is not None or "flash.distance" in (tensors or {}) else None
    dimmed = 1.0 if lamp is None else _BESIDE_FLASH
    cube = EnvironmentCube(size, dimmed * settings.initial_radiance, settings.common_scale)
    floor = None if grey is None else FloorLight(light_filter(size)((1 - upper_half(size)).repeat(1, 1, 1, 3)), grey)
    light = LearnedLight(cube, settings.white_balance, settings.smoothness, floor, lamp)
    if tensors is not None:
        light.load_state_dict(tensors)
    return light.to(session.device)


def flash_distance(source: Artifact, capture: Capture, settings: LightSettings) -> float | None:
    """The usual distance of the cameras from the middle of ``capture``, in its units, if it has a flash on them.

    Args:
        source: the capture's artifact, which says whether it is lit by a flash.
        capture: about the origin.
    """
    if settings.flash == "off" or (settings.flash == "auto" and source.settings.get("light") != "flash"):
        return None
    places = [
        np.linalg.inv(np.asarray(f.object_to_world, np.float64)) @ f.camera.camera_to_world for f in capture.frames
    ]
    return float(np.median([np.linalg.norm(place[:3, 3]) for place in places]))


def make_transport(
    source: Artifact,
    capture: Capture,
    settings: TransportSettings,
    session: Session,
    normalization: Normalization | None = None,
    *,
    cut_outs: bool = False,
) -> Transport | None:
    """Transport of the captured object; None if it has none.

    Args:
        source: the capture's artifact: a mesh rendered by the rasteriser shows no shadows of its own.
        normalization: of the object in the stage; None: it has the capture's units.
        cut_outs: whether opacity is learned: rays would take leaves for cards.

    Raises:
        StspbrError: a floor that the capture cannot have, or that needs transport; transport of cut-outs; rays that
            cannot be cast on the session's device.
    """
    if cut_outs and settings.mode == "on":
        raise StspbrError("transport.mode=on: rays take leaves for cards: set transport.mode=auto or fields.alpha=off")
    unshadowed = source.settings.get("renderer") == "raster"
    if settings.mode == "off" or (settings.mode == "auto" and (unshadowed or cut_outs)):
        if not isinstance(settings.ground, str):
            raise StspbrError(f"transport.ground={settings.ground:g} needs transport: add transport.mode=on")
        return None
    choose_rays(settings.rays, session.device)  # a stage must not stop when its first ray is cast
    ground, why = chosen_ground(source, capture, settings)
    if ground is not None and normalization is not None:
        ground = ground.normalized(normalization)
    poses = {np.asarray(frame.object_to_world, np.float32)[:3, :3].tobytes() for frame in capture.frames}
    copies = source.settings.get("kind") == "duplicates" and settings.neighbours == "auto" and len(capture.frames) > 1
    every = np.stack([np.asarray(frame.object_to_world, np.float64) for frame in capture.frames]) if copies else None
    neighbours = None if every is None else Neighbours.of(every, normalization)
    return Transport(session.backend, settings.rays, len(poses), ground, why, neighbours)


def continued(
    parent: Artifact,
    source: Artifact,
    capture: Capture,
    settings: CoarseSettings,
    session: Session,
    normalization: Normalization,
) -> tuple[Transport | None, Light]:
    """Transport and light of a stage that goes on from ``parent``; the light is as ``parent`` left it.

    Args:
        source, settings: the capture's artifact, and the settings of the coarse stage that all go back to.
    """
    transport = make_transport(
        source, capture, settings.transport, session, normalization, cut_outs=settings.fields.cut_outs
    )
    state = parent.file("light.safetensors") if "light.safetensors" in parent.files else None
    return transport, make_light(capture, settings.light, session, state, grey_of(transport, parent))


def grey_of(transport: Transport | None, parent: Artifact | None = None) -> list[float] | None:
    """Albedo ``[3]`` of the floor that ``parent`` has learned, or to start from; None: there is no floor."""
    if transport is None or transport.ground is None:
        return None
    learned = {} if parent is None else json.loads(parent.file("metrics.json").read_text(encoding="utf-8"))
    return learned.get("ground", {}).get("grey", [FIRST_GREY] * 3)


def make_fields(
    settings: FieldSettings,
    session: Session,
    generator: torch.Generator,
    state: Path | None = None,
    metal_prior: float = METAL_PRIOR,
) -> MaterialFields:
    """The material networks over the normalised box [−1, 1]³, from ``state`` or freshly initialised.

    Args:
        metal_prior: odds against metals, for a fresh start.
    """
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    out = MaterialFields(settings, box, generator, session.encoding, metal_prior)
    if state is not None:
        out.load_state_dict(_tensors(state))
    return out.to(session.device)


def save_state(module: torch.nn.Module, path: Path) -> None:
    """Write a module's parameters and buffers as safetensors."""
    save_tensors(module.state_dict(), path)


def save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write tensors by name as safetensors."""
    save_file({k: np.ascontiguousarray(v.detach().cpu().numpy()) for k, v in tensors.items()}, path)


def save_mesh(mesh: Mesh, path: Path) -> None:
    """Write a mesh, every corner attribute with its own index, as safetensors."""
    owners = {"face_material": mesh.face_material, "face_node": mesh.face_node}
    arrays = {"positions": mesh.positions, "faces": mesh.faces, **{k: v for k, v in owners.items() if v is not None}}
    for name, corners in mesh.attributes():
        arrays |= {name: corners.values, f"{name[:-1]}_faces": corners.index}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def load_mesh(path: Path) -> Mesh:
    """The inverse of ``save_mesh``; StspbrError if the file is damaged."""
    arrays = _arrays(path)
    lost = {"positions", "faces"} - arrays.keys()
    lost |= {f"{name[:-1]}_faces" for name in ("uvs", "normals", "tangents") if name in arrays} - arrays.keys()
    if lost:
        raise StspbrError(f"{path} is not a mesh of a stage: run the stage again")

    def corners(name: str) -> Corners[np.ndarray] | None:
        return Corners(arrays[name], arrays[f"{name[:-1]}_faces"]) if name in arrays else None

    uvs, normals, tangents = (corners(name) for name in ("uvs", "normals", "tangents"))
    owners = arrays.get("face_material"), arrays.get("face_node")
    return Mesh(arrays["positions"], arrays["faces"], uvs, normals, tangents, *owners)


def save_json(data: dict, path: Path) -> None:
    """Write sorted, indented JSON."""
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_normalization(artifact: Artifact) -> Normalization:
    """The map between the object's units and the box [−1, 1]³."""
    return Normalization.from_json(json.loads(artifact.file("normalization.json").read_text(encoding="utf-8")))


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v) for k, v in _arrays(path).items()}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StspbrError(f"{path} is truncated or corrupt ({first_line(error)}): run its stage again") from error


def load_module_state(module: torch.nn.Module, path: Path) -> None:
    """Read what ``save_state`` wrote into a module.

    Raises:
        StspbrError: the file is damaged, or a tensor is missing or of another shape.
    """
    stored = _arrays(path)
    for name, own in module.state_dict().items():
        if name not in stored:
            raise StspbrError(f"{path} has no {name}: it is of another model")
        if tuple(stored[name].shape) != tuple(own.shape):
            have, want = list(stored[name].shape), list(own.shape)
            raise StspbrError(f"{path}: {name} has the shape {have}, not {want}: it is of another model")
    module.load_state_dict({name: torch.from_numpy(stored[name].copy()) for name in module.state_dict()})
