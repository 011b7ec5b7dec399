"""A scene as data: materials, lights, shapes and cameras, and the published JSON files of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stspbr.errors import StspbrError, first_line

Vector = tuple[float, float, float]
Row = tuple[float, float, float, float]
IDENTITY: tuple[Row, Row, Row, Row] = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))


class _Part(BaseModel):
    # files of other programs may hold more than we read
    model_config = ConfigDict(extra="ignore", frozen=True)


class SceneMaterial(_Part):
    """``color`` linear in [0, 1]; ``roughness`` 0.05 (a mirror) to 1 (matt); ``id`` numbers it for the buffer."""

    color: Vector = (0.5, 0.5, 0.5)
    emission: float | Vector = 0.0
    roughness: float = Field(1.0, ge=0.05, le=1.0)
    ior: float = 15.0
    texture: str = ""
    texture_frequency: float = 1.0
    id: int = Field(0, ge=0)


class SceneLight(_Part):
    """A sphere of ``size`` radius, or a quad of ``size`` half a side that shines along ``direction``.

    ``emission`` is a power: the radiance is emission/(4π size²) of a sphere and emission/(4 size²) of a quad.
    """

    type: Literal["sphere", "quad"] = "sphere"
    position: Vector
    direction: Vector = (0.0, -1.0, 0.0)
    size: float = Field(0.125, gt=0)
    emission: Vector

    @property
    def radiance(self) -> np.ndarray:
        """``[3]`` linear."""
        area = 4.0 * self.size**2 * (np.pi if self.type == "sphere" else 1.0)
        return np.asarray(self.emission, np.float64) / area


class SceneShape(_Part):
    """A shape of a unit box or ball about the origin, placed by ``transform``, whose translation is its last row.

    ``grid``: the square of ±½ in x and z, which faces +y; ``sphere``: of radius 1; ``file``: ``path`` is one of our
    own shapes (``scenes.shapes.SHAPES``), or an OBJ file.
    """

    type: Literal["grid", "sphere", "file"]
    transform: tuple[Row, Row, Row, Row] = IDENTITY
    material: str
    path: str = ""
    name: str = ""


class SceneCamera(_Part):
    """``fov``: whole angle in degrees."""

    position: Vector
    lookat: Vector
    fov: float = Field(75.0, gt=0, lt=180)
    near: float = 0.01
    far: float = 100.0

    @property
    def world_to_camera(self) -> np.ndarray:
        """``[4, 4]`` float64, OpenGL axes, +Y up."""
        eye, target = np.asarray(self.position, np.float64), np.asarray(self.lookat, np.float64)
        return np.linalg.inv(looking(eye, target))


class Scene(_Part):
    """A scene without cameras; two scenes of one kind have the same shapes and materials by name."""

    seed: int = 0
    cache: bool = True
    bounces: int = Field(4, ge=1, le=64)
    hide_lights: bool = True
    top_level_acceleration: str = "Trbvh"
    materials: dict[str, SceneMaterial]
    lights: tuple[SceneLight, ...] = ()
    geometry: tuple[SceneShape, ...]


def composed(light: Scene, geometry: Scene, material: Scene) -> Scene:
    """The lights of one scene, the shapes of another and the materials of a third; all of one kind."""
    missing = {shape.material for shape in geometry.geometry} - set(material.materials)
    if missing:
        raise StspbrError(f"these scenes are of different kinds: one has no material {sorted(missing)[0]!r}")
    return geometry.model_copy(update={"lights": light.lights, "materials": material.materials})


def looking(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``[4, 4]`` camera-to-world, OpenGL axes, of a camera that looks at a target with +Y up."""
    ahead = target - eye
    length = np.linalg.norm(ahead)
    ahead = np.array([0.0, 0.0, -1.0]) if length < 1e-9 else ahead / length
    up = np.array([0.0, 1.0, 0.0]) if abs(ahead[1]) < 0.9999 else np.array([0.0, 0.0, 1.0])
    right = np.cross(ahead, up)
    right /= np.linalg.norm(right)
    out = np.eye(4)
    out[:3] = np.stack([right, np.cross(right, ahead), -ahead, eye], axis=1)
    return out


def placed(
    position: Sequence[float] = (0.0, 0.0, 0.0),
    scale: float | Sequence[float] = 1.0,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
) -> tuple[Row, Row, Row, Row]:
    """A transform for JSON: scale, then roll about z, pitch about x, yaw about y (degrees), then translation."""
    s, c = np.sin(np.radians([yaw, pitch, roll])), np.cos(np.radians([yaw, pitch, roll]))
    about_y = np.array([[c[0], 0, s[0]], [0, 1, 0], [-s[0], 0, c[0]]])
    about_x = np.array([[1, 0, 0], [0, c[1], -s[1]], [0, s[1], c[1]]])
    about_z = np.array([[c[2], -s[2], 0], [s[2], c[2], 0], [0, 0, 1]])
    out = np.eye(4)
    out[:3, :3] = about_y @ about_x @ about_z @ np.diag(np.broadcast_to(np.asarray(scale, float), 3))
    out[:3, 3] = position
    return tuple(tuple(float(v) for v in row) for row in out.T)  # type: ignore[return-value]


def view_json(scene: Scene, camera: SceneCamera) -> str:
    """The published file of one view."""
    values = {"camera": camera.model_dump(mode="json"), **scene.model_dump(mode="json")}
    return json.dumps(values, indent=1) + "\n"


def read_view(path: Path) -> tuple[Scene, SceneCamera]:
    """The scene and the camera of a view's file.

    Raises:
        StspbrError: the file is missing, is no JSON, or lacks something; one line.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        return Scene.model_validate(values), SceneCamera.model_validate(values["camera"])
    except OSError as error:
        raise StspbrError(f"{path}: cannot read the scene: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StspbrError(f"{path}: not a JSON file: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise StspbrError(f"{path}: {'.'.join(map(str, first['loc']))}: {first_line(first['msg'])}") from None
    except (KeyError, TypeError):
        raise StspbrError(f"{path}: the scene has no camera") from None


def read_scene(folder: Path) -> tuple[Scene, list[SceneCamera]]:
    """A scene's folder with ``view000.json`` and so on, or one view's file."""
    files = [folder] if folder.is_file() else sorted(folder.glob("view*.json"))
    if not files:
        raise StspbrError(f"{folder}: no scene here: give a folder with view000.json, or such a file")
    views = [read_view(path) for path in files]
    return views[0][0], [camera for _, camera in views]


def write_scene(folder: Path, scene: Scene, cameras: Sequence[SceneCamera]) -> None:
    """Write a scene's views, as ``read_scene`` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, camera in enumerate(cameras):
        (folder / f"view{number:03d}.json").write_text(view_json(scene, camera), encoding="utf-8")
