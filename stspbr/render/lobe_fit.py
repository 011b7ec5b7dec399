"""Makes the lobe table: directions and levels by descent over the whole grid, weights in closed form.

The error of a cell is a squared distance between true and approximate lobe over the sphere of directions: the expected
squared error of radiance under random lights with detail of every size. Nothing depends on a particular light.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.render import brdf
from stspbr.render.brdf_table import diffuse_fresnel, specular_albedo
from stspbr.render.lobes import GRID, LOOKUPS, TABLE_FILE, grid_coordinates
from stspbr.render.prefilter import WIDTHS

_RAW_WIDTH = 0.0025  # what the first, unfiltered level amounts to: about one texel
_RIDGE = 1e-3
_GRAIN = (0.02, 0.05, 0.15, 0.5)  # detail in the lights that the fit expects, radians
_FIRST = 2  # row of roughness 1/16


@dataclass
class Cells:
    """Sampled true lobes of C cells with S directions each; the plane of incidence is y = 0 and n = +z."""

    directions: Tensor
    areas: Tensor
    metric: Tensor
    measured: Tensor
    size: Tensor
    cosine: Tensor
    targets: Tensor
    sums: Tensor
    sin_v: Tensor
    cos_v: Tensor


def sample_cells(roughness: np.ndarray, n_dot_v: np.ndarray, count: int, strict: bool = False) -> Cells:
    """True lobes of cells given as two flat arrays, at deterministic directions that crowd into the lobe.

    ``strict`` weighs the haze around a lobe more: it keeps directions and levels smooth where they are searched for;
    the weights are better found without, as round kernels cannot follow the edge of a narrow lobe that grazes.
    """
    roughness, n_dot_v = np.broadcast_arrays(roughness, n_dot_v)
    f32 = torch.float32
    alpha = torch.tensor(np.maximum(roughness, 0.05) ** 2, dtype=f32)[:, None]
    cos_v = torch.tensor(n_dot_v, dtype=f32)[:, None]
    sin_v = (1 - cos_v * cos_v).sqrt()
    part = count // 3
    k = torch.arange(part, dtype=torch.float64)
    u1, u2 = (k + 0.5) / part, (k * 0.6180339887498949 + 0.25) % 1.0
    wide = (1.6 * alpha).clamp(max=1.0)
    view = torch.stack([sin_v, torch.zeros_like(sin_v), cos_v], -1)
    mirror = view * view.new_tensor([-1, -1, 1])
    z = (2 * u1 - 1).to(f32)
    s = (1 - z * z).sqrt()
    ball = torch.stack([s * torch.cos(math.pi * u2).to(f32), s * torch.sin(math.pi * u2).to(f32), z], -1)
    u1, phi = u1.to(f32), (math.pi * u2).to(f32)
    h = _ggx_half(u1, phi, wide)
    lobe = 2 * (view * h).sum(-1, keepdim=True) * h - view  # the lobe itself, flat at grazing angles
    round_ = 2 * h[..., 2:] * h - h.new_tensor([0, 0, 1])  # and a round one, as the kernels are, around +z
    across = torch.stack([mirror[..., 2], torch.zeros_like(sin_v), -mirror[..., 0]], -1)
    side = view.new_tensor([0, 1, 0])
    round_ = round_[..., :1] * across + round_[..., 1:2] * side + round_[..., 2:] * mirror
    directions = torch.cat([lobe, round_, ball.expand(alpha.shape[0], part, 3)], 1)
    directions = torch.where(directions[..., 1:2] < 0, directions * directions.new_tensor([1, -1, 1]), directions)
    h = torch.nn.functional.normalize(view + directions, dim=-1)
    v_dot_h = (view * h).sum(-1).clamp_min(1e-4)
    density = brdf.ggx_distribution(h[..., 2].abs(), wide) * h[..., 2].abs() / (4 * v_dot_h)
    half_cos = (1 - 0.25 * (directions - mirror).square().sum(-1)).clamp_min(1e-6).sqrt()
    density = density + brdf.ggx_distribution(half_cos, wide) / 4
    areas = 1.0 / (part * (2 * density + 1.0 / (2 * math.pi)))  # on half of the sphere: y ≥ 0
    cos_l = directions[..., 2]
    lit = (cos_l > 0).to(f32)
    lobe = brdf.ggx_distribution(h[..., 2], alpha) * lit
    lobe = lobe * brdf.smith_visibility(cos_v, cos_l.clamp_min(1e-6), alpha) * cos_l
    fc = brdf.fresnel_weight(v_dot_h)
    cosine = cos_l.clamp_min(0) / math.pi
    targets = torch.stack([lobe * (1 - fc), lobe * fc, cosine * (1 - fc)], -1)
    a, b = specular_albedo(roughness, n_dot_v)
    sums = torch.tensor(np.stack([a, b, 1 - diffuse_fresnel(n_dot_v)], -1), dtype=f32)
    # the sampled lobe is scaled to its exact integral, so that sampling noise cannot tilt the weights
    targets = targets * (sums / (2 * (targets * areas[..., None]).sum(1)).clamp_min(1e-12))[:, None]
    broad = (alpha / 0.16).clamp(max=1.0)
    tail, floor = (torch.full_like(broad, 0.3), 0.03) if strict else (0.1 * broad, 0.1)
    metric = _metric(directions, areas, targets[..., 0] + targets[..., 1], tail, floor)
    measured = metric @ targets
    size = (targets * measured).sum(1)
    return Cells(directions, areas, metric, measured, size, cosine, targets, sums, sin_v, cos_v)


def solve_weights(cells: Cells, q: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Best weights ``[C, K + 1, 3]`` for directions ``q [C, K]`` and levels ``[C, K]``, and errors ``[C, 3]``.

    Least squares with the sums held exactly; an error is relative to the size of what it is added to.
    """
    kernels = _kernels(cells, q, level)
    # each kernel's sampled integral is put right, or a narrow one could hide between the samples
    kernels = kernels / (2 * (kernels * cells.areas[..., None]).sum(1, keepdim=True)).clamp_min(0.2)
    basis = torch.cat([kernels, cells.cosine[..., None]], -1)
    weighted = cells.metric @ basis
    gram = weighted.transpose(1, 2) @ basis
    moments = basis.transpose(1, 2) @ cells.measured
    scale = gram.detach().diagonal(dim1=1, dim2=2).rsqrt()
    system = (gram.detach() * scale[:, :, None] * scale[:, None, :]).double()
    right = (moments.detach() * scale[..., None]).double()
    eye = torch.eye(gram.shape[-1], dtype=torch.float64)
    specular = _best_above_zero(system + _RIDGE * eye, right[..., :2], scale.double(), cells.sums[:, :2].double())
    # diffuse: the cosine alone, unless the samples speak clearly against it
    right[:, -1, 2] += 30 * _RIDGE * cells.sums[:, 2] / scale[:, -1]
    diffuse = _best_above_zero(system + 30 * _RIDGE * eye, right[..., 2:], scale.double(), cells.sums[:, 2:].double())
    weights = torch.cat([specular, diffuse], -1).float() * scale[..., None]
    # at its minimum the error does not change with the weights: its gradient needs none through the solution
    squared = cells.size + (weights * (gram @ weights - 2 * moments)).sum(1)
    a, b, c = cells.size.unbind(-1)
    return weights, squared / torch.stack([a, 0.01 * a + b, c], -1)


