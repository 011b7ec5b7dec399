"""The steps of ``first_gpu_run.py``, in order of doubt. Each compares a device with our CPU kernels, or measures it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((256, 256), (1023, 517))
LEARNING_STEPS = 200


class Skip(Exception):
    """The step cannot run here, and why."""


@dataclass
class Outcome:
    """Figures, and checks of a value against a limit."""

    figures: dict[str, Any] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)

    def check(self, name: str, value: float, limit: float) -> None:
        self.checks.append({"name": name, "value": float(value), "limit": limit, "ok": bool(value <= limit)})

    def compare(self, name: str, found: Any, wanted: Any, limit: float) -> None:
        """Largest difference, relative to the largest value wanted."""
        found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
        scale = max(float(wanted.abs().max()) if wanted.numel() else 0.0, 1e-12)
        error = float((found - wanted).abs().max()) / scale if wanted.numel() else 0.0
        self.check(name, error if error == error else float("inf"), limit)


@dataclass(frozen=True)
class Step:
    """What a step is about, how many seconds it may take, and what runs it."""

    about: str
    seconds: int
    run: Callable[[str], Outcome]


def machine(device: str) -> Outcome:
    from stspbr.doctor.cuda import examine
    from stspbr.doctor.cuda_machine import describe_machine

    found = describe_machine()
    out = Outcome({"machine": {name: str(value) for name, value in vars(found).items()}})
    out.figures["doctor"] = [f"{check.name}: {check.state}, {check.detail}" for check in examine(found)]
    if device != "cpu":
        out.check("GPUs that torch does not find", 0.0 if found.torch_devices else 1.0, 0.0)
    return out


def warp_start(device: str) -> Outcome:
    """Import, initialisation, and every kernel module compiled for this device."""
    wp = _warp()
    from stspbr.warp_runtime import compile_ahead, kernel_modules

    out = Outcome({"warp": wp.config.version, "devices": [str(one) for one in wp.get_devices()], "modules": {}})
    capabilities = [75, 90, 120] if device == "cpu" else [_torch().cuda.get_device_capability(device)]
    architectures = [one if isinstance(one, int) else 10 * one[0] + one[1] for one in capabilities]
    for name in kernel_modules():
        with tempfile.TemporaryDirectory() as folder, _timed(out.figures["modules"], name):
            written = compile_ahead(name, Path(folder), architectures)
        out.check(f"{name}: files that are missing", len(architectures) - len(written), 0)
    return out


def raster(backend: str) -> Callable[[str], Outcome]:
    """The four raster operations of ``backend`` against ours, values and gradients."""

    def run(device: str) -> Outcome:
        theirs, ours = _backend(backend, device), _backend("cpu", "cpu")
        out = Outcome()
        for size in SIZES:
            _compare_raster(out, f"{size[0]}x{size[1]}", theirs, ours, device, size)
        return out

    return run


def batch(backend: str) -> Callable[[str], Outcome]:
    """Eight small images at once against eight by themselves: gradients must not go to a neighbour's vertices."""

    def run(device: str) -> Outcome:
        torch, own = _torch(), _backend(backend, device)
        clip, faces = _scene(8, device, coarse=True)
        size = (32, 32)
        colour = torch.rand(8, *size, 3, generator=torch.Generator().manual_seed(1)).to(device)
        weight = torch.rand(8, *size, 3, generator=torch.Generator().manual_seed(2)).to(device)

        def gradient(views: slice) -> Any:
            leaf = clip[views].clone().requires_grad_()
            rast, _ = own.rasterize(leaf, faces, size)
            image = own.antialias(colour[views].contiguous(), rast, leaf, faces)
            return torch.autograd.grad((image * weight[views]).sum(), leaf)[0]

        out = Outcome()
        alone = torch.cat([gradient(slice(k, k + 1)) for k in range(8)])
        out.compare("clip gradient, eight at once", gradient(slice(0, 8)), alone, 1e-4)
        return out

    return run


