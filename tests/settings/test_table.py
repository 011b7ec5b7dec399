"""Every setting is described and listed: the table behind `stspbr settings`, the commands and the docs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from stspbr.datasets.captures import EXPORT_KINDS, KINDS
from stspbr.datasets.frame_files import IMAGE_FORMATS
from stspbr.errors import StspbrError
from stspbr.optimize.losses import LOSSES
from stspbr.settings import CaptureFolderSettings, ExportDatasetSettings, LossSettings, Settings
from stspbr.settings.table import chosen_stages, markdown, rows, stages


def models(root: type = Settings) -> Iterator[type[Settings]]:
    for model in root.__subclasses__():
        yield model
        yield from models(model)


@pytest.mark.parametrize("model", [model for model in models() if model.__module__.startswith("stspbr.settings")])
def test_every_field_has_a_description(model):
    assert len(list(models())) > 15
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_rows_hold_types_ranges_and_the_stage_s_own_defaults():
    found = {(stage, row.key): row for stage in ("coarse", "bake", "capture.mesh") for row in rows(stages()[stage])}
    iterations = found["coarse", "optimize.iterations"]
    assert (iterations.type, iterations.default, iterations.range) == ("integer", "500", ">= 1")
    assert found["bake", "optimize.iterations"].default == "250"
    assert found["coarse", "fields.reflectance.levels"].range == ">= 1, <= 24"
    assert found["coarse", "optimize.rates.appearance.schedule"].default == "coarse.A"
    assert found["capture.mesh", "asset"].default == "required" and found["capture.mesh", "textures"].default == "none"
    assert found["capture.mesh", "renderer"].type == "raster|mitsuba"
    assert found["coarse", "transport.ground"].type == "auto|none|number"
    assert found["capture.mesh", "elevation"].type == "N,N" and found["bake", "texture_bits"].type == "8|16"


def test_stages_are_chosen_by_name_or_group():
    assert list(chosen_stages("coarse")) == ["coarse"] and list(chosen_stages("unpack-orm")) == ["unpack_orm"]
    assert set(chosen_stages("capture")) == {
        f"capture.{kind}" for kind in (*KINDS, "duplicates", "mesh", "photos", "usd")
    }
    assert list(chosen_stages().values()) == list(dict.fromkeys(stages().values()))
    with pytest.raises(StspbrError, match=r"did you mean capture\.photos\?"):
        chosen_stages("capture.photo")


def test_markdown_has_a_row_per_setting():
    text = markdown()
    for model in chosen_stages().values():
        assert all(f"| `{row.key}` | " in text for row in rows(model))
    lines = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {6}
    assert markdown("coarse").startswith("### `coarse`\n\nLearn geometry and colour")


def test_choices_are_those_that_the_code_knows():
    assert get_args(ExportDatasetSettings.model_fields["to"].annotation) == EXPORT_KINDS
    assert set(get_args(ExportDatasetSettings.model_fields["image_format"].annotation)) == set(IMAGE_FORMATS)
    assert set(get_args(CaptureFolderSettings.model_fields["kind"].annotation)) == set(KINDS)
    description = LossSettings.model_fields["appearance"].description
    assert ", ".join(LOSSES) in description
