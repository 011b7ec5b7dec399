"""Plain data, numpy only: cameras, frames, captures, meshes, materials, lights."""

from stspbr.scene.asset import Asset, Node
from stspbr.scene.camera import Camera, look_at
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.light import EnvironmentLight, direction_to_latlong, latlong_to_direction
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh
from stspbr.scene.normalization import Normalization

__all__ = [
    "Asset",
    "Camera",
    "Capture",
    "Corners",
    "EnvironmentLight",
    "Frame",
    "Material",
    "Mesh",
    "Node",
    "Normalization",
    "direction_to_latlong",
    "latlong_to_direction",
    "look_at",
]
