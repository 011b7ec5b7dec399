"""A step on another device than the CPU, as far as that can be told without one.

Every operation of a step, forward and backward, runs on torch's ``meta`` device, which has shapes and types but no
data, under a mode that refuses what a GPU would make wait or could not do: reading a value on the host, copying from
it, and mixing tensors of two devices. The numbers are compared on the CPU, kernels against their torch twins.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stspbr import kernel_dispatch
from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.tangents import with_frames
from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.optimize.appearance import FieldAppearance, MaterialMaps, TextureAppearance
from stspbr.optimize.geometry import FixedGeometry, ImplicitGeometry
from stspbr.optimize.lights import KnownLight, LearnedLight
from stspbr.optimize.loop import Stopwatch, optimize
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.routing import backpropagate
from stspbr.optimize.views import ViewSet
from stspbr.render import shading
from stspbr.render.backend import get_backend
from stspbr.render.light import EnvironmentCube
from stspbr.render.raster_backend import RasterBackend
from stspbr.scene import Corners, Mesh
from stspbr.settings import CoarseSettings, FieldSettings, HashGridSettings, settings_for
from stspbr.stages.coarse import _normalization
from stspbr.stages.session import Session
from stspbr.stages.state import load_capture, make_fields
from stspbr.warp_runtime import why_no_warp

META = torch.device("meta")
GRID = HashGridSettings(levels=2, log2_table_size=8, base_resolution=4, finest_resolution=8)
FOUND = 48  # entries of every list whose length depends on data


class Device(TorchDispatchMode):
    """Refuses what would wait for a GPU or could not run on one."""

    def __init__(self):
        super().__init__()
        self.from_host, self.count, self.lists = False, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        name = str(function)
        assert "_local_scalar_dense" not in name, "a value is read on the host"
        devices = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.ndim}
        if not self.from_host:
            assert "cpu" not in devices, f"{name}: a tensor of the host's"
        out = function(*args, **(kwargs or {}))
        if not self.from_host:
            made = {t.device.type for t in tree_leaves(out) if isinstance(t, torch.Tensor) and t.ndim}
            assert "cpu" not in made, f"{name}: a tensor made on the host"
        return out


def blank_backend():
    """Raster operations with the right shapes that check what they are given and depend on all of it."""

    def zeros(shape, *sources):
        assert {source.device.type for source in sources} == {"meta"}
        assert all(source.is_contiguous() for source in sources)
        return sources[0].new_zeros(shape, dtype=torch.float32) + 0.0 * sum(
            s.sum() for s in sources if s.is_floating_point()
        )

    def rasterize(clip, faces, resolution):
        assert faces.dtype == torch.int32
        shape = (len(clip), *resolution, 4)
        return zeros(shape, clip, faces), zeros(shape, clip)

    def interpolate(attributes, rast, faces, rast_db=None, diff_attributes=None):
        assert faces.dtype == torch.int32 and attributes.dtype == rast.dtype == torch.float32
        channels = attributes.shape[2] if diff_attributes == "all" else 0
        values = zeros((*rast.shape[:3], attributes.shape[2]), attributes, rast, faces)
        return values, zeros((*rast.shape[:3], 2 * channels), attributes, *([rast_db] if channels else []))

    def antialias(color, rast, clip, faces):
        return color + zeros(color.shape, color, rast, clip, faces)

    def texture(tex, uv, uv_da=None, mip_level_bias=None, mip=None, filter_mode="auto", boundary_mode="wrap",
                max_mip_level=None):  # fmt: skip
        sources = [tex, uv, *[t for t in (uv_da, mip_level_bias) if t is not None], *(mip or [])]
        return zeros((*uv.shape[:3], tex.shape[-1]), *sources)

    return RasterBackend("blank", rasterize, interpolate, antialias, texture)


@contextmanager
def blank_device(monkeypatch):
    """What ``meta`` lacks: lists of unknown length, generators, and sparse products."""
    mode = Device()
    batch = ViewSet.batch

    def from_host(views, ids):
        before, mode.from_host = mode.from_host, True
        try:
            return batch(views, ids)
        finally:
            mode.from_host = before

    def nonzero(values):
        assert values.device.type == "meta"
        mode.lists += 1
        return torch.empty(FOUND, values.ndim, dtype=torch.int64, device=values.device)

    monkeypatch.setattr(torch, "nonzero", nonzero)
    monkeypatch.setattr(ViewSet, "batch", from_host)
    monkeypatch.setattr(ViewSet, "exposure", lambda views: 0.5)
    monkeypatch.setattr("stspbr.optimize.reconstruction.step_generator", lambda step, seed, device: None)
    monkeypatch.setattr(
        "stspbr.render.light_filter._torch_matrix",
        lambda matrix, columns, like: like.new_empty(matrix[1].size - 1, columns),
    )
    for name, original in (("tensor", torch.tensor), ("as_tensor", torch.as_tensor)):

        def make(data, *args, original=original, device=None, **kwargs):  # noqa: ANN001, ANN202
            host = not isinstance(data, torch.Tensor) and device is not None and torch.device(device).type != "cpu"
            assert mode.from_host or not host, "a tensor is copied from the host"  # without a copy on meta alone
            return original(data, *args, device=device, **kwargs)

        monkeypatch.setattr(torch, name, make)
    for name in ("numpy", "cpu", "tolist", "item", "__float__", "__int__", "__bool__"):

        def refuse(self, *args, name=name, **kwargs):  # noqa: ANN001, ANN202
            raise AssertionError(f"Tensor.{name} waits for the device")

        monkeypatch.setattr(torch.Tensor, name, refuse)
    with mode:
        yield mode


def on_meta(value):
    """``value`` with all tensors of its lists and of dataclasses that are no modules on ``meta``."""
    if isinstance(value, torch.Tensor):
        return value.to(META)
    if isinstance(value, list):
        return [on_meta(one) for one in value]
    if is_dataclass(value):
        return replace(value, **{f.name: on_meta(getattr(value, f.name)) for f in fields(value)})
    return value


def settings(*overrides):
    return settings_for(CoarseSettings, ["geometry.resolution=10", "normals_from=0.0", "optimize.batch=2", *overrides])


def captured(run):
    session = Session.open(run, device="cpu", quiet=True)
    capture = load_capture(session.parent("capture"))
    return session, _normalization(capture, settings(), None)[0].capture(capture)


def implicit(run, encoding="torch", *overrides):
    """The coarse problem's parts on the CPU: frames, DMTet, both networks, a learned light."""
    session, capture = captured(run)
    chosen = settings(*overrides)
    generator = torch.Generator().manual_seed(0)
    dmtet = DMTet(10, np.full(3, -1.0), np.full(3, 1.0), generator)
    dmtet.init_sdf(visual_hull_sdf(dmtet.grid.numpy(), capture.split("train")))
    session.encoding = encoding
    networks = FieldSettings(appearance=GRID, reflectance=GRID, width=8, occlusion=True)
    appearance = FieldAppearance(make_fields(networks, session, generator), chosen.normals_from)
    light = LearnedLight(EnvironmentCube(16, 0.5, common_scale=True), 0.005, 0.002)
    return capture.split("train"), ImplicitGeometry(dmtet, chosen.geometry), appearance, light, chosen.optimize


