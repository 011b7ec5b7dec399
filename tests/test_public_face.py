"""`import stspbr`: every public name, loaded when it is used and not before."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import stspbr
from stspbr.render.backend import get_backend, why_no_gpu_backend


def test_type_checkers_see_the_names_that_are_loaded_at_run_time():
    tree = ast.parse(Path(stspbr.__file__).read_text(encoding="utf-8"))
    imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith("stspbr.")
    ]
    seen = {alias.asname: node.module for node in imports for alias in node.names if alias.asname == alias.name}
    assert seen == {name: f"stspbr.{module}" for name, module in stspbr._MODULES.items()}


@pytest.mark.parametrize("name", stspbr.__all__)
def test_every_name_is_there_and_is_no_module(name):
    assert getattr(stspbr, name).__doc__ and name in dir(stspbr)
    assert importlib.util.find_spec(f"stspbr.{name}") is None, "importing that module would replace the name"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'stspbr' has no attribute 'Meshes'"):
        _ = stspbr.Meshes
    with pytest.raises(ImportError, match="cannot import name 'Meshes'"):
        from stspbr import Meshes  # noqa: F401


def test_data_is_read_and_written_without_torch(tiny_run, tmp_path):
    code = f"""
import sys
import stspbr
assert not [name for name in sys.modules if name.startswith("stspbr.") and name != "stspbr.version"]
run, folder = {str(tiny_run)!r}, {str(tmp_path)!r}
for name in ("a.glb", "a.obj"):
    stspbr.write_asset(folder + "/" + name, stspbr.read_asset("procedural:demo"))
    assert len(stspbr.read_asset(folder + "/" + name).mesh.faces) > 1000
capture = stspbr.read_capture(stspbr.ArtifactStore(run).resolve("capture").path)
assert len(capture.frames) == 8 and isinstance(capture.frames[0].camera, stspbr.Camera)
slow = {{"torch", "numba", "trimesh", "mitsuba", "pxr"}}
assert not slow & set(sys.modules), slow & set(sys.modules)
stspbr.shade
assert "torch" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_raster_operations_are_the_backends(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("raster operations on CUDA: no GPU here")
    if device == "cuda" and (reason := why_no_gpu_backend(torch.device("cuda"))) is not None:
        pytest.skip(reason)
    clip = torch.tensor([[[-1.0, -1, 0, 1], [1, -1, 0, 1], [0, 1, 0, 1]]], device=device)
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    backend = get_backend("auto", clip.device)
    rast, rast_db = stspbr.rasterize(clip=clip, faces=faces, resolution=(8, 8))
    assert rast[..., 3].sum() > 10
    for ours, theirs in zip((rast, rast_db), backend.rasterize(clip, faces, (8, 8)), strict=True):
        assert torch.equal(ours, theirs)
    values, _ = stspbr.interpolate(clip, rast, faces)
    assert torch.equal(values, backend.interpolate(clip, rast, faces)[0])
    color = values[..., :3].contiguous()
    assert torch.equal(stspbr.antialias(color, rast, clip, faces), backend.antialias(color, rast, clip, faces))
    uv = values[..., :2].contiguous()
    assert torch.equal(stspbr.sample_texture(color, uv), backend.texture(color, uv))
