"""The command line: quick help, one line for every user error, JSON where JSON was asked for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import stspbr
from stspbr import cli
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import write_png8
from stspbr.procedural.jar import demo_asset

GRIDS = [f"fields.{name}.{key}" for name in ("appearance", "reflectance") for key in ("levels=3", "log2_table_size=10")]
COARSE = ["geometry.resolution=12", "light.mode=learned", "light.learned_resolution=16", "optimize.batch=2", *GRIDS]
LIGHT = ["--light", "procedural:demo"]


def overrides(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line as it runs from a shell, in this process: (exit code, stdout, stderr)."""

    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stspbr", *map(str, argv)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = 0 if stop.code is None else stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def captured(tiny_run, tmp_path) -> Path:
    """A run of one's own that holds the tiny capture."""
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def glb(tmp_path) -> Path:
    write_glb(tmp_path / "asset.glb", demo_asset(16, around=12, along=12))
    return tmp_path / "asset.glb"


def cut(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


# -- start-up ----------------------------------------------------------------------------------------------


def test_help_does_not_import_what_is_slow_to_import():
    code = """
import sys
import stspbr.cli
sys.argv = ["stspbr", "--help"]
try:
    stspbr.cli.main()
except SystemExit as stop:
    assert not stop.code, stop.code
slow = ("torch", "numba", "scipy", "trimesh", "xatlas", "pydantic", "tensorboard", "mitsuba", "numpy", "OpenEXR")
print([name for name in slow if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = answer.stdout.splitlines()
    assert lines[-1] == "[]"
    for name in ("capture", "coarse", "specialize", "bake", "unpack-orm", "evaluate", "run", "artifacts", "doctor"):
        assert any(f" {name} " in line for line in lines), name


def test_version_by_module():
    answer = subprocess.run([sys.executable, "-m", "stspbr", "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == stspbr.__version__ and not answer.stderr


def test_recipes_are_listed(command):
    code, out, err = command("recipes")
    assert code == 0 and not err
    assert re.search(r"^demo +A small glazed jar.*\.$", out, re.MULTILINE) and "spot-small" in out
    rows = [json.loads(line) for line in command("recipes", "--json")[1].splitlines()]
    assert [row["recipe"] for row in rows] == sorted(line.split()[0] for line in out.splitlines())
    assert all(row["about"] in out for row in rows)


@pytest.mark.parametrize(
    "name", ["capture mesh", "capture nerf", "capture nerfstudio", "coarse", "bake", "run", "unpack-orm", "artifacts"]
)
def test_every_command_explains_itself(command, name):
    code, out, err = command(*name.split(), "--help")
    assert code == 0 and not err
    assert re.search(rf"Usage: .*{name} .*RUN|Usage: .*{name} .*RECIPE", out)


# -- user errors -------------------------------------------------------------------------------------------


def check_one_line(result: tuple[int, str, str], *wanted: object) -> None:
    code, out, err = result
    assert code == 2, (out, err)
    assert err.startswith("stspbr: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in out + err
    for text in wanted:
        assert str(text) in err, err


@pytest.mark.parametrize("stage", ["coarse", "specialize", "bake", "evaluate", "unpack-orm"])
def test_a_stage_without_its_parent(command, tmp_path, stage):
    (tmp_path / "run").mkdir()
    parent = {"coarse": "capture", "specialize": "coarse", "bake": "specialize"}.get(stage, "bake")
    check_one_line(command(stage, tmp_path / "run"), f"stspbr {parent}")
    assert not list((tmp_path / "run").glob(f"{stage}/*"))


@pytest.mark.parametrize(
    "options, wanted",
    [
        (["--set", "optimize.iteration=5"], "optimize.iteration"),
        (["--set", "optimize.batch=none"], "optimize.batch"),
        (["--set", "optimize.batch"], "key=value"),
        (["--set", "fields.appearance.levels.deeper.still=3"], "levels"),
        (["--set", "optimize.losses.appearance={imaginary=1.0}"], "imaginary"),
        (["--backend", "vulkan"], "--backend vulkan"),
        (["--backend", "nvdiffrast", "--device", "cpu"], "--backend nvdiffrast"),
        (["--device", "quantum"], "--device quantum"),
        (["--device", "meta"], "--device meta"),
        (["--from", "v0007"], "v0001"),
        (["--from", "newest"], "v0003"),
        (["--mesh", "absent.glb"], "absent.glb"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_options(command, captured, options, wanted):
    check_one_line(command("coarse", captured, "--quiet", *options), wanted)
    assert not (captured / "coarse").exists()


def test_no_cuda_device(command, captured):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    check_one_line(command("coarse", captured, "--device", "cuda"), "--device cuda", "stspbr doctor")


def test_missing_and_broken_recipes(command, tmp_path):
    check_one_line(command("run", tmp_path / "none.toml"), tmp_path / "none.toml")
    check_one_line(command("run", "dmeo"), "dmeo", "did you mean demo?")
    check_one_line(command("run", tmp_path), tmp_path)
    recipe = tmp_path / "r.toml"
    for text in ('name = "r"\n[capture', 'name = "r"\n[capture]\nkind = "film"\n', '[capture]\nkind = "mesh"\n'):
        recipe.write_text(text)
        check_one_line(command("run", recipe), recipe)
    recipe.write_text('name = "r"\n[capture]\nkind = "nerf"\nfolder = "${STSPBR_NO_SUCH_VARIABLE}"\n')
    check_one_line(command("run", recipe), "STSPBR_NO_SUCH_VARIABLE")


def test_edited_truncated_and_missing_payload(command, captured):
    image = sorted((captured / "capture/v0001/images").iterdir())[0]
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    check_one_line(command("coarse", captured), image, "edited")
    cut(image)
    check_one_line(command("coarse", captured), image, "truncated")
    image.unlink()
    check_one_line(command("coarse", captured), image, "missing")
    assert not (captured / "coarse").exists()


def test_edited_truncated_and_newer_manifest(command, captured):
    path = captured / "capture/v0001/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "schema": manifest["schema"] + 1}))
    check_one_line(command("coarse", captured), path, "install a newer stspbr")
    path.write_text(json.dumps({**manifest, "seed": 5}))
    check_one_line(command("coarse", captured), path, "edited")
    cut(path)
    check_one_line(command("coarse", captured), path, "truncated")


def test_artifacts_of_nothing(command, tmp_path):
    check_one_line(command("artifacts", tmp_path), tmp_path, "stspbr capture")
    check_one_line(command("artifacts", tmp_path / "absent"), "stspbr capture")
    assert not (tmp_path / "absent").exists()


def test_unpacking_what_cannot_be_read(command, tmp_path, glb):
    check_one_line(command("unpack-orm", tmp_path / "absent.glb"), tmp_path / "absent.glb")
    check_one_line(command("unpack-orm", cut(glb)), glb)
    image = tmp_path / "orm.png"
    write_png8(image, np.full((8, 8, 3), 0.5, np.float32), srgb=False)
    check_one_line(command("unpack-orm", image, "--bits", "12"), "8 or 16")
    check_one_line(command("unpack-orm", cut(image)), image)
    (tmp_path / "notes.txt").write_text("no picture")
    check_one_line(command("unpack-orm", tmp_path / "notes.txt"), "notes.txt")
    assert not list(tmp_path.glob("*roughness*"))


def test_capturing_what_cannot_be_captured(command, tmp_path, glb):
    run = tmp_path / "run"
    check_one_line(command("capture", "mesh", run, tmp_path / "absent.glb", *LIGHT), "absent.glb")
    check_one_line(command("capture", "mesh", run, cut(glb), *LIGHT), glb)
    for name, text in (
        ("points.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n"),
        ("nothing.obj", ""),
        ("nothing.gltf", '{"asset": {"version": "2.0"}}'),
    ):
        (tmp_path / name).write_text(text)
        check_one_line(command("capture", "mesh", run, tmp_path / name, *LIGHT))
    absent = tmp_path / "absent.hdr"
    check_one_line(command("capture", "mesh", run, "procedural:demo", "--light", absent), absent)
    for kind in ("nerf", "nerfstudio"):
        check_one_line(command("capture", kind, run, tmp_path / "no-folder"), "no-folder")
    assert not (run / "capture").exists()


def test_a_file_in_the_place_of_the_run(command, tmp_path):
    place = tmp_path / "file"
    place.write_text("not a folder")
    check_one_line(command("coarse", place), place)
    check_one_line(command("artifacts", place), place)


def test_capturing_into_a_place_that_cannot_be_written(command, tmp_path):
    place = tmp_path / "file"
    place.write_text("not a folder")
    options = ["--views", "2", "--test-views", "1", "--resolution", "8"]
    check_one_line(command("capture", "mesh", place, "procedural:demo", *LIGHT, *options), place)


def test_interrupt_says_how_to_go_on(command, captured, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("stspbr.stages.coarse.run_coarse", interrupted)
    code, _, err = command("coarse", captured)
    assert code == 130
    assert "--resume" in err and err.count("\n") == 1


# -- what is printed ---------------------------------------------------------------------------------------


def json_lines(result: tuple[int, str, str]) -> list[dict]:
    code, out, err = result
    assert code == 0 and not err, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows and all(isinstance(row, dict) for row in rows)
    return rows


def test_json_means_nothing_but_json(command, captured, glb, tmp_path):
    shutil.rmtree(captured / "capture")  # the light's cache stays
    options = ["--views", "4", "--test-views", "1", "--resolution", "24", "--device", "cpu", "--json"]
    *_, last = json_lines(command("capture", "mesh", captured, "procedural:demo", *LIGHT, *options))
    assert last["stage"] == "capture" and Path(last["artifact"]) == captured / "capture/v0001"
    steps = overrides(*COARSE, "optimize.iterations=3", "optimize.log_every=1", "optimize.preview_every=2")
    *progress, last = json_lines(command("coarse", captured, "--device", "cpu", "--json", *steps))
    assert [row["step"] for row in progress if "step" in row] == [1, 2, 3]
    manifest = json.loads((captured / "coarse/v0001/manifest.json").read_text())
    assert last["content_hash"] == manifest["content_hash"]
    rows = json_lines(command("artifacts", captured, "--json"))
    assert [(row["stage"], row["version"], row["state"]) for row in rows] == [
        ("capture", "v0001", "complete"),
        ("coarse", "v0001", "complete"),
    ]
    assert rows[1]["parents"] == {"capture": "v0001"}
    files = json_lines(command("unpack-orm", glb, "--out", tmp_path / "maps", "--json"))
    assert [Path(row["file"]).name for row in files] == ["occlusion.png", "roughness.png", "metallic.png"]


def test_quiet_prints_nothing(command, captured, glb, tmp_path):
    steps = overrides(*COARSE, "optimize.iterations=2")
    assert command("coarse", captured, "--quiet", "--device", "cpu", *steps) == (0, "", "")
    assert (captured / "coarse/v0001").is_dir()
    assert command("unpack-orm", glb, "--quiet", "--out", tmp_path / "maps") == (0, "", "")
    assert len(list((tmp_path / "maps").iterdir())) == 3


def test_artifacts_lists_every_version_and_its_state(command, captured, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    shutil.copytree(captured / "capture/v0001", captured / "capture/v0002")
    broken = captured / "capture/v0002/transforms.json"
    broken.write_text(broken.read_text() + " ")
    code, out, err = command("artifacts", captured)
    assert code == 0 and not err
    first, second = (next(line for line in out.splitlines() if name in line) for name in ("v0001", "v0002"))
    assert "capture" in first and "complete" in first and "resolution=32" in first and "views=6" in first
    assert "complete" not in second and "edited" in second


def test_unpacked_file_lands_beside_it(command, glb):
    code, out, err = command("unpack-orm", glb)
    assert code == 0 and not err
    assert [Path(line) for line in out.split()] == [
        glb.parent / f"{name}.png" for name in ("occlusion", "roughness", "metallic")
    ]
    assert all(Path(line).is_file() for line in out.split())
