"""The part of a tab that shows how a run goes: its losses and its newest preview picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stspbr.report.curves import Curve
from stspbr.view.viewer import Viewer

if TYPE_CHECKING:
    import viser

_COLOURS = ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f",
            "#bab0ac", "#86bcb6", "#d37295")  # fmt: skip
_NO_LOG = "no log yet"
_TILES = ("target", "result", "albedo", "roughness", "metallic", "normal")


class ProgressPanel:
    """Charts and preview in the controls of one tab."""

    def __init__(self, gui: viser.GuiApi, viewer: Viewer) -> None:
        self._gui, self._viewer = gui, viewer
        self._stage = gui.add_dropdown("stage", (_NO_LOG,))
        self._log = gui.add_checkbox("log scale", True)
        self._chart: Any = None
        self._holder = gui.add_folder("Losses")
        self._preview_folder = gui.add_folder("Newest preview")
        self._preview: Any = None
        self._drawn: tuple = ()
        self._shown: Path | None = None
        self._followed = ""
        self._stage.on_update(lambda _: self.refresh())
        self._log.on_update(lambda _: self.refresh())

    def refresh(self) -> None:
        """Bring chart and preview up to date."""
        stages = self._viewer.losses.stages() or [_NO_LOG]
        if tuple(self._stage.options) != tuple(stages):
            self._stage.options = tuple(stages)
        if stages[-1] != self._followed:  # a stage that begins comes to the front, once
            self._followed = stages[-1]
            self._stage.value = stages[-1]
        curves = self._viewer.losses.of(self._stage.value)
        self._draw(curves)
        self._show_preview()

    def _draw(self, curves: dict[str, Curve]) -> None:
        key = (self._stage.value, self._log.value, *((name, len(c.steps), c.steps[-1]) for name, c in curves.items()))
        if key == self._drawn:
            return
        self._drawn = key
        if self._chart is not None:
            self._chart.remove()
            self._chart = None
        if not curves:
            return
        with self._holder:
            self._chart = self._gui.add_uplot(
                data=columns(curves, logarithmic=self._log.value),
                title="log10 of the losses" if self._log.value else "losses",
                series=(
                    {"label": "step"},
                    *(
                        {"label": name, "stroke": _COLOURS[k % len(_COLOURS)], "width": 1.5, "spanGaps": True,
                         "points": {"show": len(curves[name].steps) == 1}}
                        for k, name in enumerate(curves)
                    ),
                ),
                scales={"x": {"time": False}},
                height=260,
            )  # fmt: skip

    def _show_preview(self) -> None:
        activity = self._viewer.state.activity
        path = None if activity is None else activity.preview
        if path is None or path == self._shown:
            return
        image = read_preview(path)
        if image is None:
            return
        self._shown = path
        if self._preview is None:
            with self._preview_folder:
                self._preview = self._gui.add_image(image, label=path.stem[-6:])
        else:
            self._preview.image = image


def columns(curves: dict[str, Curve], logarithmic: bool) -> tuple[np.ndarray, ...]:
    """The steps of all curves, and each curve's values at them; NaN where it has none, or no logarithm."""
    steps = np.unique(np.concatenate([np.asarray(curve.steps, np.float64) for curve in curves.values()]))
    out = [steps]
    for curve in curves.values():
        values = np.full(len(steps), np.nan)
        values[np.searchsorted(steps, curve.steps)] = curve.values
        out.append(np.log10(np.where(values > 0, values, np.nan)) if logarithmic else values)
    return tuple(out)


def read_preview(path: Path) -> np.ndarray | None:
    """A preview picture, its row of six as two rows of three; None if it cannot be read (any more)."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            image = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError):
        return None
    side = image.shape[1] // len(_TILES)
    if side * len(_TILES) != image.shape[1] or not path.name.startswith("_".join(_TILES)):
        return image
    return np.concatenate([image[:, : 3 * side], image[:, 3 * side :]], axis=0)
