"""Settings, overrides and recipes."""

from __future__ import annotations

import re

import pytest

from stspbr.errors import StspbrError
from stspbr.settings import (
    CoarseSettings,
    Recipe,
    find_recipe,
    load_any_recipe,
    load_recipe,
    settings_for,
    shipped_recipes,
)


def test_overrides_reach_nested_settings():
    settings = settings_for(CoarseSettings, ["optimize.iterations=7", "fields.mode=joint", "geometry.margin=0.2"])
    assert settings.optimize.iterations == 7
    assert settings.fields.mode == "joint"
    assert settings.geometry.margin == 0.2
    assert settings.optimize.rates == CoarseSettings().optimize.rates


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimize.iteration=5", "optimize.iteration"),
        ("optimize.iterations=0", "greater than or equal to 1"),
        ("fields.mode=both", "fields.mode"),
        ("iterations", "key=value"),
        ("seedless.x=1", "seedless"),
    ],
)
def test_bad_overrides_name_the_key(override, message):
    with pytest.raises(StspbrError, match=message):
        settings_for(CoarseSettings, [override])


def test_recipe_merges_with_defaults(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "r"\n[capture]\nkind = "mesh"\nasset = "a.glb"\nlight = "l.hdr"\n[coarse.optimize]\niterations = 9\n'
    )
    recipe = load_recipe(path, ["specialize.optimize.batch=2"])
    assert isinstance(recipe, Recipe)
    assert recipe.coarse.optimize.iterations == 9
    assert recipe.coarse.optimize.batch == CoarseSettings().optimize.batch
    assert recipe.specialize.optimize.batch == 2


@pytest.mark.parametrize(
    "text", ["name = ", 'name = "x"\n', 'name="x"\n[capture]\nkind="mesh"\nasset="a"\nlight="l"\nview=3\n']
)
def test_bad_recipes_are_one_line(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(StspbrError) as caught:
        load_recipe(path, [])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_and_is_introduced(name, monkeypatch, tmp_path):
    monkeypatch.setenv("STSPBR_ASSETS", str(tmp_path))
    assert load_any_recipe(name).name == name
    assert re.match(r"# \w.*\.", find_recipe(name).read_text(encoding="utf-8"))


def test_a_recipe_of_scenes_is_not_one_of_an_asset():
    with pytest.raises(StspbrError, match="stspbr run scenes-mini"):
        load_recipe("scenes-mini")
    assert load_any_recipe("scenes-mini", ["batches=3"]).batches == 3
    with pytest.raises(StspbrError, match="did you mean batches"):
        load_any_recipe("scenes-mini", ["batchs=3"])


def test_a_shipped_recipe_goes_by_its_name_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("demo", ["coarse.optimize.iterations=3"]).coarse.optimize.iterations == 3
    (tmp_path / "mine.toml").write_text(find_recipe("demo").read_text(encoding="utf-8").replace('"demo"', '"mine"', 1))
    assert load_recipe("mine.toml").name == load_recipe(tmp_path / "mine.toml").name == "mine"


@pytest.mark.parametrize(
    ("recipe", "near"),
    [("dmeo", "demo"), ("pipelines/demo.toml", "demo"), ("spot-smal", "spot-small"), ("nothing like it", None)],
)
def test_a_wrong_name_is_one_line_that_names_the_nearest(recipe, near, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StspbrError) as caught:
        load_recipe(recipe)
    hint = f"; did you mean {near}?" if near else ""
    assert str(caught.value) == f"{recipe}: no such file or recipe; `stspbr recipes` lists the recipes{hint}"


def test_a_folder_is_not_a_recipe(tmp_path):
    with pytest.raises(StspbrError, match="cannot read the recipe"):
        load_recipe(tmp_path)
