"""Scenes attribute: which pixels of the observations a picture, a channel or a partition comes from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stspbr.errors import StspbrError
from stspbr.formats.images import write_png8
from stspbr.neural.model import Views, averaged
from stspbr.optimize.attribution import Attribution, completeness, every_pixel, of_picture, of_vector, pixels
from stspbr.report.contact_sheet import contact_sheet
from stspbr.scenes.description import read_scene
from stspbr.stages.explain_pictures import heat_map
from stspbr.stages.scenes_source import Source, check_factor
from stspbr.stages.session import Session
from stspbr.stages.state import save_json

_CELL = 192
_RANGES = ("lighting", "geometry", "materials", "empty")


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        scene: number of a test scene, a scene's JSON, or the ``settings.json`` of an earlier answer.
        pixel: ``X,Y``; patch: pixels a side around it; mean: all pixels; latent: a channel; partition: its name.
        signed, integrated: see ``optimize.attribution``.
    """

    scene: str = "0"
    pixel: str | None = None
    patch: int = 1
    mean: bool = False
    latent: int | None = None
    partition: str | None = None
    signed: bool = False
    integrated: int = 0


@dataclass
class Answer:
    """What was found: shares by observation, buffer and partition."""

    what: str
    observations: list[float]
    passes: dict[str, float]
    partitions: dict[str, dict[str, float]]
    completeness: float | None
    folder: Path

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        return asdict(self) | {"folder": str(self.folder)}

    def lines(self) -> list[str]:
        """For people."""
        views = ", ".join(f"{k} {100 * share:.0f} %" for k, share in enumerate(self.observations))
        buffers = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.passes.items())
        out = [f"{self.what} comes from", f"  observations: {views}", f"  buffers: {buffers}"]
        if self.partitions:
            shown = ", ".join(
                f"{name} {100 * one['share']:.0f} % ({one['per_channel']:.1f}× a channel's mean)"
                for name, one in self.partitions.items()
            )
            out.append(f"  partitions: {shown}")
        if self.completeness is not None:
            out.append(f"  integrated gradients sum up to the change but for {100 * self.completeness:.2f} %")
        return [*out, str(self.folder)]


def attribute_scene(session: Session, question: Question, out: Path | None = None) -> Answer:
    """Answer a question about one scene; write pictures, arrays and ``settings.json``, which asks it again.

    Raises:
        StspbrError: no model, no such scene, pixel, channel or partition, or not exactly one target.
    """
    question = _from_settings(question)
    targets = [question.pixel is not None, question.mean, question.latent is not None, question.partition is not None]
    if sum(targets) != 1:
        raise StspbrError("give one of --pixel X,Y, --mean, --latent K and --partition NAME")
    source = Source.open(session)
    views = _views(source, question.scene)
    observations, query = views.chosen(slice(0, -1)), views.chosen(slice(-1, None))
    found, what = _attribution(source, question, observations, query)
    folder = out or session.run / "attribution" / what.replace(" ", "-").replace(",", "-")
    write_attribution(folder, source, found, observations, query)
    save_json(asdict(question) | {"model": source.artifact.version}, folder / "settings.json")
    size = {name: values.abs().double().sum() for name, values in found.observations.items()}
    total = max(float(sum(size.values())), 1e-30)
    each = torch.stack([values.abs().double().sum(dim=(1, 2, 3)) for values in found.observations.values()]).sum(dim=0)
    return Answer(
        what,
        (each / total).tolist(),
        {name: float(value) / total for name, value in size.items()},
        found.partitions(source.model.every_partition[0].ranges()) if source.config.latent_separation else {},
        completeness(found) if question.integrated else None,
        folder,
    )