def degenerate(backend: str) -> Callable[[str], Outcome]:
    """Triangles without area at the silhouette, as imported meshes have them."""

    def run(device: str) -> Outcome:
        torch = _torch()
        theirs, ours = _backend(backend, device), _backend("cpu", "cpu")
        clip, faces = _scene(2, "cpu", coarse=True)
        twice = faces[::7].clone()
        twice[:, 2] = twice[:, 1]
        faces = torch.cat([faces, twice])
        out, size = Outcome(), (128, 128)
        rast, _ = ours.rasterize(clip, faces, size)
        colour = torch.rand(2, *size, 3, generator=torch.Generator().manual_seed(1))
        wanted = ours.antialias(colour, rast, clip, faces)
        found = theirs.antialias(*(one.to(device) for one in (colour, rast, clip, faces))).cpu()
        differ = ((found - wanted).abs().amax(-1) > 1e-4).float().mean()
        out.check("share of pixels that differ", float(differ), 0.0 if backend == "warp" else 0.01)
        return out

    return run


def hash_grid(backend: str) -> Callable[[str], Outcome]:
    """An encoding of twelve levels: values, and gradients of points and tables."""

    def run(device: str) -> Outcome:
        torch = _torch()
        from stspbr.errors import StspbrError
        from stspbr.fields.hash_grid import HashGridEncoding

        layout = dict(levels=12, log2_table_size=15, base_resolution=8, finest_resolution=256)
        try:
            theirs = HashGridEncoding(**layout, backend=_needs_encoding(backend, device)).to(device)
        except StspbrError as error:
            raise Skip(str(error)) from None
        ours = HashGridEncoding(**layout, generator=torch.Generator().manual_seed(0), backend="cpu")
        with torch.no_grad():
            ours.table.mul_(1e4)
        theirs.load_state_dict(ours.state_dict())
        out = Outcome()
        count, steps = (10_000, 2) if device == "cpu" else (100_000, 20)
        points = 0.02 + 0.96 * torch.rand(count, 3, generator=torch.Generator().manual_seed(1))
        found, wanted = (_gradients(grid, points.to(where)) for grid, where in ((theirs, device), (ours, "cpu")))
        for name, limit, one, other in zip(
            ("values", "points", "table"), (1e-3, 2e-2, 1e-3), found, wanted, strict=True
        ):
            out.compare(name, one, other, limit)
        with _timed(out.figures, f"seconds of {steps} steps", device):
            for _ in range(steps):
                _gradients(theirs, points.to(device))
        return out

    return run


def twins(device: str) -> Outcome:
    """Shading and the light's prefilter where the device's own code takes the place of Numba's kernels."""
    torch = _torch()
    from stspbr.render.light import EnvironmentCube
    from stspbr.render.shading import shade

    generator = torch.Generator().manual_seed(3)

    def shaded(where: str) -> tuple[Any, ...]:
        texture = _backend("auto", where).texture
        cube = EnvironmentCube(16, 0.5)
        with torch.no_grad():
            cube.log_radiance.add_(torch.rand(cube.log_radiance.shape, generator=generator.manual_seed(4)))
        cube = cube.to(where)
        albedo, roughness, metallic = (
            torch.rand(5000, n, generator=generator.manual_seed(20 + k)).to(where).requires_grad_()
            for k, n in enumerate((3, 1, 1))
        )
        normals, views = (torch.nn.functional.normalize(v - 0.5, dim=-1).to(where) for v in _directions(generator))
        colour = shade(normals, views, albedo, roughness, metallic, cube.prefilter(), texture=texture)
        return colour, *torch.autograd.grad(colour.sum(), [albedo, roughness, metallic, cube.log_radiance])

    out = Outcome()
    for number, (found, wanted) in enumerate(zip(shaded(device), shaded("cpu"), strict=True)):
        out.compare("colour" if number == 0 else f"gradient {number}", found, wanted, 1e-3)
    return out


