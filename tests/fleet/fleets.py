"""Small fleets for tests: eight small objects, a worker that is killed, and the same bits without a fleet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRID = "{ levels = 3, log2_table_size = 10, finest_resolution = 32 }"
RECIPE = f"""
name = "tiny"
seed = 3

[capture]
kind = "mesh"
asset = "procedural:demo"
light = "procedural:demo"
views = 6
test_views = 2
resolution = 32

[coarse]
geometry = {{ resolution = 14 }}
light = {{ mode = "learned", learned_resolution = 16 }}
fields = {{ appearance = {GRID}, reflectance = {GRID}, width = 8 }}
optimize = {{ iterations = 40, batch = 2, checkpoint_every = 2, preview_every = 1000, log_every = 1 }}
"""
ASSETS = ("demo", "letters", "dark-gloss", "ramp", "candlestick", "casket", "crate", "label-can")
PATIENCE = 300.0  # seconds until a fleet that does not get going fails the test


def write_fleet(folder: Path, names: tuple[str, ...], until: str = "coarse", more: str = "") -> Path:
    """A file of objects, each rendered from the procedural asset of its name."""
    (folder / "tiny.toml").write_text(RECIPE)
    lines = [f'out = "{folder / "runs"}"', f'recipe = "{folder / "tiny.toml"}"', f'until = "{until}"']
    lines += ["cores = 1", "memory = 0.5", more]
    for name in names:
        lines += ["[[objects]]", f'name = "{name}"', f'set = ["capture.asset=procedural:{name}"]']
    path = folder / "few.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def start(path: Path, *options: str) -> subprocess.Popen[str]:
    """`stspbr fleet` as a process of its own; its output is JSON lines."""
    command = [sys.executable, "-m", "stspbr", "fleet", str(path), "--json", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict], str]:
    """Exit code, records and errors of a fleet that ends."""
    out, errors = process.communicate(timeout=PATIENCE * 4)
    return process.returncode, [json.loads(line) for line in out.splitlines()], errors


def kill_a_worker(runs: Path, process: subprocess.Popen[str], stage: str = "coarse") -> dict:
    """SIGKILL the process that works on ``stage`` of any object, after its second checkpoint; returns its last note."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, f"the fleet ended before a worker could be killed: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "no task came to a checkpoint"
        for path in (runs / ".fleet").glob("*.json"):
            note = json.loads(path.read_text())
            if note["stage"] == stage and (note.get("step") or 0) >= 4 and alive(note["child"]):
                os.kill(note["worker"], signal.SIGKILL)
                return note | {"object": path.stem}
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def table(runs: Path) -> dict[str, dict]:
    """The rows of ``fleet.json`` by object."""
    return {row["object"]: row for row in json.loads((runs / "fleet.json").read_text())["objects"]}


def without_a_fleet(folder: Path, names: tuple[str, ...], until: str = "coarse") -> dict[str, dict[str, str]]:
    """Content hashes by object and stage, of runs one after the other in this process."""
    from stspbr.settings import load_recipe
    from stspbr.stages.run import run_recipe
    from stspbr.stages.session import Session

    out = {}
    for name in names:
        recipe = load_recipe(folder / "tiny.toml", [f"capture.asset=procedural:{name}"])
        session = Session.open(folder / "alone" / name, seed=recipe.seed, device="cpu", threads=1, quiet=True)
        done = run_recipe(session, recipe, lambda line: None, until=until)
        out[name] = {stage: artifact.content_hash for stage, artifact in done.items()}
    return out
