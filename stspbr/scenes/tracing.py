"""From a scene's description to what the tracer takes, and its views."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from stspbr.errors import StspbrError, did_you_mean
from stspbr.render.scene_tracer import TEXTURES, SceneTracer, Surfaces, TracedScene, Triangles
from stspbr.scenes.description import Scene, SceneCamera
from stspbr.scenes.furniture import find_shape
from stspbr.scenes.shapes import joined
from stspbr.settings.scene_model import CHANNELS


def traced_scene(scene: Scene) -> TracedScene:
    """The triangles, spheres, materials and lights of a scene.

    Raises:
        StspbrError: a shape, a material or a texture does not exist.
    """
    names = list(scene.materials)
    parts, owners, spheres, sphere_owners = [], [], [], []
    for number, shape in enumerate(scene.geometry):
        if shape.material not in scene.materials:
            near = did_you_mean(shape.material, names)
            raise StspbrError(f"geometry {number}: there is no material {shape.material!r}{near}")
        owner = names.index(shape.material)
        transform = np.array(shape.transform, np.float64).T
        if shape.type == "sphere" and (radius := _radius(transform)) is not None:
            spheres.append([*transform[:3, 3], radius])
            sphere_owners.append(owner)
            continue
        kind = {"grid": "grid", "sphere": "ball"}.get(shape.type, shape.path)
        parts.append(find_shape(kind).placed(transform))
        owners.append(np.full(len(parts[-1].faces), owner))
    if not parts:
        raise StspbrError("the scene has no shape of triangles")
    whole = joined(parts)
    materials = list(scene.materials.values())
    for name, material in scene.materials.items():
        if material.texture not in TEXTURES:
            near = did_you_mean(material.texture, TEXTURES)
            raise StspbrError(f"material {name}: there is no texture {material.texture!r}{near}")
    highest = max(material.id for material in materials) + 1
    surfaces = Surfaces(
        colour=np.array([material.color for material in materials], np.float32),
        roughness=np.array([material.roughness for material in materials], np.float32),
        identity=np.array([material.id / highest for material in materials], np.float32),
        texture=np.array([TEXTURES.index(material.texture) for material in materials], np.uint32),
        frequency=np.array([material.texture_frequency for material in materials], np.float32),
    )
    balls = [light for light in scene.lights if light.type == "sphere"]
    quads = [light for light in scene.lights if light.type == "quad"]
    return TracedScene(
        triangles=Triangles(whole.positions, whole.normals, whole.uvs, whole.faces, np.concatenate(owners)),
        surfaces=surfaces,
        spheres=np.array(spheres, np.float32).reshape(-1, 4),
        sphere_surface=np.array(sphere_owners, np.int32),
        light_spheres=np.array([[*light.position, light.size] for light in balls], np.float32).reshape(-1, 4),
        sphere_radiance=np.array([light.radiance for light in balls], np.float32).reshape(-1, 3),
        light_quads=np.array([_quad(light.position, light.direction, light.size) for light in quads], np.float32)
        .reshape(-1, 3, 3),
        quad_radiance=np.array([light.radiance for light in quads], np.float32).reshape(-1, 3),
        bounces=scene.bounces,
        hide_lights=scene.hide_lights,
    )  # fmt: skip


def render_views(
    tracer: SceneTracer,
    scene: Scene,
    cameras: Sequence[SceneCamera],
    size: int,
    spp: int,
    seed: int,
    passes: Collection[str] = tuple(CHANNELS),
) -> dict[str, np.ndarray]:
    """All views of a scene: by pass ``[V, C, size, size]`` float32, linear."""
    poses = np.stack([camera.world_to_camera for camera in cameras])
    return tracer.render(traced_scene(scene), poses, [camera.fov for camera in cameras], size, spp, seed, passes)


def pose_numbers(cameras: Sequence[SceneCamera]) -> np.ndarray:
    """``[V, 16]`` float32: the world-to-camera matrices, row-major."""
    return np.stack([camera.world_to_camera.reshape(-1) for camera in cameras]).astype(np.float32)


def _radius(transform: np.ndarray) -> float | None:
    """The radius of a unit ball under a transform; None if its scales differ."""
    scales = np.linalg.norm(transform[:3, :3], axis=0)
    return float(scales[0]) if np.ptp(scales) < 1e-5 * scales.max() else None


def _quad(position: Sequence[float], direction: Sequence[float], size: float) -> np.ndarray:
    """Centre and two half sides, whose cross product is along ``direction``."""
    ahead = np.asarray(direction, np.float64)
    ahead = ahead / np.linalg.norm(ahead)
    right = np.cross([0.0, 1.0, 0.0] if abs(ahead[1]) < 0.9 else [1.0, 0.0, 0.0], ahead)
    right /= np.linalg.norm(right)
    return np.stack([np.asarray(position, np.float64), size * right, size * np.cross(ahead, right)])
