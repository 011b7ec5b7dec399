"""What is shipped: the sdist holds the project, the wheel the package, and an installed wheel works by itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import stspbr

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (".ci", "docs", "examples", "scripts", "stspbr", "tests")
FILES = ("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md",
         ".dockerignore", "Dockerfile", "constraints.txt", "pyproject.toml")  # fmt: skip
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the project, so that a build leaves nothing in the checkout and finds nothing of an older one."""
    folder = tmp_path_factory.mktemp("source")
    left_out = shutil.ignore_patterns("__pycache__", "node_modules", ".gitignore")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def built(source, tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is made from it."""
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, cwd=out, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Run a command of an environment that holds the wheel, and beside it this interpreter's libraries."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt", with_pip=False)
    paths = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
    # A path within a .pth file brings packages, but not the .pth files there, by which a checkout is installed.
    Path(paths["purelib"], "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    python = str(Path(paths["scripts"], "python"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(built[1])], env=ENVIRONMENT, check=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(paths["scripts"], program)), *arguments]
        return subprocess.run(command, cwd=elsewhere, env=ENVIRONMENT, capture_output=True, text=True)

    where = run("python", "-c", "import stspbr; print(stspbr.__file__)")
    assert Path(where.stdout.strip()) == Path(paths["purelib"], "stspbr", "__init__.py"), where
    return run


def relative(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_sdist_holds_the_project(source, built):
    with tarfile.open(built[0]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert set(FILES) <= held
    for folder in FOLDERS:
        assert {f"{folder}/{name}" for name in relative(source / folder)} <= held


def test_the_wheel_holds_the_package_and_nothing_else(source, built):
    with zipfile.ZipFile(built[1]) as archive:
        held = set(archive.namelist())
        metadata = archive.read(f"stspbr-{stspbr.__version__}.dist-info/METADATA").decode()
    assert {name for name in held if ".dist-info/" not in name} == {
        f"stspbr/{name}" for name in relative(source / "stspbr")
    }
    assert {"stspbr/py.typed", "stspbr/pipelines/demo.toml"} <= held
    for licence in ("LICENSE", "stspbr/report/vendor/LICENSE"):
        assert f"stspbr-{stspbr.__version__}.dist-info/licenses/{licence}" in held
    assert "License-Expression: Apache-2.0 AND MIT" in metadata


def test_the_command_works_where_no_checkout_is(installed):
    for program in (["stspbr"], ["python", "-m", "stspbr"]):
        done = installed(*program, "--version")
        assert (done.stdout.strip(), done.stderr) == (stspbr.__version__, "")
        assert " recipes " in installed(*program, "--help").stdout
    recipes = installed("stspbr", "recipes").stdout.splitlines()
    assert {line.split()[0] for line in recipes} == {path.stem for path in (ROOT / "stspbr/pipelines").iterdir()}
    done = installed("stspbr", "run", "nosuch")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("stspbr: nosuch: no such file and no such recipe") and done.stderr.count("\n") == 1


def test_the_library_works_where_no_checkout_is(installed):
    code = """
import sys, stspbr
assert stspbr.Asset and stspbr.load_recipe("demo").name == "demo"
assert len(stspbr.read_asset("procedural:demo").mesh.faces) > 1000
assert "torch" not in sys.modules
from stspbr.render.lobes import load_lobe_table
assert load_lobe_table() and stspbr.shade
"""
    done = installed("python", "-c", code)
    assert done.returncode == 0, done.stderr


def test_all_is_every_extra_for_users():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"stspbr\[(.+)\]", everything)[1].split(",")
    assert set(named) == set(extras) - {"all", "test", "docs", "dev"}


def test_changelog_and_citation_are_of_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)[1] == stspbr.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == stspbr.__version__