def tests(device: str) -> Outcome:
    """The tests that skip where there is no GPU."""
    if device == "cpu":
        raise Skip("they skip without a GPU")
    if importlib.util.find_spec("pytest") is None or not (ROOT / "tests").is_dir():
        raise Skip("no pytest, or no checkout with tests")
    places = ["tests/stages/test_cuda.py", "tests/render", "tests/fields", "tests/optimize/test_views.py"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "--no-header",
        "-m",
        "not slow",
        "-k",
        "cuda or nvdiffrast or tiny",
    ]
    done = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-3000:], done.stderr[-800:])
    out = Outcome({"last line": (done.stdout.strip().splitlines() or [""])[-1]})
    out.check("pytest's exit code", done.returncode, 0)
    return out


def coarse_step(device: str) -> Outcome:
    """Steps of `stspbr bench`: seconds by part and memory; launches and waits of the host by torch's profiler."""
    torch = _torch()
    from stspbr.stages.bench import run_bench
    from stspbr.stages.session import Session

    with tempfile.TemporaryDirectory() as folder:
        session = Session.open(Path(folder), device=device, quiet=True)
        few = 2 if device == "cpu" else 20
        kinds = [torch.profiler.ProfilerActivity.CPU]
        kinds += [torch.profiler.ProfilerActivity.CUDA] if device != "cpu" else []
        with torch.profiler.profile(activities=kinds) as profile:
            result = run_bench(session, "tiny" if device == "cpu" else "gpu", steps=few, repeats=1)
    rows = {row.key: row.count for row in profile.key_averages()}
    waits = {key: n for key, n in rows.items() if "Synchronize" in key or key == "aten::_local_scalar_dense"}
    launches = sum(n for key, n in rows.items() if "LaunchKernel" in key)
    return Outcome({"steps": result["steps"], "launches": launches, "waits": waits, "backend": session.backend.name})


def learning(device: str) -> Outcome:
    """Two hundred coarse steps of the demo here and on the CPU: the loss must fall in the same way."""
    if device == "cpu":
        raise Skip("it compares a GPU with the CPU")
    from stspbr.artifacts import ArtifactStore
    from stspbr.settings import load_recipe
    from stspbr.stages.run import run_recipe
    from stspbr.stages.session import Session

    out, quality = Outcome(), {}
    changes = [f"coarse.optimize.iterations={LEARNING_STEPS}", "capture.resolution=128", "capture.views=40"]
    recipe = load_recipe("demo", changes)
    with tempfile.TemporaryDirectory() as folder:
        for where in (device, "cpu"):
            session = Session.open(Path(folder) / where.replace(":", "-"), device=where, quiet=True)
            with _timed(out.figures, f"seconds on {where}"):
                run_recipe(session, recipe, lambda line: None, until="coarse")
            store = ArtifactStore(session.run)
            metrics = store.resolve("coarse").file("metrics.json").read_text(encoding="utf-8")
            quality[where] = json.loads(metrics)["held_out"]["psnr_mean"]
    out.figures["held-out PSNR"] = quality
    out.check("dB between both", abs(quality[device] - quality["cpu"]), 0.5)
    return out


def deterministic(device: str) -> Outcome:
    """With Warp's deterministic sums, two runs of a backward pass give the same bits."""
    _warp()
    from stspbr.warp_runtime import set_deterministic

    torch, own = _torch(), _backend("warp", device)
    set_deterministic(True)
    clip, faces = _scene(2, device, coarse=False)
    colour = torch.rand(2, 256, 256, 3, generator=torch.Generator().manual_seed(1)).to(device)

    def gradient() -> Any:
        leaf = clip.clone().requires_grad_()
        rast, _ = own.rasterize(leaf, faces, (256, 256))
        return torch.autograd.grad((own.antialias(colour, rast, leaf, faces) ** 2).sum(), leaf)[0]

    out = Outcome()
    out.check("values that differ in a second run", int((gradient() != gradient()).sum()), 0)
    return out


