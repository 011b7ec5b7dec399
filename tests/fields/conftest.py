"""The encodings that are there, and a stand-in for tiny-cuda-nn: its documented conventions in plain torch."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
import types

import pytest
import torch

from stspbr.warp_runtime import why_no_warp


class _Module(torch.nn.Module):
    """Flat float32 parameters that are cast for each evaluation; rows are padded to a multiple of 256."""

    def __init__(self, count: int, dtype: torch.dtype, seed: int) -> None:
        super().__init__()
        start = torch.rand(count, generator=torch.Generator().manual_seed(seed)) * 2e-4 - 1e-4
        self.params = torch.nn.Parameter(start)
        self.dtype = dtype
        self.loss_scale = 128.0 if dtype == torch.float16 else 1.0

    def forward(self, x):
        assert self.loss_scale == 1.0, "the adapter scales gradients itself"
        assert x.ndim == 2 and x.shape[1] == self.n_input_dims and len(x) > 0
        padded = torch.nn.functional.pad(x, [0, 0, 0, -len(x) % 256])
        assert self.params.shape == (self.count,)
        out = self.evaluate(padded.float(), self.params.to(self.dtype))
        assert out.dtype == self.dtype
        return out[: len(x), : self.n_output_dims]


class Encoding(_Module):
    """``Grid`` (hash, linear) and ``Composite`` of grids."""

    def __init__(self, n_input_dims, encoding_config, seed=1337, dtype=None):
        config = dict(encoding_config)
        self_nested = config["nested"] if config["otype"] == "Composite" else [config]
        levels, count = [], 0
        for number, grid in enumerate(self_nested):
            assert grid["otype"] == "Grid" and grid["type"] == "Hash" and grid["interpolation"] == "Linear"
            assert grid["n_features_per_level"] in (1, 2, 4, 8)
            assert config["otype"] == "Grid" or grid["n_dims_to_encode"] == 3
            for level in range(grid["n_levels"]):
                scale = 2 ** (level * math.log2(grid["per_level_scale"])) * grid["base_resolution"] - 1.0
                side = math.ceil(scale) + 1
                size = min(-(-(side**3) // 8) * 8, 1 << grid["log2_hashmap_size"])
                levels.append((3 * number, scale, side, size, count, grid["n_features_per_level"]))
                count += size * grid["n_features_per_level"]
        super().__init__(count, torch.float16 if dtype is None else dtype, seed)
        self.levels, self.count, self.n_input_dims = levels, count, n_input_dims
        self.n_output_dims = sum(level[-1] for level in levels)

    def evaluate(self, x, params):
        out = []
        for column, scale, side, size, offset, features in self.levels:
            table = params[offset : offset + size * features].view(size, features)
            position = (x[:, column : column + 3].double() * scale + 0.5).float()  # one rounding: a fused multiply-add
            cell = position.detach().floor()
            fraction, cell = position - cell, cell.long()
            total = torch.zeros(len(x), features, dtype=self.dtype)
            for corner in range(8):
                step = [corner >> axis & 1 for axis in range(3)]
                v = [(cell[:, axis] + step[axis]) & 0xFFFFFFFF for axis in range(3)]
                if side**3 <= size:
                    index = v[0] + v[1] * side + v[2] * side**2
                else:
                    index = v[0] ^ (v[1] * 2654435761 & 0xFFFFFFFF) ^ (v[2] * 805459861 & 0xFFFFFFFF)
                weight = math.prod(fraction[:, a] if step[a] else 1 - fraction[:, a] for a in range(3))
                total = total + weight.to(self.dtype)[:, None] * table[(index & 0xFFFFFFFF) % size]
            out.append(total)
        return torch.cat(out, dim=1)


class Network(_Module):
    """``FullyFusedMLP``: half precision, no bias, inputs padded with ones and outputs with zeros to 16."""

    def __init__(self, n_input_dims, n_output_dims, network_config, seed=1337):
        width, hidden = network_config["n_neurons"], network_config["n_hidden_layers"]
        assert network_config["otype"] == "FullyFusedMLP" and width in (16, 32, 64, 128) and hidden >= 1
        assert network_config["activation"] == "ReLU" and network_config["output_activation"] == "None"
        first, last = -(-n_input_dims // 16) * 16, -(-n_output_dims // 16) * 16
        self_shapes = [(width, first), *[(width, width)] * (hidden - 1), (last, width)]
        count = sum(rows * columns for rows, columns in self_shapes)
        super().__init__(count, torch.float16, seed)
        self.shapes, self.count, self.n_input_dims, self.n_output_dims = self_shapes, count, n_input_dims, n_output_dims

    def evaluate(self, x, params):
        x = torch.nn.functional.pad(x, [0, self.shapes[0][1] - x.shape[1]], value=1.0).half()
        matrices = params.split([rows * columns for rows, columns in self.shapes])
        for number, (matrix, shape) in enumerate(zip(matrices, self.shapes, strict=True)):
            x = x @ matrix.view(shape).T
            x = torch.relu(x) if number + 1 < len(self.shapes) else x
        return x


@pytest.fixture
def tinycudann(monkeypatch):
    """``import tinycudann`` finds the stand-in, and the CPU passes for its device."""
    module = types.ModuleType("tinycudann")
    module.Encoding, module.Network = Encoding, Network
    monkeypatch.setitem(sys.modules, "tinycudann", module)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    return module


@pytest.fixture(params=["cpu", "warp", "torch", "warp on CUDA", "torch on CUDA", "tinycudann on CUDA"])
def implementation(request) -> tuple[str, torch.device]:
    """A backend of the encoding, and where it works; shared tests run over each that is there."""
    backend, _, where = request.param.partition(" on ")
    if where and not torch.cuda.is_available():
        pytest.skip(f"{request.param}: no GPU here")
    if backend == "tinycudann" and importlib.util.find_spec("tinycudann") is None:
        pytest.skip(f"{request.param}: it is not installed")
    if backend == "warp" and (reason := why_no_warp()) is not None:
        pytest.skip(f"{request.param}: {reason}")
    return backend, torch.device("cuda" if where else "cpu")
