"""The contents of ``errors.json``: its schema, its rows as CSV, and its short form for the terminal."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

SCHEMA = 1

_REGION_VALUES = {
    "albedo_mae": "linear, mean over RGB",
    "albedo_psnr": "dB, linear, peak 1; 200 if equal",
    "albedo_mae_scaled": "after one least-squares factor per RGB channel on the estimate",
    "albedo_psnr_scaled": "dB, after the same factors",
    "roughness_mae": "perceptual roughness",
    "roughness_rmse": "perceptual roughness",
    "roughness_bias": "mean of estimate − reference",
    "metallic_mae": "",
    "metallic_rmse": "",
    "metallic_bias": "mean of estimate − reference",
    "false_metal_rate": "share of dielectric surface (metallic < ½) that the estimate calls metal (> ½)",
    "missed_metal_rate": "share of metal surface (metallic ≥ ½) that the estimate calls dielectric (≤ ½)",
    "normal_angle_mean": "degrees between shading normals, normal maps included",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Open(BaseModel):
    """A part to which later versions may add values."""

    model_config = ConfigDict(extra="allow")


def _optional(name: str, base: type[BaseModel], values: dict[str, str], **fields: Any) -> Any:
    """A model of ``values``, each with its standard error; all are None if there are no points."""
    for value, text in values.items():
        fields[value] = (float | None, Field(None, description=text))
        fields[f"{value}_se"] = (float | None, Field(None, description=f"standard error of {value}"))
    return create_model(name, __base__=base, **fields)


_Region: Any = _optional("Region", _Part, _REGION_VALUES, count=(int, Field(description="points")))


class Region(_Region):
    """Errors over one part of the surface."""


class UnseenRegion(Region):
    """The part that no training view sees; ``unmatched`` of its points have no partner."""

    unmatched: int


class _Counts(_Part):
    """Counts of sampled points; ``samples`` is the sum of the others."""

    samples: int = Field(ge=1)
    used: int
    unseen: int = Field(description="seen by no training camera")
    too_far: int = Field(description="seen, but the nearest point is beyond max_distance_fraction of the diagonal")
    opposed: int = Field(description="seen, but the nearest face points the other way")


class Back(Region, _Counts):
    """Points of the estimate, compared with the reference."""


class KindsByAlbedo(_Part):
    """Missed and false metal among points of one band of the truth's albedo luminance."""

    albedo: list[float] = Field(min_length=2, max_length=2, description="limits of the band")
    metal: int
    dielectric: int
    missed_metal_rate: float | None
    false_metal_rate: float | None


class MaterialErrors(_Counts):
    """Material error in 3D. The regions hold seen points only, ``unseen_surface`` the others."""

    all: Region
    lit: Region = Field(description="albedo luminance above 0.02")
    dark: Region = Field(description="albedo luminance below 0.1")
    unseen_surface: UnseenRegion
    by_albedo: list[KindsByAlbedo] = Field([], description="missed and false metal per band of albedo")
    albedo_scale: list[float] = Field(min_length=3, max_length=3)
    max_distance_fraction: float
    footprint: float = Field(description="object-space radius over which both materials were averaged; 0: none")
    not_converged: list[str] = Field(description="values of lit whose standard error is above 1 %")
    matched_back: float | None = Field(None, description="share of the estimate's seen surface that has a partner")
    back: Back | None = Field(None, description="points of the estimate")


class _Distances(_Open):
    chamfer_l1: float
    accuracy: float
    completeness: float
    f_score_half: float = Field(alias="f_score_0.5%")
    f_score_one: float = Field(alias="f_score_1%")
    normal_consistency: float


class SeenGeometry(_Distances):
    """Of the points that a training camera sees."""

    reference_share: float = Field(description="how much of the reference's area is seen")
    estimate_share: float = Field(description="how much of the estimate's")


class CreaseErrors(_Part):
    """Shading normals on both sides of the reference's sharp edges; see ``metrics.creases``."""

    samples: int
    too_narrow: int = Field(description="points with a side that is not flat far enough, such as a small bevel")
    unseen: int = Field(description="points with a side that no training camera sees")
    used: int
    step: float = Field(description="from the edge to the points beside it, in the reference's unit")
    angle_mean: float | None
    angle_median: float | None
    both_within_2_degrees: float | None = Field(description="share of the creases' length")
    both_within_5_degrees: float | None


