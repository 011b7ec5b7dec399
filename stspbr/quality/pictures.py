"""A page of a ladder's finished runs: each asset relit by a light that no run saw, beside the truth.

``python -m stspbr.quality.pictures runs/quality-assets --out page`` writes ``page.md``, ``assets.png`` (one view per
asset) and a PNG per asset (all views, and how far each picture is from the truth).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.artifacts import Artifact, ArtifactStore
from stspbr.errors import StspbrError
from stspbr.files import write_file
from stspbr.formats.images import read_stored
from stspbr.metrics.error_maps import heat
from stspbr.quality.configurations import CONFIGURATIONS, LENT
from stspbr.quality.ladder import LIGHT_MODES, TRACKS
from stspbr.quality.metrics import METRICS
from stspbr.quality.runner import RESULT
from stspbr.quality.suite import EVALUATION_ONLY
from stspbr.report.contact_sheet import contact_sheet
from stspbr.stages.evaluation_pictures import VIEW_ERROR_PEAK
from stspbr.stages.result_pictures import cut

TRUTH = "truth"
COLUMNS = ("ours", LENT, CONFIGURATIONS[0])
PAGE = "page.md"
_FIGURES = (
    "albedo_mae", "albedo_mae_scaled", "roughness_mae", "metallic_mae", "false_metal", "missed_metal", "normal_angle",
    "relit", "relit_scaled",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which runs of a ladder are shown.

    Attributes:
        columns: configurations, in their order; the truth follows them.
        objects: the objects, in their order; none: all, by name.
        view: number among the relit views of the one that stands for its object.
    """

    track: str = "path"
    light_mode: str = "learned"
    seed: int = 0
    columns: tuple[str, ...] = COLUMNS
    objects: tuple[str, ...] = ()
    view: int = 1


@dataclass(frozen=True)
class Relit:
    """One finished run that was relit.

    Attributes:
        values: of its record, by metric.
        views: ``(light, view)`` of each pair of pictures.
    """

    values: dict[str, float | None]
    evaluation: Artifact
    views: list[tuple[str, str]]

    def picture(self, number: int, what: str) -> np.ndarray:
        """``[H, W, 3]`` sRGB in [0, 1] over black: the ``"truth"`` or the ``"result"`` of a view."""
        light, view = self.views[number]
        pixels = read_stored(self.evaluation.file(f"relit/{light}_{view}_{what}.png"))
        return pixels.astype(np.float32) / np.iinfo(pixels.dtype).max


def find_runs(home: Path, choice: Choice) -> dict[str, dict[str, Relit]]:
    """The finished, relit runs in the ladder's folder ``home``, by object (and light) and configuration.

    Raises:
        StspbrError: there is none, or none of an object that is asked for.
    """
    found: dict[str, dict[str, Relit]] = {}
    for path in sorted((home / "runs").glob(f"*/{RESULT}")):
        record = json.loads(path.read_text(encoding="utf-8"))
        wanted = (choice.track, choice.light_mode, choice.seed, "done")
        if tuple(record.get(key) for key in ("track", "light_mode", "seed", "status")) != wanted:
            continue
        if record["configuration"] not in choice.columns or record["object"] in EVALUATION_ONLY:
            continue
        evaluation = ArtifactStore(path.parent).resolve("evaluate")
        lights = json.loads(evaluation.file("errors.json").read_text(encoding="utf-8")).get("relighting") or {}
        views = [(light, view["name"]) for light, errors in lights.items() for view in errors["per_view"]]
        if views:
            run = Relit(record["values"], evaluation, views)
            found.setdefault(record["object"], {})[record["configuration"]] = run
    what = f"{TRACKS[choice.track].label}, light {choice.light_mode}, seed {choice.seed}"
    absent = [name for name in choice.objects if name not in found]
    if absent or not found:
        raise StspbrError(f"{home}: no finished, relit run of {', '.join(absent) or 'any object'} ({what})")
    return {name: found[name] for name in choice.objects or sorted(found)}


