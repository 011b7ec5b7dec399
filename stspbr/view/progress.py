"""The part of a tab that shows how a run goes: its losses and its newest preview picture."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stspbr.report.curves import Curve
from stspbr.view.run_state import step_of
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
        self._charts: dict[tuple, Any] = {}
        self._terms: dict[str, int] = {}
        self._holder = gui.add_folder("Losses")
        self._preview_folder = gui.add_folder("Newest preview")
        self._preview: Any = None
        self._drawn: tuple = ()
        self._shown: Path | None = None
        self._followed = ""
        self._lock = threading.RLock()
        self._stage.on_update(lambda _: self.refresh())
        self._log.on_update(lambda _: self.refresh())

    def refresh(self) -> None:
        """Bring charts and preview up to date."""
        with self._lock:
            stages = self._viewer.losses.stages() or [_NO_LOG]
            if tuple(self._stage.options) != tuple(stages):
                self._stage.options = tuple(stages)
            if stages[-1] != self._followed:  # a stage that begins comes to the front, once
                self._followed = stages[-1]
                self._stage.value = stages[-1]
            self._draw(self._viewer.losses.of(self._stage.value))
            self._show_preview()

    def _draw(self, curves: dict[str, Curve]) -> None:
        key = (self._stage.value, self._log.value, *((name, len(c.steps), c.steps[-1]) for name, c in curves.items()))
        if key == self._drawn:
            return
        self._drawn = key
        wanted = {(self._stage.value, self._log.value, *names): data
                  for names, data in charts(curves, self._log.value).items()}  # fmt: skip
        for name in [name for name in self._charts if name not in wanted]:
            self._charts.pop(name).remove()
        for name, data in wanted.items():
            if name in self._charts:
                self._charts[name].data = data
            else:
                self._charts[name] = self._new_chart(name[2:], data)

    def _new_chart(self, names: tuple[str, ...], data: tuple[np.ndarray, ...]) -> Any:
        lines = ({"label": name, "stroke": self._colour(name), "width": 1.5} for name in names)
        with self._holder:
            return self._gui.add_uplot(
                data=data,
                title="log10 of the losses" if self._log.value else "losses",
                series=({"label": "step"}, *lines),
                scales={"x": {"time": False}},
                height=260,
            )

    def _colour(self, name: str) -> str:
        """A term keeps its colour in all charts of the tab."""
        return _COLOURS[self._terms.setdefault(name, len(self._terms)) % len(_COLOURS)]

    def _show_preview(self) -> None:
        activity = self._viewer.state.activity
        path = None if activity is None else activity.preview
        if activity is None or path is None or path == self._shown:
            return
        image = read_preview(path)
        if image is None:
            return
        self._shown = path
        label = f"{activity.stage}, step {step_of(path)}"
        if self._preview is None:
            with self._preview_folder:
                self._preview = self._gui.add_image(image, label=label)
        else:
            self._preview.image, self._preview.label = image, label


def charts(curves: dict[str, Curve], logarithmic: bool) -> dict[tuple[str, ...], tuple[np.ndarray, ...]]:
    """The curves that have the same steps, by their names: these steps, then the values of each.

    A chart cannot have gaps. With ``logarithmic`` values that have no logarithm are drawn at the curve's smallest that
    has one, and a curve without any is left out.
    """
    groups: dict[tuple[int, ...], dict[str, np.ndarray]] = {}
    for name, curve in curves.items():
        values = np.asarray(curve.values, np.float64)
        if logarithmic:
            if not (values > 0).any():
                continue
            values = np.log10(np.maximum(values, values[values > 0].min()))
        groups.setdefault(tuple(curve.steps), {})[name] = values
    return {tuple(own): (np.asarray(steps, np.float64), *own.values()) for steps, own in groups.items()}


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
