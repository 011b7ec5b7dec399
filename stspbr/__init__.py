"""stspbr: from photographs of one object to a mesh with physically based textures.

The names in ``__all__`` are the public interface. Each is imported from its module at first use: ``import stspbr``
loads nothing else, and assets, captures, images and artifacts are read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_NAMES = {
    "artifacts": "ArtifactStore",
    "datasets.captures": "read_capture write_dataset",
    "errors": "StspbrError",
    "fields.materials": "MaterialFields",
    "formats.assets": "read_asset write_asset",
    "formats.images": "read_image",
    "metrics.material": "material_error",
    "optimize.losses": "register_loss",
    "render.operations": "antialias interpolate rasterize sample_texture",
    "render.prefilter": "prefilter_latlong",
    "render.shading": "shade",
    "scene": "Asset Camera Capture EnvironmentLight Frame Material Mesh look_at",
    "settings": "load_recipe",
    "stages.bake": "run_bake",
    "stages.capture": "run_capture",
    "stages.coarse": "run_coarse",
    "stages.evaluate": "run_evaluate",
    "stages.run": "run_recipe",
    "stages.session": "Session",
    "stages.specialize": "run_specialize",
    "stages.unpack_orm": "run_unpack_orm",
    "threads": "prepare_process",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *_MODULES]

if TYPE_CHECKING:  # the same names, where type checkers and editors look for them
    from stspbr.artifacts import ArtifactStore as ArtifactStore
    from stspbr.datasets.captures import read_capture as read_capture
    from stspbr.datasets.captures import write_dataset as write_dataset
    from stspbr.errors import StspbrError as StspbrError
    from stspbr.fields.materials import MaterialFields as MaterialFields
    from stspbr.formats.assets import read_asset as read_asset
    from stspbr.formats.assets import write_asset as write_asset
    from stspbr.formats.images import read_image as read_image
    from stspbr.metrics.material import material_error as material_error
    from stspbr.optimize.losses import register_loss as register_loss
    from stspbr.render.operations import antialias as antialias
    from stspbr.render.operations import interpolate as interpolate
    from stspbr.render.operations import rasterize as rasterize
    from stspbr.render.operations import sample_texture as sample_texture
    from stspbr.render.prefilter import prefilter_latlong as prefilter_latlong
    from stspbr.render.shading import shade as shade
    from stspbr.scene import Asset as Asset
    from stspbr.scene import Camera as Camera
    from stspbr.scene import Capture as Capture
    from stspbr.scene import EnvironmentLight as EnvironmentLight
    from stspbr.scene import Frame as Frame
    from stspbr.scene import Material as Material
    from stspbr.scene import Mesh as Mesh
    from stspbr.scene import look_at as look_at
    from stspbr.settings import load_recipe as load_recipe
    from stspbr.stages.bake import run_bake as run_bake
    from stspbr.stages.capture import run_capture as run_capture
    from stspbr.stages.coarse import run_coarse as run_coarse
    from stspbr.stages.evaluate import run_evaluate as run_evaluate
    from stspbr.stages.run import run_recipe as run_recipe
    from stspbr.stages.session import Session as Session
    from stspbr.stages.specialize import run_specialize as run_specialize
    from stspbr.stages.unpack_orm import run_unpack_orm as run_unpack_orm
    from stspbr.threads import prepare_process as prepare_process
else:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
