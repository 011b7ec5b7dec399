"""Material fields over object space: the split networks A and B, and the joint baseline."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stspbr.fields.hash_grid import HashGridEncoding
from stspbr.fields.material_values import ALBEDO, NORMAL, OPACITY, ROUGHNESS, MaterialValues
from stspbr.fields.mlp import MLP
from stspbr.fields.tinycudann import FUSED_WIDTHS
from stspbr.settings import METAL_PRIOR, FieldSettings, HashGridSettings

_FIRST_OPACITY = 0.95  # not 1, where the gradient of the sigmoid vanishes


class MaterialFields(nn.Module):
    """Networks from object-space position to material.

    In ``split`` mode network A (``appearance``) outputs albedo, normal offset and optionally opacity, and network B
    (``reflectance``) roughness, metallic and optionally occlusion; B gets detached positions, so that no reflectance
    loss reaches the geometry. In ``joint`` mode one network outputs all of them. ``extent`` is the box's longest side.

    Args:
        settings: sizes, ranges and starting values.
        box: ``[2, 3]`` object-space bounds that map to the encodings' unit cube.
        generator: source of all starting values.
        backend: of the encodings (``"auto"``, ``"cpu"``, ``"torch"``, ``"tinycudann"``). With ``settings.precision``
            ``float16``, tinycudann works in half precision, with fused layers if it has their width; the others
            evaluate the same parameters in float32.
        metal_prior: odds against metals, which metallic starts from unless ``settings`` give a start.
    """

    box: Tensor

    def __init__(
        self,
        settings: FieldSettings,
        box: Tensor,
        generator: torch.Generator,
        backend: str = "auto",
        metal_prior: float = METAL_PRIOR,
    ) -> None:
        super().__init__()
        self.settings = settings
        half = settings.precision == "float16" and backend == "tinycudann"
        self.register_buffer("box", box.float().clone())
        self.extent = float((self.box[1] - self.box[0]).max())
        low, high = settings.roughness_range
        reflectance_start = [
            _logit((settings.initial_roughness - low) / (high - low)),
            _logit(settings.first_metallic(metal_prior)),
            *([_logit(0.98)] if settings.occlusion else []),
        ]
        appearance_start = [_logit(settings.initial_albedo)] * 3 + [0.0] * 3
        if settings.cut_outs:
            appearance_start.append(_logit(_FIRST_OPACITY))

        def network(grid: HashGridSettings, start: list[float]) -> nn.ModuleDict:
            precision = "float16" if half else "float32"
            encoding = HashGridEncoding(**dict(grid), generator=generator, backend=backend, precision=precision)
            kind = "tinycudann" if half and settings.width in FUSED_WIDTHS else "torch"
            sizes = encoding.output_dim, len(start), settings.width, settings.hidden_layers
            head = MLP(*sizes, torch.tensor(start), generator, backend=kind)
            with torch.no_grad():
                head.weights[-1][NORMAL] = 0.0  # the normal offset starts at zero; network B has no such rows
            return nn.ModuleDict({"encoding": encoding, "head": head})

        if settings.mode == "joint":
            self.joint = network(settings.joint, appearance_start + reflectance_start)
        else:
            self.appearance = network(settings.appearance, appearance_start)
            self.reflectance = network(settings.reflectance, reflectance_start)

    def groups(self) -> dict[str, list[Tensor]]:
        """Parameters by group name: ``appearance`` and ``reflectance``, or ``joint``."""
        return {name: list(module.parameters()) for name, module in self.named_children()}

    def forward(self, positions: Tensor) -> MaterialValues:
        """Material at ``positions`` ``[N, 3]`` (object space, clamped to the box)."""
        x = self._unit_cube(positions)
        if self.settings.mode == "joint":
            a, b = self._run(self.joint, x).split([self._appearance_channels, self._reflectance_channels], dim=1)
        else:
            a = self._run(self.appearance, x)
            b = self._run(self.reflectance, x.detach())
        opacity = torch.sigmoid(a[:, OPACITY]) if self.settings.cut_outs else None
        albedo, normal = torch.sigmoid(a[:, ALBEDO]), torch.tanh(a[:, NORMAL])
        return MaterialValues.of(albedo, self._to_reflectance(b), normal, opacity)

    def reflectance_at(self, positions: Tensor) -> Tensor:
        """``[N, 2 or 3]`` roughness, metallic (and occlusion) at detached ``positions`` ``[N, 3]``; for smoothness."""
        x = self._unit_cube(positions.detach())
        if self.settings.mode == "joint":
            b = self._run(self.joint, x)[:, self._appearance_channels :]
        else:
            b = self._run(self.reflectance, x)
        return self._to_reflectance(b)

    def appearance_at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Albedo ``[N, 3]`` and normal offset ``[N, 3]`` at detached ``positions`` ``[N, 3]``; for smoothness."""
        x = self._unit_cube(positions.detach())
        network = self.joint if self.settings.mode == "joint" else self.appearance
        a = self._run(network, x)
        return torch.sigmoid(a[:, ALBEDO]), torch.tanh(a[:, NORMAL])

    @property
    def _appearance_channels(self) -> int:
        return OPACITY.stop if self.settings.cut_outs else NORMAL.stop

    @property
    def _reflectance_channels(self) -> int:
        return 3 if self.settings.occlusion else 2

    def _unit_cube(self, positions: Tensor) -> Tensor:
        return ((positions - self.box[0]) / (self.box[1] - self.box[0])).clamp(0.0, 1.0)

    @staticmethod
    def _run(network: nn.ModuleDict, x: Tensor) -> Tensor:
        return network["head"](network["encoding"](x))

    def _to_reflectance(self, b: Tensor) -> Tensor:
        low, high = self.settings.roughness_range
        values = torch.sigmoid(b)
        return torch.cat([low + (high - low) * values[:, ROUGHNESS], values[:, ROUGHNESS.stop :]], dim=1)


def _logit(value: float) -> float:
    value = min(max(value, 1e-3), 1.0 - 1e-3)
    return math.log(value / (1.0 - value))