def _best_above_zero(system: Tensor, right: Tensor, scale: Tensor, sums: Tensor) -> Tensor:
    """Minimise ``x·S·x − 2·r·x`` over ``x ≥ 0`` with ``scale·x = sum``: ``x [C, J, R]`` for ``right [C, J, R]``.

    Without negative weights no light can be shaded darker than black. J is small: every set of weights that are not
    zero is solved, and the best that holds is taken, which is exact and so continuous from cell to cell.
    """
    count, size, kinds = right.shape
    sets = torch.tensor([[bits >> k & 1 for k in range(size)] for bits in range(1, 2**size)], dtype=torch.float64)
    used = torch.cat([sets, torch.ones(len(sets), 1, dtype=torch.float64)], 1)
    full = system.new_zeros(count, size + 1, size + 1)
    full[:, :size, :size] = system
    full[:, size, :size] = full[:, :size, size] = scale
    matrix = full[:, None] * used[:, :, None] * used[:, None, :] + torch.diag_embed(1 - used)
    goal = torch.cat([right, sums[:, None]], 1)[:, None] * used[:, :, None]
    found = torch.linalg.solve(matrix, goal)[:, :, :size]
    cost = (found * (system[:, None] @ found - 2 * right[:, None])).sum(2)
    cost = torch.where((found >= -1e-9).all(2), cost, torch.inf)
    best = cost.argmin(1)[:, None, None].expand(count, 1, size, kinds)
    return found.gather(1, best)[:, 0].clamp_min(0)