def textured(run, movable=True):
    """The bake's: a fixed mesh with frames, maps, a known light."""
    _, capture = captured(run)
    positions = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.3]], np.float32) * 0.5
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uvs = positions[:, :2] * 0.9 + 0.5
    mesh = with_frames(Mesh(positions, faces, uvs=Corners(uvs, faces)))
    kept = [] if movable else [np.full((4, 4, 3), 0.5, np.float32)]
    geometry = FixedGeometry(
        mesh, movable=movable, laplacian=0.1, folding=0.1, device=torch.device("cpu"), normal_maps=kept
    )
    flat = torch.tensor([0.0, 0, 1]).expand(8, 8, 3)
    maps = [MaterialMaps(torch.full((8, 8, 3), 0.5), torch.full((8, 8, 2), 0.5), flat)]
    appearance = TextureAppearance(maps, roughness_range=(0.05, 1.0), joint=False, backend=blank_backend())
    light = KnownLight(EnvironmentCube(16, 0.5).prefilter().detach())
    return capture.split("train"), geometry, appearance, light, settings().optimize


def moved(parts):
    frames, geometry, appearance, light, chosen = parts
    geometry, appearance, light = geometry.to(META), appearance.to(META), light.to(META)
    if isinstance(geometry, FixedGeometry):
        geometry._fixed = on_meta(geometry._fixed)
    if isinstance(light, KnownLight):
        light._light = on_meta(light._light)
    views = ViewSet(frames, 1, META, chosen.views)
    return Reconstruction(views, geometry, appearance, light, settings=chosen, backend=blank_backend(), seed=0)