class GeometryErrors(_Distances):
    """Distances in the reference's unit; topology of the estimate, and of the reference under ``reference``."""

    diagonal: float
    seen: SeenGeometry | None = None
    creases: CreaseErrors | None = None


class _ImageValues(_Part):
    psnr: float | None = None
    ssim: float | None = None
    ms_ssim: float | None = None
    lpips: float | None = None


class ViewRow(_ImageValues):
    """One view."""

    name: str


class ViewErrors(_ImageValues):
    """Means over the held-out views, of sRGB-encoded images within the masks."""

    count: int
    split: str = Field(description="test; train if no view was held out")
    exposure: str | None = Field(None, description="how those of held-out photographs were found")
    lpips_missing: str | None = None
    per_view: list[ViewRow]


class RelightingErrors(_Open):
    """Path-traced views under one light."""

    psnr: float | None
    ssim: float | None
    psnr_scaled: float | None
    ssim_scaled: float | None
    per_view: list[dict[str, Any]]


class LightErrors(_Open):
    """A learned environment map against the true one; see ``metrics.light``."""

    full: dict[str, Any]
    blurred: dict[str, Any]
    irradiance: dict[str, Any]
    directions: list[dict[str, Any]]
    direction_error: float | None


class Alignment(_Open):
    """The similarity that was applied to the estimate before surfaces were compared."""

    mode: str
    matrix: list[list[float]]


class OtherErrors(_Part):
    """Another tool's asset of the same object, measured in the same way."""

    name: str = Field(description="of its file")
    alignment: Alignment
    material: MaterialErrors
    material_at_footprint: MaterialErrors | None
    geometry: GeometryErrors
    views: ViewErrors
    relighting: dict[str, RelightingErrors] | None


class ErrorRecord(_Part):
    """``errors.json``, schema 1."""

    version: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    package: str
    reference: str
    alignment: Alignment
    material: MaterialErrors
    material_at_footprint: MaterialErrors | None
    geometry: GeometryErrors
    views: ViewErrors
    relighting: dict[str, RelightingErrors] | None
    light: LightErrors | None = Field(description="None if the light was known")
    error_peaks: dict[str, float]
    bake: dict[str, Any]
    other: OtherErrors | None = None


def write_csv(errors: dict, path: Path) -> None:
    """One row per value: ``group,region,metric,value,standard_error``."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["group", "region", "metric", "value", "standard_error"])
        for group, region, values in _tables(errors):
            for metric, value in values.items():
                if isinstance(value, (bool, int, float)) and not (metric.endswith("_se") and metric[:-3] in values):
                    error = values.get(f"{metric}_se")
                    writer.writerow([group, region, metric, value, "" if error is None else error])


def _tables(errors: dict) -> Iterator[tuple[str, str, dict]]:
    """Group, region and values of each part of the record."""
    for group in ("material", "material_at_footprint", "geometry", "light"):
        part = errors.get(group) or {}
        yield group, "", part
        for region, values in part.items():
            if isinstance(values, dict):
                yield group, region, values
    for number, direction in enumerate((errors.get("light") or {}).get("directions", []), start=1):
        yield "light", f"direction_{number}", direction
    for axis, factor in zip("rgb", errors["material"]["albedo_scale"], strict=True):
        yield "material", "", {f"albedo_scale_{axis}": factor}
    views = {"views": {"mean": errors["views"]}, "relighting": errors.get("relighting") or {}}
    for group, regions in views.items():
        for region, values in regions.items():
            yield group, region, values
            for row in values.get("per_view", []):
                yield group, f"{region}/{row['name']}" if group == "relighting" else row["name"], row
    if errors.get("other"):
        yield from ((f"other/{group}", region, values) for group, region, values in _tables(errors["other"]))


def compared_table(errors: dict) -> list[tuple[str, ...]]:
    """``error_table`` with a column of the other asset's values, if there is one."""
    rows = error_table(errors)
    if not errors.get("other"):
        return [*rows]
    other = dict(error_table(errors["other"]))
    labels = dict.fromkeys([*dict(rows), *other])
    return [(label, dict(rows).get(label, ""), other.get(label, "")) for label in labels]