def fit_grid(
    roughness: np.ndarray, n_dot_v: np.ndarray, steps: int = 200, count: int = 480, smooth: float = 0.003
) -> tuple[Tensor, Tensor, Tensor]:
    """Directions and levels ``[R, T, K]`` on a grid, in the units of ``_units``, and the errors ``[R, T, 3]`` left."""
    rows, columns = len(roughness), len(n_dot_v)
    r, v = np.meshgrid(roughness, n_dot_v, indexing="ij")
    cells = sample_cells(r.ravel(), v.ravel(), count, strict=True)
    spread = torch.linspace(-1, 1, LOOKUPS)
    offset = (0.6 * spread - 0.2).expand(rows, columns, LOOKUPS).clone().requires_grad_()
    shift = (0.8 * torch.tensor([(-1.0) ** k for k in range(LOOKUPS)]) - 0.5).expand(rows, columns, LOOKUPS)
    shift = shift.clone().requires_grad_()
    scale, start = _units(roughness, n_dot_v)
    top = len(WIDTHS) - 1.0
    optimizer = torch.optim.Adam([offset, shift], lr=0.05)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.06 * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-4
        q = 1 + scale * offset
        level = (start + shift).clamp(0, top)
        _, error = solve_weights(cells, q.reshape(-1, LOOKUPS), level.reshape(-1, LOOKUPS))
        error = error.view(rows, columns, 3)
        total = (error * error.new_tensor([1.0, 1.0, 0.2])).sum(-1).clamp_min(1e-12).sqrt().mean()
        for field in (offset, shift):
            for axis in (0, 1):
                total = total + smooth * (rows - 1) ** 2 / 100 * field.diff(n=2, dim=axis).square().mean()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        with torch.no_grad():
            shift.copy_((start + shift.clamp_min(-1.3)).clamp(0, top) - start)
    return offset.detach(), shift.detach(), error.detach()


def fit_table(steps: int = 200) -> tuple[np.ndarray, Tensor]:
    """The table, and the fit's errors on its rows from ``_FIRST`` on.

    Lobes narrower than a texel cannot be told apart: rows before ``_FIRST`` go in a straight line to the mirror
    at roughness 0, so that the derivative by roughness never vanishes.
    """
    roughness, n_dot_v = grid_coordinates()
    rows, columns = np.array([2, 3, 4, 5, 6, *range(8, GRID, 2)]), np.arange(0, GRID, 2)
    offset, shift, error = fit_grid(roughness[rows], n_dot_v[columns], steps)
    scale, start = _units(roughness[_FIRST:], n_dot_v)
    q = 1 + scale * _refine(offset, rows, columns)
    level = (start + _refine(shift, rows, columns)).clamp(0, len(WIDTHS) - 1)
    part = torch.arange(_FIRST)[:, None, None] / _FIRST
    q = torch.cat([1 + part * (q[:1] - 1), q]).float()
    level = torch.cat([part * level[:1], level]).float()
    return make_table(q, level), error


def _units(roughness: np.ndarray, n_dot_v: np.ndarray) -> tuple[Tensor, Tensor]:
    """Lobe width in units of q and level of width ``α``, ``[R, T, 1]`` each: in these the fit's fields are smooth."""
    r, v = np.meshgrid(roughness, n_dot_v, indexing="ij")
    alpha = torch.tensor(np.maximum(r, 0.05) ** 2, dtype=torch.float32)[..., None]
    # straight on, where q says nothing, it must not run away: between the last two columns q counts again
    sin_v = torch.tensor(np.sqrt(1 - v * v), dtype=torch.float32)[..., None].clamp_min(0.35)
    return 1.5 * alpha / (sin_v + alpha), _level_of(alpha)


