"""Forward and backward through Mitsuba 3's differentiable renderer (extra ``reference``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from stspbr.bench.scenes import BenchScene
from stspbr.errors import StspbrError
from stspbr.render.mitsuba_scene import PathTracer
from stspbr.scene.material import Material

_DIRECT = 2  # path length: light, surface, camera


class MitsubaStep(PathTracer):
    """Squared error of ``batch`` views, differentiated by the material's maps and the environment.

    Mesh, maps, environment and cameras are those of the benchmark; the material is Mitsuba's own ``principled``.

    Raises:
        StspbrError: Mitsuba or LLVM is missing, or a gradient is all zeros.
    """

    def __init__(self, scene: BenchScene, batch: int) -> None:
        super().__init__(scene.asset, scene.light, max_depth=_DIRECT)
        import drjit

        self._dr = drjit
        mi = self._mi
        self._integrator = mi.load_dict({"type": "prb", "max_depth": _DIRECT, "hide_emitters": True})
        self._cameras = scene.cameras[:batch]
        self._targets = [mi.TensorXf(np.ascontiguousarray(frame.image)) for frame in scene.frames[:batch]]
        self._names = [
            name
            for name in self._parameters.keys()  # noqa: SIM118 - not a dict
            if name.endswith(("base_color.data", "roughness.data", "metallic.data")) or name == "light.data"
        ]
        self._seed = 0
        gradients = self(1)
        lost = [name for name, values in gradients.items() if not np.any(values)]
        if lost or len(gradients) != 4:
            raise StspbrError(f"Mitsuba gave no gradient for {', '.join(lost) or 'some parameter'}")

    def __call__(self, samples: int) -> dict[str, np.ndarray]:
        """One step at ``samples`` per pixel, forward and backward; returns the gradients by name."""
        dr, mi, parameters = self._dr, self._mi, self._parameters
        for name in self._names:
            dr.enable_grad(parameters[name])
            dr.clear_grad(parameters[name])
        parameters.update()
        for camera, target in zip(self._cameras, self._targets, strict=True):
            self._seed += 2
            image = mi.render(
                self._scene, parameters, sensor=self._sensor(camera), integrator=self._integrator, spp=samples,
                seed=self._seed,
            )  # fmt: skip
            dr.backward(dr.mean(dr.square(image[:, :, :3] - target)))
        return {name: np.array(dr.grad(parameters[name])) for name in self._names}

    def _bsdf(self, material: Material, bumpy: bool) -> dict[str, Any]:
        def texture(values: np.ndarray) -> dict[str, Any]:
            bitmap = self._mi.Bitmap(np.ascontiguousarray(values, dtype=np.float32))
            return {"type": "bitmap", "bitmap": bitmap, "raw": True, "format": "variant"}

        maps = {"base_color": material.albedo, "roughness": material.roughness, "metallic": material.metallic}
        return {"type": "principled", **{name: texture(values) for name, values in maps.items()}}
