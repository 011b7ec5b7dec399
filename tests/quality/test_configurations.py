"""The rungs: each differs from the one before in what it claims and in nothing else, at equal parameters."""

from __future__ import annotations

import pytest

from stspbr.errors import StspbrError
from stspbr.quality import configurations
from stspbr.quality.configurations import (
    CONFIGURATIONS,
    FLOOR,
    check_equal_parameters,
    configured,
    encoding_parameters,
    matched_joint,
)
from stspbr.settings import FieldSettings, HashGridSettings, Recipe, settings_for

STAGES = ("coarse", "specialize", "bake")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.model_validate(
        {"name": "x", "capture": {"kind": "mesh", "asset": "procedural:demo", "light": "procedural:demo"}}
    )


def leaves(values, prefix="") -> dict:
    if isinstance(values, dict):
        return {k: v for name, item in values.items() for k, v in leaves(item, f"{prefix}{name}.").items()}
    return {prefix[:-1]: values}


def changed(recipe: Recipe, one: str, other: str) -> set[str]:
    """Settings in which two configurations differ, without the stage's name."""
    a, b = (leaves(configured(recipe, name).model_dump(mode="json")) for name in (one, other))
    return {key.partition(".")[2] for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


def test_ours_and_the_floor_are_the_recipe_itself(recipe):
    assert configured(recipe, "ours") == recipe == configured(recipe, FLOOR)


def test_each_rung_adds_one_thing(recipe):
    assert changed(recipe, "strict-routing", "ours") == set(configurations.METHOD)
    assert changed(recipe, "without-light-solve", "ours") == {"light_solve.at"}
    assert changed(recipe, "light-solve-alone", "ours") == {"light_solve.palette"}
    assert changed(recipe, "without-light-scale", "ours") == {"light_scale.at"}
    assert changed(recipe, "split-rates", "strict-routing") == {"optimize.routing"}
    rates = changed(recipe, "split-losses", "split-rates")
    assert rates and all(k.startswith(("optimize.rates.appearance", "optimize.rates.reflectance")) for k in rates)
    losses = changed(recipe, "split-weights", "split-losses")
    assert losses and all(k.startswith(("optimize.losses.appearance", "optimize.losses.reflectance")) for k in losses)
    for key in changed(recipe, "joint", "split-weights"):
        # the joint network reads only losses.joint and rates.joint, which both rungs have
        assert key.startswith(("fields.mode", "fields.joint", "optimize.losses.", "optimize.rates.")), key


def test_the_joint_baseline_is_lent_all_that_is_not_separation(recipe):
    lent = changed(recipe, "joint-lent", "ours")
    assert {"fields.mode", "optimize.routing"} <= lent
    assert all(key.startswith(("fields.mode", "fields.joint", "optimize.routing")) for key in lent)
    assert changed(recipe, "joint-lent", "joint") == set(configurations.METHOD)


def test_split_weights_have_the_joint_s_loss_and_rate(recipe):
    weights = configured(recipe, "split-weights")
    for stage in STAGES:
        optimize = getattr(weights, stage).optimize
        assert optimize.routing == "shared"
        assert optimize.rates.appearance == optimize.rates.reflectance == optimize.rates.joint
        total = {k: optimize.losses.appearance[k] + optimize.losses.reflectance[k] for k in optimize.losses.joint}
        assert total == pytest.approx(optimize.losses.joint)
        assert optimize.losses.appearance.keys() == optimize.losses.joint.keys()


def test_all_have_the_same_budget_and_everything_else(recipe):
    plain = configured(recipe, "ours")
    for name in CONFIGURATIONS:
        other = configured(recipe, name)
        assert other.capture == plain.capture and other.evaluate == plain.evaluate and other.seed == plain.seed
        for stage in STAGES:
            a, b = getattr(plain, stage).optimize, getattr(other, stage).optimize
            assert (a.iterations, a.batch) == (b.iterations, b.batch)
            assert a.rates.geometry == b.rates.geometry and a.rates.light == b.rates.light
    assert configured(recipe, "joint").coarse.fields.mode == "joint"


def test_ours_follows_the_recipe(recipe):
    values = recipe.model_dump(mode="json")
    values["coarse"]["optimize"]["losses"]["reflectance"] = {"mse": 1.0}
    changed_recipe = Recipe.model_validate(values)
    assert configured(changed_recipe, "ours").coarse.optimize.losses.reflectance == {"mse": 1.0}
    assert configured(changed_recipe, "split-weights").coarse == configured(recipe, "split-weights").coarse


def test_what_belongs_to_the_method_alone_is_kept_from_the_rungs(recipe, monkeypatch):
    monkeypatch.setattr(configurations, "METHOD", {"optimize.losses.mask": 0.25, "optimize.absent.key": 1.0})
    assert configured(recipe, "ours").bake.optimize.losses.mask == recipe.bake.optimize.losses.mask != 0.25
    for name in CONFIGURATIONS[: CONFIGURATIONS.index("strict-routing") + 1]:
        assert all(getattr(configured(recipe, name), stage).optimize.losses.mask == 0.25 for stage in STAGES)


def test_unknown_configuration(recipe):
    with pytest.raises(StspbrError, match="split-losses"):
        configured(recipe, "splitted")


def test_parameters_are_counted_as_they_are_trained(recipe):
    import torch

    from stspbr.fields.materials import MaterialFields

    for name in CONFIGURATIONS:
        fields = configured(recipe, name).coarse.fields
        model = MaterialFields(fields, torch.tensor([[-1.0] * 3, [1.0] * 3]), torch.Generator().manual_seed(0))
        trained = sum(p.numel() for key, p in model.named_parameters() if "encoding" in key)
        assert trained == encoding_parameters(fields)
    counts = check_equal_parameters(recipe)
    assert max(counts.values()) / min(counts.values()) <= 1.02
    assert len(counts) == len(CONFIGURATIONS)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["appearance.levels=10", "reflectance.levels=6"],
        ["reflectance.finest_resolution=64"],
        ["appearance.log2_table_size=14"],
    ],
)
def test_joint_is_matched_whatever_a_and_b_are(overrides):
    fields = settings_for(FieldSettings, overrides)
    grid = matched_joint(fields)
    split = encoding_parameters(fields)
    joint = encoding_parameters(fields.model_copy(update={"mode": "joint", "joint": grid}))
    assert abs(joint / split - 1) <= 0.02
    assert grid.finest_resolution == fields.appearance.finest_resolution


def test_a_match_that_cannot_be_is_an_error():
    huge = HashGridSettings(levels=24, log2_table_size=22, base_resolution=16, finest_resolution=2048)
    small = HashGridSettings(levels=1, log2_table_size=10, base_resolution=16, finest_resolution=16)
    with pytest.raises(StspbrError, match="log2_table_size"):
        matched_joint(FieldSettings(appearance=small, reflectance=huge, joint=small))