def _refine(field: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """A field given on some rows and columns of the table, on all of them from ``_FIRST`` on; linear between."""
    values = field.numpy()
    every = np.arange(_FIRST, GRID)
    values = np.apply_along_axis(lambda line: np.interp(every, rows, line), 0, values)
    return torch.from_numpy(np.apply_along_axis(lambda line: np.interp(np.arange(GRID), columns, line), 1, values))


def make_table(q: Tensor, level: Tensor, count: int = 576) -> np.ndarray:
    """Table values for directions and levels ``[GRID, GRID, K]`` on the whole grid."""
    rows = []
    for row in range(GRID):
        weights = table_weights(row, q[row], level[row], count)
        rows.append(torch.cat([q[row], level[row], weights.transpose(1, 2).reshape(GRID, -1)], -1))
    return torch.stack(rows).numpy()


def table_weights(row: int, q: Tensor, level: Tensor, count: int = 576) -> Tensor:
    """Weights ``[GRID, K + 1, 3]`` of a row of the table for its directions and levels ``[GRID, K]``."""
    roughness, n_dot_v = grid_coordinates()
    cells = sample_cells(np.full(GRID, roughness[row]), n_dot_v, count)
    if row > 0:
        return solve_weights(cells, q, level)[0]
    # a mirror: any split between equal look-ups will do, and the next row's is the smooth one
    following = table_weights(1, q, level, count)
    weights = torch.zeros_like(following)
    weights[:, :LOOKUPS, :2] = cells.sums[:, None, :2] / LOOKUPS
    weights[:, :, 2] = following[:, :, 2]
    return weights


def _metric(directions: Tensor, areas: Tensor, lobe: Tensor, tail: Tensor, floor: float) -> Tensor:
    """Inner product of functions on the samples: what lights with detail of every size make of an error.

    The light's covariance is a sum of Gaussians of several widths; both halves of the sphere count. A second part
    weighs an error by what the lobe has there, so that the haze around a lamp is right where all else is dark; its
    share is ``tail [C, 1]``, and ``floor`` of the mean lobe is added to what it divides by.
    """
    metric = torch.zeros(areas.shape[0], areas.shape[1], areas.shape[1])
    for other in (directions, directions * directions.new_tensor([1, -1, 1])):
        gap = (2 - 2 * directions @ other.transpose(1, 2)).clamp_min(0)
        for width in _GRAIN:
            metric += areas[:, :, None] * areas[:, None] * (gap * (-0.5 / width**2)).exp() / width**2
    metric /= lobe[:, None] @ metric @ lobe[..., None]
    haze = areas / (lobe + floor * (lobe * areas).sum(1, keepdim=True))
    haze = haze / (haze * lobe * lobe).sum(1, keepdim=True)
    metric += torch.diag_embed(tail * haze)
    return metric


def _level_of(alpha: Tensor) -> Tensor:
    widths = torch.tensor([_RAW_WIDTH, *WIDTHS[1:]]).log()
    place = alpha.log()
    upper = torch.bucketize(place, widths).clamp(1, len(WIDTHS) - 1)
    lower = widths[upper - 1]
    return (upper - 1 + (place - lower) / (widths[upper] - lower)).clamp(0, len(WIDTHS) - 1)


def _ggx_half(u: Tensor, phi: Tensor, alpha: Tensor) -> Tensor:
    cos_h = ((1 - u) / (1 + (alpha * alpha - 1) * u)).sqrt()
    sin_h = (alpha * alpha * u / (1 + (alpha * alpha - 1) * u)).sqrt()
    return torch.stack([sin_h * torch.cos(phi), sin_h * torch.sin(phi), cos_h], -1)


def _kernels(cells: Cells, q: Tensor, level: Tensor) -> Tensor:
    """Mixed kernels ``[C, S, K]`` as a trilinear look-up mixes them."""
    centre = torch.stack([-q * cells.sin_v, torch.zeros_like(q), 1 - q + q * cells.cos_v], -1)
    centre = torch.nn.functional.normalize(centre, dim=-1)
    gap = (cells.directions[:, :, None] - centre[:, None]).square().sum(-1)
    lower = level.detach().floor().clamp(0, len(WIDTHS) - 2).long()
    part = (level - lower)[:, None]
    widths = torch.tensor([_RAW_WIDTH, *WIDTHS[1:]])
    whole = _whole(tuple(widths.tolist()))
    near = _kernel(gap, widths[lower][:, None]) / whole[lower][:, None]
    far = _kernel(gap, widths[lower + 1][:, None]) / whole[lower + 1][:, None]
    return near * (1 - part) + far * part


@functools.lru_cache(maxsize=1)
def _whole(widths: tuple[float, ...]) -> Tensor:
    """Integrals of the kernels, by which they are divided."""
    return torch.tensor([float(np.add(*specular_albedo(math.sqrt(w), 1.0))) for w in widths])


def _kernel(gap: Tensor, alpha: Tensor) -> Tensor:
    cosine = (1 - 0.5 * gap).clamp_min(0)
    a2 = alpha * alpha
    sin2_half = 0.25 * gap
    lobe = sin2_half + a2 * (1 - sin2_half)
    visibility = cosine + ((1 - a2) * cosine * cosine + a2).sqrt()
    return cosine * a2 / (lobe * lobe * visibility * (2 * math.pi))


def main() -> None:
    """Fit the table and write it where the package reads it."""
    torch.manual_seed(0)
    values, _ = fit_table()
    np.savez_compressed(TABLE_FILE, values=values.astype(np.float32))


if __name__ == "__main__":
    main()
