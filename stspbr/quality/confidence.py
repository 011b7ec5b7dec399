"""Confidence against the truth: ``python -m stspbr.quality.confidence``, or ``make quality-confidence``.

Each object is captured by our own shading (``same``) and by a path tracer (``path``), goes through coarse, specialize
and bake, and its maps' stds are compared with their errors. Finished parts are kept: start the command again to
continue. The table of all that there is lies in ``table.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stspbr.errors import StspbrError, first_line
from stspbr.files import write_file
from stspbr.quality.confidence_cases import OBJECTS, SIZES, Case, RunCase
from stspbr.quality.confidence_table import table
from stspbr.quality.runner import source_hash

TRACKS = ("same", "path")
PARTS = ("ranks", "removal", "five", "time")
ARRAYS = "ranks.npz"
_VIEWS = (7,)  # that are removed, one at a time
_ORDERS = ("same",)  # of the other views; a new one changed no correlation by more than 0.02
_STEPS = 60  # of the bakes with five views more


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for and not yet there; return 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", nargs="*", default=[], help=f"some of {', '.join(OBJECTS)}; default: all")
    parser.add_argument("--tracks", nargs="+", choices=TRACKS, default=list(TRACKS))
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="none: write the table alone")
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="finished runs of mesh captures, as they are")
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--home", type=Path, default=Path("runs/quality-confidence"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    cases: list[Case | RunCase] = [RunCase(path, given.size) for path in given.runs]
    if given.objects or not given.runs:
        cases += [Case(name, track, given.size) for track in given.tracks for name in given.objects or OBJECTS]
    failed = False
    for case in cases:
        for part in given.parts:
            record = carry_out(case, part, given.home, given.threads)
            failed |= record["status"] != "done"
            sys.stdout.write(f"{case.label} {part}: {record['status']} {record.get('error') or ''}\n")
            sys.stdout.flush()
    text = table(records(given.home, given.size), given.home, given.size)
    write_file(given.home / f"table-{given.size}.md", text)
    sys.stdout.write(text)
    return 1 if failed else 0


def carry_out(case: Case | RunCase, part: str, home: Path, threads: int) -> dict[str, Any]:
    """The record of a part: found if it was made with the same settings, else made and written."""
    place = _place(case, part, home)
    track = None
    try:
        identity, track = _identity(case, part), case.track
        found = _read(place)
        if found is not None and found["status"] == "done" and found["identity"] == identity:
            return found
        record: dict[str, Any] = {"object": case.name, "track": track, "part": part, "identity": identity}
        record |= {"label": case.label, "source": source_hash(), "tuned": case.known.tuned}
        record |= {"status": "done", "values": _work(case, part, home, threads)}
    except StspbrError as error:  # the other parts go on, and the table lacks this one
        return {"object": case.name, "track": track, "part": part, "status": "failed", "error": first_line(error)}
    write_file(place, json.dumps(record, indent=1) + "\n")
    return record


def records(home: Path, size: str) -> list[dict[str, Any]]:
    """All finished parts of this size, by track, object and part."""
    order = [*OBJECTS]
    found = [record for place in (home / "records").glob(f"*-{size}/*.json") if (record := _read(place)) is not None]

    def key(record: dict[str, Any]) -> tuple:
        name = record["object"]
        known = order.index(name) if name in order else len(order)
        return TRACKS.index(record["track"]), known, name, PARTS.index(record["part"])

    return sorted(found, key=key)


def _work(case: Case | RunCase, part: str, home: Path, threads: int) -> dict[str, Any]:
    from stspbr.quality import confidence_trials as trials

    work: dict[str, Callable[[], dict[str, Any]]] = {
        "ranks": lambda: trials.ranks(case, home, threads, _place(case, part, home).with_name(ARRAYS)),
        "removal": lambda: trials.removal(case, home, threads, _VIEWS, _ORDERS),
        "five": lambda: trials.five(case, home, threads, _STEPS),
        "time": lambda: trials.timed(case, home, threads),
    }
    return work[part]()


def _identity(case: Case | RunCase, part: str) -> str:
    """SHA-256 (16 hex digits) of all settings of a part."""
    stages = [case.stage_settings(name).model_dump(mode="json") for name in ("coarse", "specialize", "bake")]
    more = {"removal": [_VIEWS, _ORDERS], "five": _STEPS}.get(part)
    version = [] if case.version() is None else [case.version()]
    values = [case.capture_settings().model_dump(mode="json"), *stages, more, *version]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _place(case: Case | RunCase, part: str, home: Path) -> Path:
    return home / "records" / case.label / f"{part}.json"


def _read(place: Path) -> dict[str, Any] | None:
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StspbrError(f"{place}: not a record ({error}): delete it and start again") from error


if __name__ == "__main__":
    sys.exit(main())