OTHER_LOSSES = ("optimize.losses.reflectance={relmse=1.0}", "optimize.losses.reflectance_region=interior")
# covered pixels and the union of coverages are lists, so are crossing edges and faces of the implicit surface
CASES = {
    "implicit": (lambda run: implicit(run), 4),
    "implicit, streamed": (lambda run: implicit(run, "torch", "optimize.views=streamed"), 4),
    "implicit, other losses": (lambda run: implicit(run, "torch", *OTHER_LOSSES), 5),
    "textures": (lambda run: textured(run), 2),
    "textures on a given mesh": (lambda run: textured(run, movable=False), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_neither_waits_nor_mixes_devices(tiny_run, monkeypatch, case):
    make, lists = CASES[case]
    parts = make(tiny_run)
    shading.load_lobe_table().on_device.pop((META, torch.float32), None)
    monkeypatch.setattr(ViewSet, "exposure", lambda views: 0.5)
    problem = moved(parts)
    groups = {name: [p for p in ps if p.requires_grad] for name, ps in problem.groups().items()}
    with blank_device(monkeypatch) as mode:
        mode.from_host = True  # what does not change is copied to the device once, in the first step
        problem.terms(0, 0.5, Stopwatch())
        mode.from_host, mode.count, mode.lists = False, 0, 0
        terms = problem.terms(3, 0.6, Stopwatch())
        backpropagate(terms, groups, "strict")
        problem.constrain()
        assert mode.count > 300
        assert mode.lists == lists, "each list whose length depends on data is waited for once"
    assert {p.device.type for ps in groups.values() for p in ps} == {"meta"}
    assert all(p.grad is not None and p.grad.shape == p.shape for ps in groups.values() for p in ps)


def test_the_mode_sees_what_it_is_for(monkeypatch):
    with blank_device(monkeypatch):
        there = torch.zeros(3, device=META)
        for wrong in (
            lambda: there + torch.ones(3),
            lambda: torch.tensor([1.0, 2.0], device=META),
            lambda: float(there.sum()),
            lambda: there.sum().item(),
            lambda: there.cpu(),
        ):
            with pytest.raises(AssertionError):
                wrong()


def gradients(problem):
    groups = problem.groups()
    terms = problem.terms(3, 0.6, Stopwatch())
    backpropagate(terms, groups, "strict")
    return {t.name: t.value.detach() for t in terms}, {
        name: [p.grad.clone() for p in params if p.requires_grad] for name, params in groups.items()
    }


@pytest.mark.parametrize("other", ["torch", "warp"])
def test_a_step_of_the_twins_or_of_warp_is_a_step_of_the_kernels(tiny_run, monkeypatch, other):
    """The same raster operations; encoding, extraction, prefilter and shading by Numba's kernels or by ``other``."""
    if other == "warp" and (reason := why_no_warp()) is not None:
        pytest.skip(reason)
    results = []
    for encoding in ("cpu", other):
        if encoding == other:
            monkeypatch.setattr(kernel_dispatch, "choose", lambda *args, **kwargs: other)
        frames, geometry, appearance, light, chosen = implicit(tiny_run, encoding)
        backend = get_backend("cpu", torch.device("cpu"))
        views = ViewSet(frames, 1, torch.device("cpu"))
        problem = Reconstruction(views, geometry, appearance, light, settings=chosen, backend=backend, seed=0)
        results.append(gradients(problem))
    (values, grads), (twin_values, twin_grads) = results
    assert values.keys() == twin_values.keys() and grads.keys() == twin_grads.keys()
    for name, value in values.items():
        torch.testing.assert_close(twin_values[name], value, rtol=1e-4, atol=1e-7, msg=name)
    for name, group in grads.items():
        for found, wanted in zip(twin_grads[name], group, strict=True):
            assert (found - wanted).norm() <= 2e-3 * wanted.norm(), name
            assert wanted.any(), name


class Noted:
    def __init__(self):
        self.steps = []

    def step(self, step, losses, rates, seconds):
        self.steps.append(step)

    def image(self, *args):
        pass

    message = image


def test_on_a_gpu_losses_are_checked_only_where_they_are_read(tiny_run, tmp_path, monkeypatch):
    from stspbr.optimize import loop
    from stspbr.optimize.checkpoint import Checkpoints
    from stspbr.optimize.routing import STRICT_A, Term

    checked = []
    monkeypatch.setattr(loop, "check_finite", lambda terms, step: checked.append(step + 1))
    weight = torch.nn.Parameter(torch.ones(2))

    class Problem:
        share, visited = 1.0, ()

        def groups(self):
            return {"appearance": [weight]}

        def maps(self):
            return []

        def terms(self, step, progress, watch):
            return [Term("A", weight.square().sum(), STRICT_A)]

        def constrain(self):
            pass

        def preview(self):
            return {}

        def state(self):
            return {}

    chosen = settings("optimize.iterations=23", "optimize.log_every=10", "optimize.checkpoint_every=8").optimize
    for device, wanted in (("cpu", list(range(1, 24))), ("cuda", [1, 8, 10, 16, 20, 23])):
        checked.clear()
        checkpoints = Checkpoints(tmp_path / device, {})
        optimize(Problem(), chosen, reporter=Noted(), checkpoints=checkpoints, resume=False,
                 device=torch.device(device))  # fmt: skip
        assert checked == wanted
