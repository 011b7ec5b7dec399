"""Models and lights that a page embeds for its 3D view."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from stspbr.errors import StspbrError
from stspbr.report.gallery import Light
from stspbr.report.glb_copy import page_copy
from stspbr.report.pictures import LIGHT_HEIGHT, light_base64
from stspbr.report.records import RunRecord

MODEL_BYTES = 6_000_000


@dataclass(frozen=True)
class Model:
    """One 3D view: ids of the data blocks (empty: none), and what was changed in the page's copy."""

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
    """Put a run's GLB and light into ``embedded`` (id to base64) and say where they are."""
    path = record.file("bake", "asset.glb")
    if path is None:
        return Model(record.name, "", "", "")
    try:
        data, note = page_copy(path.read_bytes(), limit)
    except StspbrError as error:
        record.notices.append(str(error))
        return Model(record.name, "", "", "")
    embedded[f"glb-{number}"] = base64.b64encode(data).decode("ascii")
    if light is None:
        return Model(record.name, f"glb-{number}", "", note)
    embedded[f"light-{number}"] = light_base64(light.recovered, light_height)
    return Model(record.name, f"glb-{number}", f"light-{number}", note)