def write_page(home: Path, folder: Path, choice: Choice) -> list[Path]:
    """Write the page's files into ``folder`` and return their paths; ``page.md`` comes last."""
    runs = find_runs(home, choice)
    columns = [*choice.columns, TRUTH]
    written, rows = [], []
    for name, by_configuration in runs.items():
        first = next(iter(by_configuration.values()))
        pictures = [_row(by_configuration, choice.columns, number) for number in range(len(first.views))]
        rows.append(pictures[min(choice.view, len(pictures) - 1)])
        sheet: list[list[np.ndarray | None]] = []
        labels = []
        for (_, view), row in zip(first.views, pictures, strict=True):
            sheet += [row, [_difference(picture, row[-1]) for picture in row[:-1]]]
            labels += [view, f"off, white = {VIEW_ERROR_PEAK:g}"]
        written.append(contact_sheet(sheet, labels, columns, folder / f"{name}.png"))
    written.append(contact_sheet(rows, list(runs), columns, folder / "assets.png", cell=_side(rows)))
    write_file(folder / PAGE, _page(runs, choice).encode())
    return [*written, folder / PAGE]


def _row(runs: dict[str, Relit], columns: Sequence[str], number: int) -> list[np.ndarray | None]:
    """A view's picture per configuration (None: no run) and the truth, cut to the object."""
    truth = next(iter(runs.values())).picture(number, TRUTH)
    shown = [runs[name].picture(number, "result") if name in runs else None for name in columns]
    cover = np.logical_or.reduce([(picture > 0).any(axis=2) for picture in (*shown, truth) if picture is not None])
    cover = cover[..., None].astype(np.float32)
    return [None if picture is None else cut([picture], cover)[0] for picture in (*shown, truth)]


def _difference(picture: np.ndarray | None, truth: np.ndarray | None) -> np.ndarray | None:
    if picture is None or truth is None:
        return None
    return heat(np.abs(picture - truth).mean(axis=-1), VIEW_ERROR_PEAK)


def _side(rows: Sequence[Sequence[np.ndarray | None]]) -> int:
    """The longer side of the smallest object's pictures: no picture is enlarged much, large ones are reduced."""
    return min(max(picture.shape[:2]) for row in rows for picture in row if picture is not None)


def _page(runs: dict[str, dict[str, Relit]], choice: Choice) -> str:
    """The page in Markdown: the sheet of all objects; per object its table and its sheet."""
    metrics = [metric for metric in METRICS if metric.name in _FIGURES]
    lights = sorted({light for by_name in runs.values() for run in by_name.values() for light, _ in run.views})
    views = TRACKS[choice.track].label
    lines = [
        f"# Relit by {', '.join(lights)}",
        "",
        f"Views for training: {views}; their light was {choice.light_mode}. All pictures are path-traced, under a "
        f"light that no run saw. Seed {choice.seed}.",
        "",
        "![All objects](assets.png)",
    ]
    for name, by_configuration in runs.items():
        lines += ["", f"## {name}", "", "| | " + " | ".join(metric.label for metric in metrics) + " |"]
        lines.append("|" + "---|" * (len(metrics) + 1))
        for configuration in choice.columns:
            values: dict[str, Any] = by_configuration[configuration].values if configuration in by_configuration else {}
            cells = [_number(values.get(metric.name), metric.digits) for metric in metrics]
            lines.append(f"| {configuration} | " + " | ".join(cells) + " |")
        lines += ["", f"![{name}, relit, and the differences from the truth]({name}.png)"]
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 0, or 2 for bad input."""
    default = Choice()
    parser = argparse.ArgumentParser(
        prog="python -m stspbr.quality.pictures", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("home", type=Path, help="folder of a ladder, e.g. runs/quality-assets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page")
    parser.add_argument("--track", choices=list(TRACKS), default=default.track)
    parser.add_argument("--light", choices=LIGHT_MODES, default=default.light_mode, help="in training")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--configurations", default=",".join(default.columns), metavar="A,B")
    parser.add_argument("--objects", default="", metavar="A,B", help="these, in this order; default: all")
    parser.add_argument(
        "--view", type=int, default=default.view, help="the relit view that stands for its object, from 0"
    )
    options = parser.parse_args(arguments)
    columns, objects = (tuple(filter(None, text.split(","))) for text in (options.configurations, options.objects))
    try:
        unknown = [name for name in columns if name not in CONFIGURATIONS]
        if unknown or not columns or options.view < 0:
            raise StspbrError(
                f"--view {options.view}: give at least 0" if options.view < 0 else
                f"--configurations {options.configurations}: choose from {', '.join(CONFIGURATIONS)}"
            )  # fmt: skip
        choice = Choice(options.track, options.light, options.seed, columns, objects, options.view)
        for path in write_page(options.home, options.out, choice):
            sys.stdout.write(f"wrote {path}\n")
    except StspbrError as error:
        sys.stderr.write(f"stspbr: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