STEPS: dict[str, Step] = {
    "machine": Step("driver, torch, Warp and compilers as the doctor sees them", 60, machine),
    "warp-start": Step("Warp starts, and all kernels compile for this GPU", 240, warp_start),
    "warp-raster": Step("raster operations of Warp against the CPU kernels", 120, raster("warp")),
    "warp-batch": Step("Warp: eight images at once against one by one", 60, batch("warp")),
    "warp-degenerate": Step("Warp: triangles without area", 60, degenerate("warp")),
    "warp-grid": Step("Warp's hash grid against the CPU kernels", 60, hash_grid("warp")),
    "warp-deterministic": Step("sums in a fixed order", 60, deterministic),
    "twins": Step("shading and light on the device against the CPU kernels", 60, twins),
    "torch-grid": Step("the hash grid in plain torch against the CPU kernels", 60, hash_grid("torch")),
    "coarse-step": Step("a step with the profiler: launches, waits, memory", 120, coarse_step),
    "learning": Step(f"{LEARNING_STEPS} steps of the demo against the CPU's", 300, learning),
    "nvdiffrast-raster": Step("raster operations of nvdiffrast against the CPU kernels", 120, raster("nvdiffrast")),
    "nvdiffrast-batch": Step("nvdiffrast: eight images at once against one by one", 60, batch("nvdiffrast")),
    "nvdiffrast-degenerate": Step("nvdiffrast: triangles without area", 60, degenerate("nvdiffrast")),
    "tinycudann-grid": Step("tiny-cuda-nn's grid against the CPU kernels", 60, hash_grid("tinycudann")),
    "tests": Step("the tests that skip without a GPU", 300, tests),
}


def _compare_raster(out: Outcome, name: str, theirs: Any, ours: Any, device: str, size: tuple[int, int]) -> None:
    torch = _torch()
    clip, faces = _scene(2, "cpu", coarse=False)
    generator = torch.Generator().manual_seed(7)
    found, wanted = [], []
    with _timed(out.figures, f"{name}: seconds", device):
        there = clip.to(device).requires_grad_()
        rast_there, db_there = theirs.rasterize(there, faces.to(device), size)
    here = clip.clone().requires_grad_()
    rast, db = ours.rasterize(here, faces, size)
    ids, ids_there = rast[..., 3], rast_there[..., 3].cpu()
    covered, same = int((ids > 0).sum()), (ids == ids_there)
    out.figures[f"{name}: covered pixels"] = covered
    out.check(f"{name}: share that differs in coverage", float(((ids > 0) != (ids_there > 0)).sum()) / covered, 0.002)
    out.check(f"{name}: share with another triangle", float((~same).sum()) / covered, 0.004)
    weight = torch.rand(*rast.shape, generator=generator) * same[..., None]
    weight[..., 3] = 0
    found += [rast_there.cpu() * same[..., None], torch.autograd.grad((rast_there * weight.to(device)).sum(), there)[0]]
    wanted += [rast * same[..., None], torch.autograd.grad((rast * weight).sum(), here)[0]]
    for title, limit, one, other in zip(("values", "clip gradient"), (1e-3, 5e-3), found, wanted, strict=True):
        out.compare(f"{name}: rasterize, {title}", one, other, limit)

    values = torch.rand(1, clip.shape[1], 5, generator=generator)
    texture = torch.rand(1, 64, 64, 3, generator=generator)
    uv = torch.rand(2, *size, 2, generator=generator)
    uv_da = 0.02 * torch.randn(2, *size, 4, generator=generator)
    colour = torch.rand(2, *size, 3, generator=generator)
    fixed = [one.detach() for one in (rast, db, clip)]

    def operations(backend: Any, where: str) -> Iterator[tuple[str, Any, list[Any]]]:
        local = [one.to(where) for one in fixed]
        triangles = faces.to(where)
        leaf = values.to(where).requires_grad_()
        yield "interpolate", backend.interpolate(leaf, local[0], triangles, local[1], [0, 1])[0], [leaf]
        leaves = [texture.to(where).requires_grad_(), uv.to(where).requires_grad_()]
        yield "texture", backend.texture(leaves[0], leaves[1], uv_da.to(where)), leaves
        leaves = [colour.to(where).requires_grad_(), local[2].clone().requires_grad_()]
        yield "antialias", backend.antialias(leaves[0], local[0], leaves[1], triangles), leaves

    both = zip(operations(theirs, device), operations(ours, "cpu"), strict=True)
    for (title, one, leaves), (_, other, own) in both:
        out.compare(f"{name}: {title}, values", one, other, 1e-4)
        mixed = torch.rand(other.shape, generator=torch.Generator().manual_seed(9))
        gradients = torch.autograd.grad((one * mixed.to(one.device)).sum(), leaves)
        expected = torch.autograd.grad((other * mixed).sum(), own)
        for number, (left, right) in enumerate(zip(gradients, expected, strict=True)):
            out.compare(f"{name}: {title}, gradient {number}", left, right, 5e-3)


