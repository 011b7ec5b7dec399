"""Path-traced radiance of chosen pixels, differentiable in the maps and in the light: path replay backpropagation.

Vicini, Speierer and Jakob 2021, "Path Replay Backpropagation", as Mitsuba 3 has it (``prb``). Shape, UVs and normals
are constants. Needs the extra ``reference``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr.render.mitsuba_scene import Floor, PathTracer
from stspbr.scene import Asset, Camera, EnvironmentLight

_MAPS = ("albedo", "roughness", "metallic")


@dataclass
class PixelRays:
    """The rays of P pixels, world space; ``origin + (base + x·across + y·down)·t`` with x, y in [0, 1) in the pixel.

    Attributes:
        origin, base, across, down: ``[P, 3]`` float32; directions are not normalised.
    """

    origin: np.ndarray
    base: np.ndarray
    across: np.ndarray
    down: np.ndarray

    @classmethod
    def of(cls, camera: Camera, pixels: np.ndarray) -> PixelRays:
        """Those of ``pixels [P]``, row-major indices into the image of ``camera``."""
        pose = np.asarray(camera.camera_to_world, np.float64)
        y, x = np.divmod(np.asarray(pixels), camera.width)
        local = np.stack([(x - camera.cx) / camera.fx, (camera.cy - y) / camera.fy, -np.ones(len(x))], axis=1)
        steps = np.array([[1.0 / camera.fx, 0.0, 0.0], [0.0, -1.0 / camera.fy, 0.0]]) @ pose[:3, :3].T
        rows = (
            np.broadcast_to(pose[:3, 3], local.shape),
            local @ pose[:3, :3].T,
            *(np.tile(s, (len(x), 1)) for s in steps),
        )
        return cls(*(np.ascontiguousarray(row, np.float32) for row in rows))

    @classmethod
    def joined(cls, parts: Sequence[PixelRays]) -> PixelRays:
        """All of ``parts``, one after the other."""
        names = ("origin", "base", "across", "down")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.origin)


class PathGradients(PathTracer):
    """An asset under a light whose maps and light change from step to step.

    Args:
        asset: its materials' maps give the sizes of those to come.
        light: lat-long; that of later calls has the same size.
        max_depth: segments of the longest path.
        floor: under the object; it takes part in no gradient.
    """

    def __init__(self, asset: Asset, light: EnvironmentLight, max_depth: int, floor: Floor | None = None) -> None:
        super().__init__(asset, light, max_depth, floor=floor)
        prb = {"type": "prb", "max_depth": int(max_depth), "rr_depth": 64, "hide_emitters": True}
        self._integrator = self._mi.load_dict(prb)
        self._count = len(self._parts)

    def radiance(
        self,
        rays: PixelRays,
        object_to_world: np.ndarray,
        maps: Sequence[Tensor],
        light: Tensor,
        *,
        paths: int,
        gradient_paths: int,
        seed: int,
    ) -> Tensor:
        """Mean linear radiance ``[P, 3]`` of the pixels, over black.

        The gradient comes from paths of its own, so that it is unbiased for every loss that is a function of the mean.

        Args:
            maps: albedo ``[H, W, 3]`` linear, roughness and metallic ``[H, W, 1]``, float32, of one material after the
                other, of those that have faces.
            light: ``[h, w, 3]`` lat-long radiance, rows at texel centres.
            paths: per pixel; gradient_paths: per pixel for the gradient; seed: of both, which never share a number.
        """
        call = _Call(self, rays, np.asarray(object_to_world), paths, gradient_paths, seed)
        return _Radiance.apply(call, padded(light), *maps)

    def take(self, maps: Sequence[Tensor], light: Tensor, normals: Sequence[Tensor | None] = ()) -> None:
        """Render ``maps`` and ``light`` from now on; see ``radiance``.

        Args:
            normals: new normal maps ``[H, W, 3]`` in tangent space of the same materials; None: it stays.
        """
        for number, values in enumerate(normals):
            if values is not None:
                name = f"part{number}.bsdf.normal.data"
                self._parameters[name] = self._mi.TensorXf(values.detach().cpu().contiguous().numpy())
        self._take(padded(light), maps)

    def take_floor(self, grey: Sequence[float]) -> None:
        """Render the floor with linear albedo ``grey [3]`` from now on."""
        self._parameters["floor.bsdf.reflectance.value"] = self._mi.Color3f(*(float(v) for v in grey))
        self._parameters.update()

    def _take(self, light: Tensor, maps: Sequence[Tensor]) -> None:
        for name, values in zip(self._names(), [light, *maps], strict=True):
            self._parameters[name] = self._mi.TensorXf(values.detach().cpu().contiguous().numpy())
        self._parameters.update()

    def primal(self, rays: PixelRays, object_to_world: np.ndarray, paths: int, seed: int) -> np.ndarray:
        """``[P, 3]`` mean radiance of the present maps."""
        self._place(object_to_world)
        sampler, ray = self._start(rays, paths, seed)
        import drjit as dr

        found, *_ = self._integrator.sample(
            dr.ADMode.Primal, self._scene, sampler, ray, None, None, self._mi.Bool(True)
        )
        return np.array(found).T.reshape(len(rays), paths, 3).mean(1, dtype=np.float64).astype(np.float32)

    def adjoint(
        self, rays: PixelRays, object_to_world: np.ndarray, grad: np.ndarray, paths: int, seed: int
    ) -> list[np.ndarray]:
        """The gradients of the light and of each map for ``grad [P, 3]`` of the pixels' radiance."""
        import drjit as dr

        mi = self._mi
        self._place(object_to_world)
        names = self._names()
        # on one thread the sums have one order, and so the same bits in every run
        with _threads(1):
            sampler, ray = self._start(rays, paths, seed)
            _, _, _, state = self._integrator.sample(
                dr.ADMode.Primal, self._scene, sampler, ray, None, None, mi.Bool(True)
            )
            dr.eval(state)
            watched = [mi.TensorXf(self._parameters[name]) for name in names]
            for name, values in zip(names, watched, strict=True):
                dr.enable_grad(values)
                self._parameters[name] = values
            self._parameters.update()
            sampler, ray = self._start(rays, paths, seed)
            per_path = np.repeat(grad / paths, paths, axis=0).T
            delta = mi.Spectrum(*(mi.Float(np.ascontiguousarray(row, np.float32)) for row in per_path))
            with dr.suspend_grad():
                self._integrator.sample(dr.ADMode.Backward, self._scene, sampler, ray, delta, state, mi.Bool(True))
                dr.eval()
            out = [np.array(dr.grad(values)) for values in watched]
            for name in names:  # constants again
                self._parameters[name] = dr.detach(self._parameters[name])
            self._parameters.update()
        return out

    def _names(self) -> list[str]:
        return ["light.data", *(f"part{k}.bsdf.{name}.data" for k in range(self._count) for name in _MAPS)]

    def _start(self, rays: PixelRays, paths: int, seed: int):
        import drjit as dr

        mi = self._mi
        sampler = mi.load_dict({"type": "independent"})
        sampler.seed(seed, len(rays) * paths)
        owner = dr.arange(mi.UInt32, len(rays) * paths) // dr.opaque(mi.UInt32, paths)
        origin, base, across, down = (
            dr.gather(mi.Vector3f, mi.Float(values.ravel()), owner)
            for values in (rays.origin, rays.base, rays.across, rays.down)
        )
        jitter = sampler.next_2d()
        return sampler, mi.Ray3f(origin, dr.normalize(base + jitter.x * across + jitter.y * down))


