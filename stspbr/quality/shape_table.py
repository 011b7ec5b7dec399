"""The figures of :mod:`stspbr.quality.shapes` as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

BASE = "dmtet"
"""The lattice that the others are compared with."""
PACES = {"steps": "Equal steps", "time": "Equal CPU time"}
HIDDEN = 0.98
"""If cameras see less of a reference's area, its seen surface has columns of its own."""

_NAMES = {
    "dmtet-cube": "DMTet, cube",
    "dmtet": "DMTet, box",
    "dmtet-band": "DMTet, band",
    "flexicubes": "FlexiCubes, box",
}
_FIGURES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("chamfer", "Chamfer", lambda v: f"{1e4 * v:.1f}"),
    ("f_score_0.5%", "F 0.5 %", lambda v: f"{v:.3f}"),
    ("normal_angle", "normals", lambda v: f"{v:.1f}°"),
    ("crease_angle", "beside edges", lambda v: f"{v:.1f}°"),
    ("slivers", "slivers", lambda v: f"{100 * v:.1f} %"),
    ("self_intersections", "self-intersections", lambda v: f"{v:.0f}"),
    ("boundary_edges", "holes", lambda v: f"{v:.0f}"),
    ("faces", "triangles", lambda v: f"{v:.0f}"),
)
_SEEN: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("seen_chamfer", "seen Chamfer", lambda v: f"{1e4 * v:.1f}"),
    ("seen_f_score_0.5%", "seen F 0.5 %", lambda v: f"{v:.3f}"),
)


def markdown(records: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """A table for equal steps and one for equal CPU time; values are means over the seeds.

    Chamfer distances are in ten thousandths of the reference's diagonal; "beside edges" is the median of
    ``metrics.creases``.
    """
    lines = ["# Shapes", ""]
    lines += [f"- {key}: {_listed(value)}" for key, value in facts.items() if value not in (None, [])]
    lines += ["- Chamfer in ten thousandths of the diagonal; parts and genus, in brackets those of the reference", ""]
    for pace, title in PACES.items():
        rows = [row for row in averaged(records) if row["pace"] == pace]
        if rows:
            lines += [f"## {title}", "", *_table(rows), ""]
    failed = [f"- failed: {r['job']}, {r['error']}" for r in records if r["status"] != "done"]
    return "\n".join([*lines, *failed]).rstrip() + "\n"


def averaged(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per object, lattice, pace and surface: means over the seeds; parts and genus as sorted texts.

    The rows of the base, which takes its own time, stand in both paces.
    """
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for record in records:
        if record["status"] != "done":
            continue
        paces = list(PACES) if record["lattice"] == BASE else [record["pace"]]
        for pace in paces:
            for row in record["rows"]:
                values = {name: record[name] for name in ("steps", "cpu_seconds", "step_seconds", "remesh_seconds")}
                key = record["object"], pace, record["lattice"], row["how"]
                groups.setdefault(key, []).append({**values, **row})
    order = {name: number for number, name in enumerate(_NAMES)}
    objects = list(dict.fromkeys(key[0] for key in groups))
    out = []
    for key in sorted(groups, key=lambda k: (objects.index(k[0]), list(PACES).index(k[1]), order.get(k[2], 99), k[3])):
        rows = groups[key]
        one: dict[str, Any] = dict(zip(("object", "pace", "lattice", "how"), key, strict=True)) | {"seeds": len(rows)}
        for name in rows[0]:
            known = [row[name] for row in rows if row.get(name) is not None]
            if name in ("components", "genus", "true_components", "true_genus"):
                one[name] = "/".join(sorted({str(row[name]) if row[name] is not None else "–" for row in rows}))
            elif name != "how":
                one[name] = sum(known) / len(known) if known else None
        out.append(one)
    return out


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """One line per surface that was measured, with all figures as they are."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    shared = ("object", "lattice", "pace", "seed", "steps", "step_seconds", "cpu_seconds", "remesh_seconds")
    done = [record for record in records if record["status"] == "done"]
    names = list(dict.fromkeys(name for record in done for row in record["rows"] for name in row))
    writer.writerow([*shared, *names])
    for record in done:
        for row in record["rows"]:
            writer.writerow([*(record[name] for name in shared), *(row.get(name, "") for name in names)])
    return stream.getvalue()


def _table(rows: Sequence[Row]) -> list[str]:
    hidden = any((row.get("seen_share") or 1.0) < HIDDEN for row in rows)
    figures = [*_FIGURES[:2], *_SEEN, *_FIGURES[2:]] if hidden else [*_FIGURES]
    head = ["object", "surface", *(label for _, label, _ in figures), "parts, genus", "steps", "CPU"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    last = ""
    for row in rows:
        name = _NAMES.get(row["lattice"]) or str(row["lattice"])
        remeshed = row["how"] == "remeshed"
        cells = [row["object"] if row["object"] != last else "", name + (", remeshed" if remeshed else "")]
        cells += ["–" if row.get(key) is None else form(row[key]) for key, _, form in figures]
        true = f"{row['true_components']}, {row['true_genus']}"
        cells.append(f"{row['components']}, {row['genus']} ({true})")
        seconds = row["remesh_seconds"] if remeshed else row["cpu_seconds"]
        cells += ["" if remeshed else f"{row['steps']:.0f}", ("+ " if remeshed else "") + f"{seconds:.1f} s"]
        lines.append("| " + " | ".join(cells) + " |")
        last = row["object"]
    return lines


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