def write_attribution(folder: Path, source: Source, found: Attribution, observations: Views, query: Views) -> None:
    """``representation/`` (observations), ``generator/`` (buffers of the query), ``R.npz`` and ``attribution.png``.

    Heat maps are roots of the squares summed over channels; all observations share a scale.
    """
    for part in ("representation", "generator"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    photos = [np.moveaxis(one, 0, -1) for one in _beauty(observations, found)]
    for suffix, maps in (("", found.observations), ("_grad", found.gradients)):
        for name, values in maps.items():
            array = values.cpu().numpy()
            np.savez(folder / "representation" / f"{name}{suffix}.npz", array)
            size = np.sqrt(np.square(array).sum(axis=1))
            heats = [heat_map(photo, one, float(size.max())) for photo, one in zip(photos, size, strict=True)]
            write_png8(folder / "representation" / f"{name}{suffix}.png", np.concatenate(heats, axis=1), srgb=False)
    for name, values in found.query.items():
        array = values.cpu().numpy()
        np.savez(folder / "generator" / f"{name}.npz", array)
        size = np.sqrt(np.square(array).sum(axis=0))
        grey = np.zeros((*size.shape, 3))
        write_png8(folder / "generator" / f"{name}.png", heat_map(grey, size, float(size.max())), srgb=False)
    ranges = dict(zip(_RANGES, map(np.array, source.model.every_partition[0].ranges()), strict=False))
    arrays: dict[str, Any] = {
        "representation": found.representation.cpu().numpy(),
        "attribution": found.vector.cpu().numpy(),
        "gradient": found.vector_gradient.cpu().numpy(),
        **ranges,
    }
    np.savez(folder / "R.npz", **arrays)
    whole = found.maps.cpu().numpy()
    heats = [heat_map(photo, one, float(whole.max())) for photo, one in zip(photos, whole, strict=True)]
    with torch.no_grad():
        made = torch.expm1(source.model.picture(source.model.represent(observations), query))[0]
    truth = averaged(query.buffers["beauty"][0, 0], made.shape[-1]) if "beauty" in query.buffers else made
    side = [np.moveaxis(_encoded(one), 0, -1) for one in (made, truth)]
    rows = [[*(_encoded(photo) for photo in photos), side[0]], [*heats, side[1]]]
    columns = [*(f"observation {k}" for k in range(len(photos))), "query"]
    contact_sheet(rows, ["pictures; prediction", "attribution; truth"], columns, folder / "attribution.png", _CELL)


def _attribution(source: Source, question: Question, observations: Views, query: Views) -> tuple[Attribution, str]:
    how = (question.signed, question.integrated)
    model = source.model
    if question.pixel is not None:
        try:
            x, y = (int(part) for part in question.pixel.split(","))
        except ValueError:
            raise StspbrError(f"--pixel {question.pixel}: give two whole numbers, e.g. 10,20") from None
        chosen = pixels(model.output_side, x, y, question.patch)
        return of_picture(model, observations, query, chosen, *how), f"pixel {x},{y}"
    if question.mean:
        return of_picture(model, observations, query, every_pixel, *how), "mean"
    if question.latent is not None:
        size = source.config.model.representations[0].representation_dim
        if question.latent >= size:
            raise StspbrError(f"--latent {question.latent}: the vector has {size} channels, counted from 0")
        return of_vector(model, observations, [question.latent], *how), f"latent {question.latent}"
    factor = check_factor(str(question.partition))
    first, end = model.every_partition[0].ranges()[factor]
    if end == first:
        raise StspbrError(f"--partition {question.partition}: it has no channels in this model")
    return of_vector(model, observations, range(first, end), *how), f"partition {question.partition}"


def _views(source: Source, scene: str) -> Views:
    if scene.isdecimal():
        return source.views(int(scene))
    described, cameras = read_scene(Path(scene))
    if len(cameras) < 2:
        raise StspbrError(f"{scene}: a scene needs at least two views: observations and the query")
    from stspbr.render.scene_tracer import SceneTracer

    return source.rendered(SceneTracer(), described, cameras, source.config.samples_per_pixel, 0)


def _from_settings(question: Question) -> Question:
    """The question of an earlier answer, if its ``settings.json`` is given as the scene."""
    path = Path(question.scene)
    if path.name != "settings.json":
        return question
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("model", None)
        return Question(**values)
    except OSError as error:
        raise StspbrError(f"{path}: cannot read the settings: {error.strerror}") from None
    except (json.JSONDecodeError, TypeError, AttributeError):
        raise StspbrError(f"{path}: not the settings of an attribution") from None


def _beauty(observations: Views, found: Attribution) -> np.ndarray:
    side = found.maps.shape[-1]
    if "beauty" not in observations.buffers:
        return np.zeros((len(found.maps), 3, side, side), np.float32)
    return averaged(observations.buffers["beauty"][0], side).cpu().numpy()


def _encoded(picture: Any) -> np.ndarray:
    from stspbr.colour import linear_to_srgb

    return linear_to_srgb(np.clip(np.asarray(picture.cpu() if hasattr(picture, "cpu") else picture), 0.0, 1.0))