def error_table(errors: dict) -> list[tuple[str, str]]:
    """Rows (what, value) for the terminal: material over the lit part of the seen surface, geometry, views."""
    material, geometry, views = errors["material"], errors["geometry"], errors["views"]
    lit, dark = material["lit"], material["dark"]
    rejected = f"{material['too_far']} too far, {material['opposed']} opposed, {material['unseen']} never seen"
    rows = [
        ("points compared", f"{material['used']} of {material['samples']} ({rejected})"),
        ("partners of the result's surface", _share(material.get("matched_back"))),
    ]
    if errors["alignment"]["mode"] != "none":
        rows.append(("aligned by", errors["alignment"]["mode"]))
    if lit["count"]:
        rows += [
            ("albedo PSNR, linear", f"{lit['albedo_psnr']:.2f} dB ({lit['albedo_psnr_scaled']:.2f} scaled)"),
            ("albedo MAE, linear", f"{_sure(lit, 'albedo_mae')} ({lit['albedo_mae_scaled']:.4f} scaled)"),
        ]
        for name in ("roughness", "metallic"):
            spread = f"RMSE {lit[f'{name}_rmse']:.4f}, bias {lit[f'{name}_bias']:+.4f}"
            rows.append((f"{name} MAE", f"{_sure(lit, f'{name}_mae')} ({spread})"))
        for rate in ("false_metal_rate", "missed_metal_rate"):
            label = rate.removesuffix("_rate").replace("_", " ")
            rows.append((label, f"{_share(lit[rate])} (dark part {_share(dark.get(rate))})"))
        rows.append(("shading normals", f"{lit['normal_angle_mean']:.2f}° off"))
    if material["not_converged"]:
        rows.append(("standard error above 1 %", ", ".join(material["not_converged"])))
    keys = ("chamfer_l1", "f_score_0.5%", "f_score_1%", "normal_consistency")
    rows += [(f"geometry: {key.replace('_', ' ')}", f"{geometry[key]:.5g}") for key in keys]
    if seen := geometry.get("seen"):
        text = f"Chamfer {seen['chamfer_l1']:.5g}, F-score 0.5% {seen['f_score_0.5%']:.5g}"
        rows.append(("geometry: seen surface", f"{text} ({_share(seen['reference_share'])} of the reference)"))
    if (creases := geometry.get("creases")) and creases["used"]:
        text = f"{creases['angle_median']:.2f}° off (median), both sides within 2°"
        rows.append(("geometry: beside sharp edges", f"{text}: {_share(creases['both_within_2_degrees'])}"))
    truth = geometry.get("reference", {})
    for key in ("components", "boundary_edges", "self_intersections", "genus"):
        if key in geometry:
            text = f"{_count(geometry[key])} (reference {_count(truth.get(key))})"
            rows.append((f"geometry: {key.replace('_', ' ')}", text))
    rows.append(("held-out views" if views["split"] == "test" else "training views", _image_values(views)))
    for name, values in (errors.get("relighting") or {}).items():
        rows.append((f"relit by {name}", f"{_image_values(values)} ({values['psnr_scaled']:.2f} dB scaled)"))
    if light := errors.get("light"):
        for key, name in (("full", "radiance"), ("irradiance", "irradiance")):
            text = f"{100.0 * light[key]['relative_error_common']:.1f} %"
            rows.append((f"light: {name}, after a scale", text))
        if light["direction_error"] is not None:
            rows.append(("light: main directions", f"{light['direction_error']:.1f}° off"))
    return rows


def _sure(region: dict, name: str) -> str:
    return f"{region[name]:.4f} ± {region[f'{name}_se']:.1g}"


def _image_values(values: dict) -> str:
    named = {"psnr": "{:.2f} dB", "ssim": "SSIM {:.4f}", "ms_ssim": "MS-SSIM {:.4f}", "lpips": "LPIPS {:.4f}"}
    return ", ".join(form.format(values[k]) for k, form in named.items() if values.get(k) is not None) or "none"


def _count(value: int | None) -> str:
    return "undefined" if value is None else str(value)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{100.0 * value:.2f} %"
