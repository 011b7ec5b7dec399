"""Models and lights that a page embeds for its 3D view."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

from stspbr.errors import StspbrError
from stspbr.report.gallery import Light
from stspbr.report.glb_copy import page_copy
from stspbr.report.pictures import LIGHT_HEIGHT, light_base64
from stspbr.report.records import RunRecord

MODEL_BYTES = 6_000_000


@dataclass(frozen=True)
class Model:
    """One 3D view: ids of the data blocks (empty: none), and a note on changes in the page's copy."""

    title: str
    glb: str
    light: str
    note: str


def embed_model(
    record: RunRecord,
    light: Light | None,
    embedded: dict[str, str],
    *,
    number: int = 0,
    limit: int = MODEL_BYTES,
    light_height: int = LIGHT_HEIGHT,
) -> Model:
    """Put a run's GLB and light into ``embedded`` (id to base64) and return their ids."""
    model, path = Model(record.name, "", "", ""), record.file(record.asset_stage, "asset.glb")
    if path is None:
        return model
    try:
        data, note = page_copy(path.read_bytes(), limit)
    except StspbrError as error:
        record.notices.append(str(error))
        return model
    model = replace(model, glb=f"glb-{number}", note=note)
    embedded[model.glb] = base64.b64encode(data).decode("ascii")
    if light is not None:
        model = replace(model, light=f"light-{number}")
        embedded[model.light] = light_base64(light.recovered, light_height)
    return model
