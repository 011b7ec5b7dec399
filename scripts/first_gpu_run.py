"""The first quarter of an hour on a GPU: everything that has never run there, the most doubtful first.

    python scripts/first_gpu_run.py                      # on the GPU; writes first-gpu-run/report.json and report.html
    python scripts/first_gpu_run.py --device cpu         # a rehearsal: what needs CUDA is skipped with its reason
    python scripts/first_gpu_run.py --list

Every step is a process of its own with a time limit: a crash, a hang or a GPU that has failed stops no other step. The
report is written anew after each. Exit code: 0 if nothing failed, else 1.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from first_gpu_steps import STEPS, Skip  # noqa: E402

SCHEMA = 1
STATES = ("ok", "differs", "failed", "crashed", "too long", "skipped")
TAIL = 4000  # characters of what a step printed


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.step is not None:
        return _step(options.step, options.device, Path(options.result))
    chosen = [name for name in STEPS if not options.only or name in options.only]
    unknown = sorted(set(options.only) - set(STEPS))
    if unknown:
        print(f"--only {', '.join(unknown)}: choose {', '.join(STEPS)}", file=sys.stderr)
        return 2
    if options.list:
        for name in chosen:
            print(f"{name:24} {STEPS[name].seconds:4d} s at most  {STEPS[name].about}")
        return 0
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60.0 * options.minutes
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "device": options.device,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "steps": [],
    }
    for name in chosen:
        left = ends - time.monotonic()
        limit = min(STEPS[name].seconds * options.patience, left)
        if left < 5:
            found: dict[str, Any] = {"state": "skipped", "line": "no time was left: see --minutes", "seconds": 0.0}
        else:
            found = run_step([sys.executable, __file__, "--step", name, "--device", options.device], limit)
        report["steps"].append({"name": name, "about": STEPS[name].about, **found})
        print(f"{name}: {found['state']} in {found['seconds']:.0f} s {found.get('line', '')}".rstrip(), flush=True)
        write_report(report, out)
    bad = [step for step in report["steps"] if step["state"] not in ("ok", "skipped")]
    print(f"wrote {out / 'report.json'} and {out / 'report.html'}; {len(bad)} of {len(chosen)} steps went wrong")
    return 1 if bad else 0


def run_step(command: list[str], limit: float) -> dict[str, Any]:
    """Run one step in a process of its own and judge how it ended."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen([*command, "--result", str(result)], stdout=stream, stderr=subprocess.STDOUT)
            try:
                code: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = None
        said = log.read_text(encoding="utf-8", errors="replace")[-TAIL:]
        try:
            found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
    if code is None:
        found = {**found, "state": "too long", "line": f"it was ended after {limit:.0f} s"}
    elif "state" not in found:
        found = {"state": "crashed", "line": f"exit code {code} without a result"}
    return {**found, "seconds": round(time.monotonic() - began, 3), "said": said}


def write_report(report: dict[str, Any], out: Path) -> None:
    """Write ``report.json`` and ``report.html``; each replaces the one before as a whole."""
    for name, text in (("report.json", json.dumps(report, indent=1) + "\n"), ("report.html", page(report))):
        partial = out / f".{name}.{os.getpid()}"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, out / name)


def page(report: dict[str, Any]) -> str:
    """The report as one HTML file. It needs nothing of stspbr, which may be what does not work."""
    colours = dict(zip(STATES, ("#2f855a", "#b7791f", "#c53030", "#c53030", "#c53030", "#718096"), strict=True))
    rows, parts = [], []
    for step in report["steps"]:
        mark = f'<b style="color:{colours[step["state"]]}">{step["state"]}</b>'
        line = html.escape(step.get("line", ""))
        name = html.escape(step["name"])
        rows.append(
            f'<tr><td><a href="#{name}">{name}</a></td><td>{mark}</td>'
            f"<td>{step['seconds']:.1f}</td><td>{line}</td></tr>"
        )
        checks = "".join(
            f"<tr><td>{html.escape(one['name'])}</td><td>{one['value']:.6g}</td><td>{one['limit']:.6g}</td>"
            f"<td>{'' if one['ok'] else '✗'}</td></tr>"
            for one in step.get("checks", [])
        )
        table = f"<table><tr><th>check<th>value<th>at most<th></tr>{checks}</table>" if checks else ""
        figures = html.escape(json.dumps(step.get("figures", {}), indent=1))
        said = html.escape(step.get("said", "").strip())
        parts.append(
            f'<h2 id="{name}">{name}: {mark}</h2><p>{html.escape(step["about"])}</p>{table}<pre>{figures}</pre>'
            + (f"<details><summary>what it printed</summary><pre>{said}</pre></details>" if said else "")
        )
    facts = html.escape(f"{report['device']}, {report['started']}, Python {report['python']}, {report['platform']}")
    style = "body{font:15px system-ui;max-width:70em;margin:2em auto}td,th{padding:.2em .8em;text-align:left}"
    style += "pre{background:#8881;padding:.6em;overflow:auto}"
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>first GPU run</title><style>{style}</style>'
        f"<h1>First run on a GPU</h1><p>{facts}</p>"
        f"<table><tr><th>step<th>state<th>seconds<th></tr>{''.join(rows)}</table>{''.join(parts)}</html>\n"
    )


def _step(name: str, device: str, result: Path) -> int:
    """The work of one step, in its own process: its figures and checks go into ``result``."""
    found: dict[str, Any]
    try:
        outcome = STEPS[name].run(device)
        wrong = [check for check in outcome.checks if not check["ok"]]
        found = {"state": "differs" if wrong else "ok", "checks": outcome.checks, "figures": outcome.figures}
        if wrong:
            first = wrong[0]
            found["line"] = f"{first['name']} is {first['value']:.3g}, at most {first['limit']:.3g} was expected"
            found["line"] += f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    except Skip as reason:
        found = {"state": "skipped", "line": str(reason)}
    except Exception as error:
        traceback.print_exc()
        text = (str(error).strip().splitlines() or [""])[0]
        found = {"state": "failed", "line": f"{type(error).__name__}: {text}"[:300]}
    result.write_text(json.dumps(found), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu for a rehearsal")
    parser.add_argument("--out", default="first-gpu-run", help="folder of the report")
    parser.add_argument("--only", action="append", default=[], metavar="STEP", help="this step; repeatable")
    parser.add_argument("--minutes", type=float, default=15.0, help="for all steps together")
    parser.add_argument("--patience", type=float, default=1.0, help="factor on the steps' time limits")
    parser.add_argument("--list", action="store_true", help="print the steps and run nothing")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