@dataclass
class _Call:
    tracer: PathGradients
    rays: PixelRays
    pose: np.ndarray
    paths: int
    gradient_paths: int
    seed: int


class _Radiance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call, light, *maps):
        call.tracer._take(light, maps)
        ctx.call, ctx.device = call, light.device
        return torch.from_numpy(call.tracer.primal(call.rays, call.pose, call.paths, 2 * call.seed)).to(light.device)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        call = ctx.call
        found = call.tracer.adjoint(call.rays, call.pose, grad.cpu().numpy(), call.gradient_paths, 2 * call.seed + 1)
        return None, *(torch.from_numpy(values).to(ctx.device) for values in found)


@contextmanager
def _threads(count: int):
    import drjit as dr

    before = dr.thread_count()
    dr.set_thread_count(count)
    try:
        yield
    finally:
        dr.set_thread_count(before)


def padded(light: Tensor) -> Tensor:
    """The light as Mitsuba's ``envmap`` keeps it: see ``mitsuba_scene._pole_to_pole``; a column more on both sides."""
    between = 0.5 * (light[1:] + light[:-1])
    inner = torch.stack([light[:-1], between], dim=1).flatten(0, 1)
    rows = torch.cat([light[:1], inner, light[-1:], light[-1:]])
    return torch.cat([rows[:, -1:], rows, rows[:, :1]], dim=1)
