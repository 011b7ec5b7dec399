"""Commands made from settings: their help, their options, and what a mistyped key or value is answered."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from stspbr import cli
from stspbr.artifacts import ArtifactStore
from stspbr.cli.command_for import command_for
from stspbr.settings import CoarseSettings, load_recipe
from stspbr.settings.table import rows, stages

FLAGS = {
    "capture photos": "masks mask box box-image camera-model max-side image-scale crop crop-margin exposure "
    "light-frame hold-out-every set seed threads quiet json",
    "capture mesh": "light textures renderer views test-views resolution set seed device backend threads quiet json",
    "capture nerf": "masks up max-side image-scale crop crop-margin exposure light-frame quiet json",
    "capture nerfstudio": "masks up hold-out-every exposure quiet json",
    "capture llff": "masks up hold-out-every exposure quiet json",
    "capture colmap": "masks up hold-out-every exposure quiet json",
    "capture orb": "known-light no-known-light up exposure quiet json",
    "capture usd": "camera frames images object masks hold-out-every held-out fit light exposure quiet json",
    "coarse": "mesh set from seed device backend threads routing resume quiet json",
    "specialize": "set from seed device backend threads routing resume quiet json",
    "bake": "set from seed device backend threads routing resume quiet json",
    "unpack-orm": "out bits from quiet json",
    "evaluate": "reference reference-textures lights align set from seed device backend threads quiet json",
    "export asset": "to out texture-bits texture-format quantized lod from quiet json",
    "export dataset": "to out image-format text from quiet json",
}


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stspbr", *map(str, argv)])
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def every_command(group: typer.core.TyperGroup, *path: str) -> list[list[str]]:
    out = []
    for name, one in group.commands.items():
        out += every_command(one, *path, name) if isinstance(one, typer.core.TyperGroup) else [[*path, name]]
    return out


@pytest.mark.parametrize("words", every_command(typer.main.get_command(cli.app)), ids=" ".join)
def test_help_of_every_command(words):
    done = CliRunner().invoke(cli.app, [*words, "--help"])
    assert done.exit_code == 0 and " ".join(words) in done.output.splitlines()[0]
    for flag in FLAGS.get(" ".join(words), "").split():
        assert f"--{flag}" in done.output.replace(",", " ").split(), flag


def test_help_holds_types_ranges_defaults_and_no_markup(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert "pip install 'stspbr[photos]'" in command("capture", "photos", "--help")[1]
    text = " ".join(command("capture", "mesh", "--help")[1].split())
    assert "--renderer raster|mitsuba raster: as in training" in text and "[default: raster]" in text
    assert "--views integer training views (>= 1) [default: 100]" in text
    assert "--elevation N,N" in text and "[default: -60.0,80.0]" in text


@pytest.mark.parametrize("stage", stages())
def test_settings_lists_every_setting(command, stage):
    code, out, err = command("settings", stage, "--json")
    assert code == 0 and not err
    assert [json.loads(line)["key"] for line in out.splitlines()] == [row.key for row in rows(stages()[stage])]
    code, out, err = command("settings", stage)
    assert code == 0 and not err and all(row.key in out for row in rows(stages()[stage]))


def test_settings_of_all_stages(command):
    code, out, _ = command("settings")
    assert code == 0 and all(row.key in out for model in stages().values() for row in rows(model))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (
            "coarse r --set optimize.iteratons=5",
            "optimize.iteratons is not a setting; did you mean optimize.iterations?",
        ),
        ("coarse r --set iterations=5", "did you mean optimize.iterations?"),
        ("coarse r --set nothing.like.it=5", "`stspbr settings` lists all of them"),
        ("coarse r --set fields.mode=splitt", "fields.mode=splitt: choose split or joint; did you mean split?"),
        ("coarse r --routing shred", "--routing shred: choose strict or shared; did you mean shared?"),
        ("capture mesh r a.glb --light l.hdr --elevation 5", "--elevation 5: elevation.1 is missing"),
        ("capture mesh r a.glb --light l.hdr --views many", "--views many: must be a valid integer"),
        ("export asset r --to gbl --out a.glb", "did you mean glb?"),
        ("export asset r --to glb --out a.glb --lod 1,2", "--lod 1,2: give falling numbers"),
        ("settings coars", "did you mean coarse?"),
    ],
)
def test_a_mistyped_key_or_value_is_one_line_with_the_nearest(command, tmp_path, monkeypatch, words, wanted):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*words.split())
    assert code == 2 and not out
    assert err.startswith("stspbr: ") and wanted in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_mistyped_command_or_option_names_the_nearest(command):
    for words, wanted in ((["captur"], "capture"), (["coarse", "r", "--rooting", "strict"], "--routing")):
        code, _, err = command(*words)
        assert code == 2 and wanted in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('kind = "film"', "capture.kind=film: choose mesh, nerf"),
        ('kind = "nref"\nfolder = "x"', "did you mean nerf?"),
        ('kind = "nerf"\nfoldr = "x"', "capture.foldr is not a setting; did you mean capture.folder?"),
        ('folder = "x"', "capture.kind is missing"),
        ('kind = "nerf"\nfolder = "x"\n[bake]\npaddin = 3', "bake.paddin is not a setting; did you mean bake.padding?"),
        ('kind = "nerf"\nfolder = "x"\n[bak]\npadding = 3', "bak is not a setting; did you mean bake?"),
    ],
)
def test_a_mistyped_recipe(command, tmp_path, text, wanted):
    path = tmp_path / "r.toml"
    path.write_text(f'name = "r"\n[capture]\n{text}\n')
    code, out, err = command("run", path)
    assert code == 2 and not out and err.startswith(f"stspbr: {path}: ") and wanted in err and err.count("\n") == 1


def test_options_reach_nested_settings_and_set_comes_last():
    seen = []

    def function(settings: CoarseSettings, **options: object) -> None:
        seen.append((settings, options))

    command = command_for(function, "x", nested=["optimize.routing"], common=["overrides", "quiet"])
    defaults = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
    assert defaults["routing"] == "strict" and "fields" not in defaults and "seed" not in defaults
    command(**defaults)
    assert seen.pop() == (CoarseSettings(), {"quiet": False})
    command(**{**defaults, "routing": "shared", "normals_from": "0.5", "overrides": ["normals_from=0.6"]})
    (settings, _) = seen.pop()
    assert settings.optimize.routing == "shared" and settings.normals_from == 0.6
    assert settings.optimize.rates == CoarseSettings().optimize.rates


def test_a_run_prints_every_artifact(command, tiny_run, tmp_path, monkeypatch):
    shutil.copytree(tiny_run, tmp_path / "run")
    artifact = ArtifactStore(tmp_path / "run").resolve("capture")
    monkeypatch.setattr("stspbr.stages.run.run_recipe", lambda *_, **__: {"capture": artifact})
    recipe = tmp_path / "r.toml"
    recipe.write_text('name = "r"\n[capture]\nkind = "mesh"\nasset = "a.glb"\nlight = "l.hdr"\n')
    assert load_recipe(recipe, []).name == "r"
    words = ["run", recipe, "--out", tmp_path / "run", "--device", "cpu"]
    assert command(*words) == (0, f"capture {artifact.path}\n", "")
    assert json.loads(command(*words, "--json")[1])["content_hash"] == artifact.content_hash
    assert command(*words, "--quiet") == (0, "", "")


def test_help_of_a_stage_imports_no_torch():
    code = """
import sys
from typer.testing import CliRunner
from stspbr import cli
assert CliRunner().invoke(cli.app, ["bake", "--help"]).exit_code == 0
print([name for name in ("torch", "numba", "numpy") if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_of_several_processes_the_first_inspects(command, tmp_path, monkeypatch):
    monkeypatch.setattr("stspbr.torchrun.is_first", lambda: False)
    for words in (["settings"], ["artifacts", tmp_path], ["export", "asset", tmp_path, "--to", "glb"], ["report"]):
        assert command(*words) == (0, "", "")
    assert command("coarse")[0] == 2  # this one opens a session: all processes take part