def _scene(views: int, device: str, *, coarse: bool) -> tuple[Any, Any]:
    """Clip positions ``[views, V, 4]`` and triangles of the demo's jar."""
    torch = _torch()
    import numpy as np

    from stspbr.procedural.jar import demo_asset
    from stspbr.scene.camera_rig import object_cameras

    mesh = demo_asset(16, *((16, 12) if coarse else (96, 64))).mesh
    cameras, _ = object_cameras(mesh, views, 0, 64, fov_degrees=40.0, seed=0, elevation_degrees=(-30, 60))
    positions = np.concatenate([mesh.positions, np.ones((len(mesh.positions), 1))], axis=1)
    clip = np.stack([positions @ (camera.clip_from_camera @ camera.world_to_camera).T for camera in cameras])
    faces = torch.from_numpy(np.ascontiguousarray(mesh.faces, dtype=np.int32))
    return torch.from_numpy(clip.astype(np.float32)).to(device), faces.to(device)


def _directions(generator: Any) -> list[Any]:
    torch = _torch()
    return [torch.rand(5000, 3, generator=generator.manual_seed(seed)) for seed in (11, 12)]


def _gradients(grid: Any, points: Any) -> list[Any]:
    torch = _torch()
    leaf = points.clone().requires_grad_()
    values = grid(leaf)
    weight = torch.rand(values.shape, generator=torch.Generator().manual_seed(2)).to(values.device)
    return [values.detach(), *torch.autograd.grad((values * weight).sum(), [leaf, grid.table])]


def _backend(name: str, device: str) -> Any:
    from stspbr.errors import StspbrError
    from stspbr.render.backend import get_backend

    if name == "nvdiffrast":
        if device == "cpu":
            raise Skip("nvdiffrast works on CUDA only")
        if importlib.util.find_spec("nvdiffrast") is None:
            raise Skip("nvdiffrast is not installed")
    if name == "warp":
        _warp()
    try:
        return get_backend(name, _torch().device(device))
    except StspbrError as error:
        if "unknown" in str(error):
            raise Skip(f"this stspbr has no backend {name}") from None
        raise


def _needs_encoding(name: str, device: str) -> str:
    if name == "tinycudann":
        if device == "cpu":
            raise Skip("tiny-cuda-nn works on CUDA only")
        if importlib.util.find_spec("tinycudann") is None:
            raise Skip("tiny-cuda-nn is not installed")
    if name == "warp":
        _warp()
    return name


def _warp() -> Any:
    if importlib.util.find_spec("warp") is None:
        raise Skip("Warp is not installed: pip install 'stspbr[cuda]'")
    from stspbr.warp_runtime import load_warp

    return load_warp()


def _torch() -> Any:
    import torch

    return torch


@contextmanager
def _timed(figures: dict[str, Any], name: str, device: str = "cpu") -> Iterator[None]:
    torch = _torch()

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    began = now()
    yield
    figures[name] = round(now() - began, 4)
