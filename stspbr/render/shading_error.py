"""The shading's error against the quadrature, compared with plain split-sum; ``python -m`` prints the tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.render.brdf import DIELECTRIC_F0
from stspbr.render.brdf_table import diffuse_fresnel, specular_albedo
from stspbr.render.lobes import LobeTable
from stspbr.render.prefilter import WIDTHS, PrefilteredLight, prefilter_latlong
from stspbr.render.quadrature import integrate_light, sphere_points
from stspbr.render.shading import shade
from stspbr.scene.light import EnvironmentLight

ROUGHNESS = (0.15, 0.4, 0.8)
BANDS = ((0.05, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
MATERIALS = ((0.6, 1.0), (0.03, 0.0), (0.6, 0.0))

EXPECTED_DB = ((38.0, 49.5, 59.0, 57.3), (34.5, 42.2, 52.2, 52.4), (33.9, 40.5, 44.2, 48.6))
"""Mean PSNR of ``shade`` by ``ROUGHNESS`` and ``BANDS``, over materials and lights of the tables in docs/shading.md."""


@dataclass(frozen=True)
class ShadingError:
    """One cell of the table: PSNR in dB; the peak is the brightest true radiance of the material on the sphere.

    Attributes:
        albedo, metallic, roughness: the material; band: range of N·V.
        shading: PSNR of ``shade``; split_sum: of plain split-sum with the same prefiltered light.
    """

    albedo: float
    metallic: float
    roughness: float
    band: tuple[float, float]
    shading: float
    split_sum: float


def expected_error(roughness: Tensor, facing: Tensor) -> Tensor:
    """How far ``shade`` is off, as a fraction of the radiance; any shape, from the table ``EXPECTED_DB``.

    The peaks to which its PSNR refer are taken for the radiance itself. Between the table's places it is interpolated
    in decibels, beyond them it is as at the nearest.

    Args:
        roughness: perceptual; facing: N·V.
    """
    table = roughness.new_tensor(EXPECTED_DB)
    row, below = _between(roughness, ROUGHNESS)
    column, left = _between(facing, [0.5 * (low + high) for low, high in BANDS])
    upper = table[row, column] * (1 - left) + table[row, column + 1] * left
    lower = table[row + 1, column] * (1 - left) + table[row + 1, column + 1] * left
    return 10.0 ** (-(upper * (1 - below) + lower * below) / 20.0)


def _between(values: Tensor, knots: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The knot below each value, and how far the value is to the next, in [0, 1]."""
    places = values.new_tensor(knots)
    index = torch.searchsorted(places, values.contiguous()).clamp(1, len(places) - 1) - 1
    return index, ((values - places[index]) / (places[index + 1] - places[index])).clamp(0.0, 1.0)


def shading_errors(
    light: EnvironmentLight,
    prefiltered: PrefilteredLight | None = None,
    *,
    roughness: Sequence[float] = ROUGHNESS,
    points: int = 100,
    samples: int = 320,
    table: LobeTable | None = None,
) -> list[ShadingError]:
    """Errors on an unshadowed sphere for every roughness, material and band of N·V; ``points`` per band."""
    from stspbr.render.cpu.texture import texture

    prefiltered = prefiltered or prefilter_latlong(light)
    cells = []
    for value in roughness:
        geometry = [sphere_points(points, *band) for band in BANDS]
        integrals = [integrate_light(n, v, np.array([value]), light, samples, samples) for n, v in geometry]
        for albedo, metallic in MATERIALS:
            truth = [part.radiance(np.full((1, 3), albedo), np.full((1, 1), metallic)) for part in integrals]
            peak = max(part.max() for part in truth)
            for band, (n, v), exact in zip(BANDS, geometry, truth, strict=True):
                frame = torch.tensor(n, dtype=torch.float32), torch.tensor(v, dtype=torch.float32)
                rough, metal = (torch.full((points, 1), number) for number in (value, metallic))
                material = torch.full((points, 3), albedo), rough, metal
                ours = shade(*frame, *material, prefiltered, texture=texture, table=table)
                plain = split_sum(*frame, *material, prefiltered, texture=texture)
                psnr = [_psnr(image, exact, peak) for image in (ours, plain)]
                cells.append(ShadingError(albedo, metallic, value, band, *psnr))
    return cells


def split_sum(
    normals: Tensor,
    view: Tensor,
    albedo: Tensor,
    roughness: Tensor,
    metallic: Tensor,
    light: PrefilteredLight,
    *,
    texture: Callable[..., Tensor],
) -> Tensor:
    """Plain split-sum (Karis 2013) for comparison: one look-up in the mirrored direction, lobe of ``n = v = r``.

    Arguments and result as of ``shade``, on the CPU and without gradients.
    """
    cosine = (normals * view).sum(-1, keepdim=True).clamp(1e-3, 1.0)
    mirrored = 2 * cosine * normals - view
    widths = np.log([0.0025, *WIDTHS[1:]])
    level = np.interp(2 * np.log(roughness.numpy().ravel()), widths, np.arange(len(widths)))
    level = torch.tensor(level - (len(WIDTHS) - len(light.specular)), dtype=torch.float32).clamp_min(0)
    found = texture(
        light.specular[0][None], mirrored[None, None], mip_level_bias=level[None, None],
        mip=[part[None] for part in light.specular[1:]], filter_mode="linear-mipmap-linear", boundary_mode="cube",
    )[0, 0]  # fmt: skip
    around = texture(light.diffuse[None], normals[None, None], filter_mode="linear", boundary_mode="cube")[0, 0]
    a, b = (torch.from_numpy(part).float() for part in specular_albedo(roughness.numpy(), cosine.numpy(), 48))
    fresnel = torch.from_numpy(diffuse_fresnel(cosine.numpy(), 48)).float()
    f0 = DIELECTRIC_F0 * (1 - metallic) + albedo * metallic
    return found * (f0 * a + b) + around * albedo * (1 - metallic) * (1 - f0) * (1 - fresnel)


def markdown_table(name: str, cells: Sequence[ShadingError]) -> str:
    """The errors as a Markdown table: ours, and plain split-sum in brackets."""
    head = " | ".join(f"N·V {low:g}–{high:g}" for low, high in BANDS)
    lines = [f"| {name}: material | roughness | {head} |", "|" + " --- |" * (2 + len(BANDS))]
    for albedo, metallic in MATERIALS:
        for value in dict.fromkeys(cell.roughness for cell in cells):
            row = [c for c in cells if (c.albedo, c.metallic, c.roughness) == (albedo, metallic, value)]
            kind = "metal" if metallic else "dielectric"
            numbers = " | ".join(f"{c.shading:.1f} ({c.split_sum:.1f})" for c in row)
            lines.append(f"| {kind} {albedo:g} | {value:g} | {numbers} |")
    return "\n".join(lines)


def _psnr(value: Tensor, exact: np.ndarray, peak: float) -> float:
    return float(10 * np.log10(peak**2 / np.mean((value.double().numpy() - exact) ** 2)))


def main() -> None:
    """Print the tables for the lat-long lights named on the command line."""
    import sys

    from stspbr.formats.images import read_image

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("lights", nargs="+", help="lat-long .hdr or .exr files")
    parser.add_argument("--roughness", type=float, nargs="+", default=ROUGHNESS)
    options = parser.parse_args()
    for path in options.lights:
        cells = shading_errors(EnvironmentLight(read_image(path)[0]), roughness=options.roughness)
        sys.stdout.write(markdown_table(path, cells) + "\n\n")


if __name__ == "__main__":
    main()
