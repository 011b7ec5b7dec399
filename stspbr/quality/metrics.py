"""The values of one finished run, read from its artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stspbr.artifacts import RUN_FACTS, Artifact


@dataclass(frozen=True)
class Metric:
    """One column of the table.

    Attributes:
        name: key in every file.
        label: column heading, with the unit.
        paths: places of the value in ``errors.json``; the first that exists is used. ``relit`` is the mean over the
            lights of ``relighting``.
        higher_is_better: otherwise lower is better.
        factor: from the file's unit to the column's.
        digits: after the point.
        judged: whether the outcome counts for or against the method.
    """

    name: str
    label: str
    paths: tuple[str, ...]
    higher_is_better: bool = False
    factor: float = 1.0
    digits: int = 4
    judged: bool = True


METRICS = (
    Metric("albedo_mae", "albedo MAE", ("material/lit/albedo_mae",)),
    Metric("albedo_mae_scaled", "albedo MAE scaled", ("material/lit/albedo_mae_scaled",)),
    Metric(
        "albedo_psnr_scaled",
        "albedo PSNR scaled dB",
        ("material/lit/albedo_psnr_scaled",),
        higher_is_better=True,
        digits=2,
        judged=False,
    ),  # fmt: skip
    Metric("roughness_mae", "roughness MAE", ("material/lit/roughness_mae",)),
    Metric("metallic_mae", "metallic MAE", ("material/lit/metallic_mae",)),
    Metric("false_metal", "false metal %", ("material/lit/false_metal_rate",), factor=100.0, digits=2),
    Metric("missed_metal", "missed metal %", ("material/lit/missed_metal_rate",), factor=100.0, digits=2),
    Metric("normal_angle", "normal angle °", ("material/lit/normal_angle_mean",), digits=2),
    Metric("chamfer", "Chamfer-L1", ("geometry/chamfer_l1",), digits=5),
    Metric("f_score", "F-score 0.5 %", ("geometry/f_score_0.5%",), higher_is_better=True),
    Metric("boundary_edges", "boundary edges", ("geometry/boundary_edges", "bake/mesh/boundary_edges"), digits=1),
    Metric("psnr", "held-out PSNR dB", ("views/psnr", "bake/held_out/psnr_mean"), higher_is_better=True, digits=2),
    Metric("relit", "relit PSNR dB", ("relit/psnr",), higher_is_better=True, digits=2),
    Metric("relit_scaled", "relit PSNR scaled dB", ("relit/psnr_scaled",), higher_is_better=True, digits=2),
    Metric("light_radiance", "light radiance %", ("light/full/relative_error",), factor=100.0, digits=1),
    Metric("light_irradiance", "light irradiance %", ("light/irradiance/relative_error",), factor=100.0, digits=1),
    Metric("light_direction", "main lights °", ("light/direction_error",), digits=2),
    Metric("step_seconds", "CPU s/step", (), digits=3),
    Metric("wall_seconds", "wall s", (), digits=1, judged=False),
)


_RELIT = ("psnr", "psnr_scaled")


def read_values(done: Mapping[str, Artifact]) -> dict[str, float | None]:
    """Every metric of a run by name; None if the evaluation lacks it (without metal, for example).

    Args:
        done: the artifacts of coarse, specialize, bake and evaluate.
    """
    errors = json.loads(done["evaluate"].file("errors.json").read_text(encoding="utf-8"))
    relit = list((errors.get("relighting") or {}).values())
    errors["relit"] = {key: sum(light[key] for light in relit) / len(relit) for key in _RELIT} if relit else {}
    values = {metric.name: _first(errors, metric) for metric in METRICS}
    seconds = steps = stepping = 0.0
    for stage in ("coarse", "specialize", "bake"):
        facts = json.loads((done[stage].path / RUN_FACTS).read_text(encoding="utf-8"))
        made = json.loads(done[stage].file("metrics.json").read_text(encoding="utf-8")).get("convergence") or {}
        iterations = float(made.get("steps", done[stage].settings["optimize"]["iterations"]))
        paces = facts.get("seconds_per_step", {})
        # jobs may share a CPU, so CPU time is compared; on a GPU only wall time is meaningful
        pace = paces.get("cpu" if done[stage].manifest["device"] == "cpu" else "step")
        if pace is not None:
            steps, stepping = steps + iterations, stepping + iterations * pace
        seconds += facts.get("seconds", 0.0)
    values["step_seconds"] = stepping / steps if steps else None
    values["wall_seconds"] = seconds
    return values


def _first(errors: Mapping[str, Any], metric: Metric) -> float | None:
    for path in metric.paths:
        value: Any = errors
        for part in path.split("/"):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return metric.factor * float(value)
    return None
