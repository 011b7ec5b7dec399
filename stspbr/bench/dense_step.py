"""A coarse step in the configuration of nvdiffrec (Munkberg et al. 2022): what separate networks and lists save.

One joint network over 16 levels of 2^19 entries, evaluated at every pixel of the images, covered or not; the loss is
taken over whole images. Geometry, rasteriser, light and shading are ours: its own need its CUDA extensions. On CUDA
encoding and network are tiny-cuda-nn's and the raster operations nvdiffrast's; that path has never run on a GPU. On
the CPU they are ours, so that the ratio says what the configuration costs and not who wrote the kernels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn

from stspbr.bench.scenes import BenchScene
from stspbr.bench.settings import BenchSettings
from stspbr.errors import StspbrError
from stspbr.fields.hash_grid import HashGridEncoding
from stspbr.fields.mlp import MLP
from stspbr.optimize.losses import LOSSES, mask_loss
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.render.light import EnvironmentCube
from stspbr.render.shading import shade

_LEVELS, _LOG2_SIZE, _BASE, _FINEST = 16, 19, 16, 4096
_CHANNELS = 8  # albedo, roughness, metallic, normal offset
_BOX = 1.1


class WholeImageStep:
    """Forward and backward of one such step on the geometry and the views of ``problem``.

    Attributes:
        how: in words, whose encoding it is.

    Raises:
        StspbrError: on CUDA, tiny-cuda-nn is missing.
    """

    def __init__(
        self, scene: BenchScene, settings: BenchSettings, problem: Reconstruction, device: torch.device
    ) -> None:
        self._problem = problem
        self._network, self.how = _network(device)
        self._cube = EnvironmentCube(64).to(device)
        self._views, self._targets = problem.views.batch(list(range(settings.batch)))
        self._parameters = [
            *(p for p in problem.geometry.parameters() if p.requires_grad),
            *self._network.parameters(),
            self._cube.log_radiance,
        ]

    def __call__(self) -> list[Tensor]:
        """The gradients by geometry, network and light."""
        problem, backend = self._problem, self._problem.backend
        surface, light = problem.geometry.surface(), self._cube.prefilter()
        views = self._views
        homogeneous = torch.cat([surface.positions, torch.ones_like(surface.positions[:, :1])], dim=1)
        clip = torch.matmul(homogeneous, views.clip_from_object.transpose(1, 2)).contiguous()
        rast, _ = backend.rasterize(clip, surface.faces, views.resolution)
        batch, height, width, _ = rast.shape

        def everywhere(values: Tensor, faces: Tensor) -> Tensor:
            return backend.interpolate(values[None].contiguous(), rast, faces)[0].reshape(-1, 3)

        position = everywhere(surface.positions, surface.faces)
        normal = nn.functional.normalize(everywhere(surface.normals.values, surface.normals.index), dim=1)
        view = torch.arange(batch, device=rast.device).repeat_interleave(height * width)
        to_eye = nn.functional.normalize(views.eye.index_select(0, view) - position, dim=1)
        values = self._network((position / (2 * _BOX) + 0.5).clamp(0.0, 1.0)).float()
        material = torch.sigmoid(values[:, :5])
        normal = nn.functional.normalize(normal + torch.tanh(values[:, 5:]), dim=1)
        radiance = shade(
            normal,
            to_eye,
            material[:, :3],
            material[:, 3:4],
            material[:, 4:5],
            light,
            texture=backend.texture,
            light_rotation=(views.object_rotation, view),
        )
        seen = (rast[..., 3:] > 0).float()
        image = torch.cat([radiance.reshape(batch, height, width, 3) * seen, seen], dim=3)
        image = backend.antialias(image, rast, clip, surface.faces)
        loss = mask_loss(image[..., 3:], self._targets.alpha)
        loss = loss + LOSSES["logl1"](image[..., :3], self._targets.image).mean()
        loss = loss + sum(term.value for term in problem.geometry.regularizers(0.5))
        return list(torch.autograd.grad(loss, self._parameters, allow_unused=True))


def _network(device: torch.device) -> tuple[nn.Module, str]:
    if device.type == "cuda":
        return _tiny_cuda_network(device), "tiny-cuda-nn"
    generator = torch.Generator().manual_seed(0)
    grid = HashGridEncoding(_LEVELS, 2, _LOG2_SIZE, _BASE, _FINEST, generator=generator)
    head = MLP(grid.output_dim, _CHANNELS, 32, 2, torch.zeros(_CHANNELS), generator)
    return nn.Sequential(grid, head).to(device), "our encoding"


def _tiny_cuda_network(device: torch.device) -> nn.Module:
    if importlib.util.find_spec("tinycudann") is None:
        raise StspbrError("tinycudann is not installed: see `stspbr doctor`")
    import tinycudann

    with torch.cuda.device(device):
        create: Callable[..., nn.Module] = tinycudann.NetworkWithInputEncoding
        return create(
            n_input_dims=3,
            n_output_dims=_CHANNELS,
            encoding_config={
                "otype": "HashGrid",
                "n_levels": _LEVELS,
                "n_features_per_level": 2,
                "log2_hashmap_size": _LOG2_SIZE,
                "base_resolution": _BASE,
                "per_level_scale": (_FINEST / _BASE) ** (1.0 / (_LEVELS - 1)),
            },
            network_config={
                "otype": "FullyFusedMLP",
                "activation": "ReLU",
                "output_activation": "None",
                "n_neurons": 32,
                "n_hidden_layers": 2,
            },
        )
