"""The rungs from the joint baseline to the method; each is a set of changes to the recipe's defaults.

Every rung adds one thing to the one before: two networks instead of one, a loss per network, a rate per network,
strict routing, and last the priors and regions of ``METHOD``, which gives the recipe's defaults. Beside them stand
``LENT``, the joint baseline with all of ``METHOD``, and the method with a part changed that concerns a learned light.
"""

from __future__ import annotations

import math
from typing import Any

from stspbr.errors import StspbrError
from stspbr.settings import FieldSettings, HashGridSettings, Recipe, parse_settings

LIGHT_VARIANTS: dict[str, dict[str, Any]] = {
    "without-light-solve": {"light_solve.at": []},
    "light-solve-alone": {"light_solve.palette": 0.0},
    "without-light-scale": {"light_scale.at": []},
}
"""The method with a part changed that concerns a learned light: values by dotted key of the stage."""
LENT = "joint-lent"
"""One network for all materials, with everything that is not separation."""
CONFIGURATIONS = (
    "joint", "split-weights", "split-losses", "split-rates", "strict-routing", LENT, *LIGHT_VARIANTS, "ours",
)  # fmt: skip
FLOOR = "floor"
"""The method with the true mesh and the true light: only the errors of shading, images and maps remain."""
STAGES = ("coarse", "specialize", "bake")
TOLERANCE = 0.02

METHOD: dict[str, Any] = {
    "survey.at": [],
    "light_solve.at": [],
    "light_scale.at": [],
    "light.common_scale": False,
    "light.smoothness": 0.0,
    "optimize.losses.metal_prior_weight": 0.0,
    "optimize.losses.appearance_region": "union",
    "optimize.losses.reflectance_region": "union",
}
"""Settings of the method beyond the rungs, with their values without the method, by dotted key of the stage.

Every rung up to ``strict-routing`` takes these values, so that the baselines gain nothing from a new idea.
A key that a stage lacks is ignored for that stage."""


def configured(recipe: Recipe, name: str) -> Recipe:
    """``recipe`` changed to the configuration ``name``.

    Args:
        recipe: the method's own settings.
        name: one of ``CONFIGURATIONS``, or ``FLOOR`` (whose mesh the caller sets).
    """
    values = recipe.model_dump(mode="json")
    if name in ("ours", FLOOR):
        return recipe
    if name not in CONFIGURATIONS:
        raise StspbrError(f"no configuration {name!r}; choose {', '.join(CONFIGURATIONS)}")
    if name in LIGHT_VARIANTS:
        for stage in STAGES:
            for key, value in LIGHT_VARIANTS[name].items():
                _replace(values[stage], key, value)
        return parse_settings(Recipe, values, name)
    for stage in STAGES:
        settings = getattr(recipe, stage)
        optimize = values[stage]["optimize"]
        if name != "strict-routing":
            optimize["routing"] = "shared"
        for key, value in METHOD.items() if name != LENT else ():
            _replace(values[stage], key, value)
        if name in ("split-weights", "split-losses"):
            joint = settings.optimize.rates.joint.model_dump(mode="json")
            optimize["rates"].update(appearance=joint, reflectance=dict(joint))
        if name == "split-weights":
            # under shared routing both terms drive everything, so their sum equals the joint network's loss
            half = {loss: 0.5 * weight for loss, weight in settings.optimize.losses.joint.items()}
            optimize["losses"].update(appearance=half, reflectance=dict(half))
    if name in ("joint", LENT):
        values["coarse"]["fields"].update(mode="joint", joint=matched_joint(recipe.coarse.fields).model_dump())
    return parse_settings(Recipe, values, name)


def encoding_parameters(fields: FieldSettings) -> int:
    """Trainable numbers in the hash tables of all networks that ``fields`` describes."""
    grids = [fields.joint] if fields.mode == "joint" else [fields.appearance, fields.reflectance]
    return sum(_table_numbers(grid) for grid in grids)


def matched_joint(fields: FieldSettings) -> HashGridSettings:
    """The joint network's grid with as many parameters as those of A and B together, within 2 %.

    The recipe's own grid if it fits; else the fitting grid with most levels, then the nearest coarsest resolution.
    Its finest resolution is A's.

    Raises:
        StspbrError: no grid fits.
    """
    split = fields.model_copy(update={"mode": "split"})
    wanted = encoding_parameters(split)

    def misfit(grid: HashGridSettings) -> float:
        return abs(_table_numbers(grid) / wanted - 1.0)

    if misfit(fields.joint) <= TOLERANCE:
        return fields.joint
    a, b = fields.appearance, fields.reflectance
    shape = {"features": a.features, "finest_resolution": a.finest_resolution}
    candidates = (
        HashGridSettings(levels=levels, base_resolution=base, log2_table_size=table, **shape)
        for table in dict.fromkeys((a.log2_table_size, b.log2_table_size))
        for levels in range(min(24, a.levels + b.levels), a.levels - 1, -1)
        for base in sorted(range(4, min(33, a.finest_resolution + 1)), key=lambda r: (abs(r - a.base_resolution), r))
    )
    # the first within the tolerance has most levels; a closer count is not worth another shape
    grid = next((grid for grid in candidates if misfit(grid) <= TOLERANCE), None)
    if grid is None:
        raise StspbrError(
            f"fields: no joint grid comes within {TOLERANCE:.0%} of the {wanted} parameters of A and B: "
            "give coarse.fields.joint another log2_table_size"
        )
    return grid


def check_equal_parameters(recipe: Recipe) -> dict[str, int]:
    """Encoding parameters of every configuration.

    Raises:
        StspbrError: they are not within 2 % of the method's.
    """
    counts = {name: encoding_parameters(configured(recipe, name).coarse.fields) for name in CONFIGURATIONS}
    for name, count in counts.items():
        if abs(count / counts["ours"] - 1.0) > TOLERANCE:
            raise StspbrError(f"{name} has {count} encoding parameters, ours {counts['ours']}: not within 2 %")
    return counts


def _table_numbers(grid: HashGridSettings) -> int:
    """The number of entries in ``HashGridEncoding``'s table for ``grid``, without allocating it."""
    growth = math.log(grid.finest_resolution / grid.base_resolution) / max(1, grid.levels - 1)
    sides = [math.floor(grid.base_resolution * math.exp(growth * level) + 1e-6) + 1 for level in range(grid.levels)]
    return grid.features * sum(min(side**3, 1 << grid.log2_table_size) for side in sides)


def _replace(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.get(parent, {})
    if last in values:
        values[last] = value
