"""Scenes render: pictures of composed scenes beside their path-traced truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stspbr.formats.images import write_exr
from stspbr.neural.model import Views, averaged
from stspbr.optimize.scene_figures import display, psnr_of_each
from stspbr.render.scene_tracer import SceneTracer
from stspbr.report.contact_sheet import contact_sheet
from stspbr.scenes.description import SceneCamera, composed
from stspbr.stages.scenes_source import Source
from stspbr.stages.session import Session
from stspbr.stages.state import save_json

_COLUMNS = ["light of", "shapes of", "materials of", "composed", "path traced"]
_CELL = 160


@dataclass
class Composition:
    """Rows of composed scenes: the numbers of the scenes, and the PSNR of the prediction in dB."""

    rows: list[dict[str, Any]]
    folder: Path
    files: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {"rows": self.rows, "folder": str(self.folder), "files": self.files}

    def lines(self) -> list[str]:
        """For people."""
        out = []
        for row in self.rows:
            light, geometry, material = row["scenes"]
            out.append(
                f"light of {light}, shapes of {geometry}, materials of {material}: {row['psnr']:.1f} dB "
                f"(without the swap {row['psnr_without']:.1f} dB)"
            )
        return [*out, str(self.folder)]


def compose(
    session: Session,
    scenes: tuple[int, int, int],
    rows: int = 1,
    spp: int = 256,
    animate: int = 0,
    out: Path | None = None,
) -> Composition:
    """Write ``composition.png`` and per row the prediction and the truth as EXR.

    The shapes' scene gives the view and, path-traced, its buffers; the vector is put together of the three scenes'.

    Args:
        scenes: numbers of test scenes: whose light, shapes and materials; rows: how many, each of the next three.
        spp: paths per pixel of the truth; animate: frames of a film from the view to the scene's first, 0: none.
        out: the folder; default ``RUN/composition``.

    Raises:
        StspbrError: there is no model or no such scene, or Mitsuba is missing.
    """
    source, tracer = Source.open(session), SceneTracer()
    folder = out or session.run / "composition"
    folder.mkdir(parents=True, exist_ok=True)
    cells: list[list[np.ndarray | None]] = []
    facts: list[dict[str, Any]] = []
    files = ["composition.png"]
    for row in range(rows):
        chosen = [(number + 3 * row) % source.count for number in scenes] if row else list(scenes)
        described = [source.scene(number) for number in chosen]
        whole = composed(*(scene for scene, _ in described))
        seen = [source.views(number) for number in chosen]
        vectors = source.swap([source.vectors(views) for views in seen])
        cameras = described[1][1]
        query = source.rendered(tracer, whole, cameras[-1:], spp, 1_000 + row)
        made, truth = _picture(source, vectors, query)
        plain, _ = _picture(source, source.vectors(seen[1]), query)
        facts.append({
            "scenes": chosen,
            "psnr": float(psnr_of_each(truth, made)[0]),
            "psnr_without": float(psnr_of_each(truth, plain)[0]),
        })  # fmt: skip
        pictures = [views.buffers["beauty"][:, 0] for views in seen] + [made, truth]
        cells.append([_shown(picture) for picture in pictures])
        for name, picture in (("predicted", made), ("truth", truth)):
            files.append(f"{name}{row}.exr")
            write_exr(folder / files[-1], picture[0].permute(1, 2, 0).cpu().numpy())
        if animate and row == 0:
            files.append(_film(source, tracer, whole, vectors, cameras, animate, folder))
    labels = [f"{one['scenes'][0]}, {one['scenes'][1]}, {one['scenes'][2]}: {one['psnr']:.1f} dB" for one in facts]
    contact_sheet(cells, labels, _COLUMNS, folder / "composition.png", _CELL)
    save_json({"rows": facts, "model": source.artifact.version}, folder / "composition.json")
    return Composition(facts, folder, files)


def on_the_way(cameras: Sequence[SceneCamera], count: int) -> list[SceneCamera]:
    """Cameras at equal steps along the straight ways between a scene's views."""
    stops = np.linspace(0.0, len(cameras) - 1, count)
    out = []
    for stop in stops:
        first = min(int(stop), len(cameras) - 2) if len(cameras) > 1 else 0
        a, b = cameras[first], cameras[min(first + 1, len(cameras) - 1)]
        t = float(stop - first)
        between = [
            tuple(float(v) for v in (1 - t) * np.array(x) + t * np.array(y))
            for x, y in ((a.position, b.position), (a.lookat, b.lookat))
        ]
        out.append(a.model_copy(update={"position": between[0], "lookat": between[1]}))
    return out


def _film(source: Source, tracer: Any, scene: Any, vectors: Any, cameras: Any, count: int, folder: Path) -> str:
    """The prediction on the camera's way; only the buffers are traced."""
    from stspbr.view.film import write_film

    passes = [name for name in source.config.passes if name != "beauty"] or ["normal"]
    frames = []
    for number, camera in enumerate(on_the_way(cameras, count)):
        query = source.rendered(tracer, scene, [camera], 16, number, passes)
        with torch.no_grad():
            picture = torch.expm1(source.model.picture(vectors, query))
        large = _shown(picture).repeat(4, axis=0).repeat(4, axis=1)
        frames.append(np.round(255 * large).astype(np.uint8))
    write_film(folder / "composition.webp", iter(frames), 12.0)
    return "composition.webp"


@torch.no_grad()
def _picture(source: Source, vectors: Any, query: Views) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.expm1(source.model.picture(vectors, query))
    return made, averaged(query.buffers["beauty"][:, 0], made.shape[-1])


def _shown(picture: torch.Tensor) -> np.ndarray:
    return np.moveaxis(display(picture)[0], 0, -1)
