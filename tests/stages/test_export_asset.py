"""`stspbr export asset`: every format from a run and from files; bad input is one line and changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner

import stspbr.cli
from stspbr.artifacts import ArtifactStore
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import read_image, read_pixels, write_hdr
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.settings import ExportSettings, settings_for
from stspbr.stages.export_asset import SUFFIXES, export_asset


def bumpy_jar():
    asset = demo_asset(16, around=24, along=16)
    bumps = np.random.default_rng(0).normal(0, 0.2, (16, 16, 3)).astype(np.float32) + [0, 0, 1]
    normal = (bumps / np.linalg.norm(bumps, axis=-1, keepdims=True)).astype(np.float32)
    mesh = replace(asset.mesh, tangents=None)
    return replace(asset, mesh=mesh, materials=[replace(asset.materials[0], normal=normal)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two bakes: the second is twice as large."""
    folder = tmp_path_factory.mktemp("run")
    store = ArtifactStore(folder)
    for scale in (1.0, 2.0):
        with store.create("bake", settings={"texture_bits": 8, "scale": scale}, parents=[], seed=0) as draft:
            asset = bumpy_jar()
            asset.mesh.positions = asset.mesh.positions * np.float32(scale)
            write_glb(draft.path / "asset.glb", asset)
            write_hdr(draft.path / "light.hdr", demo_light(16).radiance * scale)
    return folder


MAPS = ("albedo", "metallic", "normal", "roughness")


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("to", "out", "beside"),
    [
        ("glb", "my jar.glb", []),
        ("gltf", "my jar.gltf", ["my_jar.bin", *(f"my_jar_glazed_jar_{m}.png" for m in ("albedo", "normal", "orm"))]),
        ("obj", "my jar.obj", ["my_jar.mtl", *(f"glazed_jar_{m}.png" for m in MAPS)]),
        ("ply", "my jar.ply", []),
    ],
)  # fmt: skip
def test_a_run_in_every_format_with_its_light(run, tmp_path, to, out, beside):
    report = export_asset(str(run), tmp_path / "deep" / out, ExportSettings(to=to))
    light = ["my_jar_light.exr", "my_jar_light.hdr"]
    assert names(tmp_path / "deep") == sorted([out, *beside, *light])
    assert report.files[0] == tmp_path / "deep" / out and report.notes == []
    assert names(tmp_path / "deep") == sorted(path.name for path in report.files)
    for name in light:
        np.testing.assert_allclose(read_image(tmp_path / "deep" / name)[0], demo_light(16).radiance * 2, rtol=0.02)
    if to != "ply":
        mesh = read_asset(tmp_path / "deep" / out).mesh
        expected = bumpy_jar().mesh.positions * 2  # the newest bake, in its own units
        np.testing.assert_allclose(np.ptp(mesh.positions, axis=0), np.ptp(expected, axis=0), rtol=1e-6)
        assert to == "obj" or mesh.tangents is not None


@pytest.mark.parametrize("name", ["jar.usda", "jar.usdz"])
def test_usd_of_a_run_comes_back_with_its_dome(run, tmp_path, name):
    pytest.importorskip("pxr", reason="usd-core is absent")
    from pxr import Usd

    to = "usdz" if name.endswith("z") else "usd"
    report = export_asset(str(run), tmp_path / name, ExportSettings(to=to))
    assert report.files[0] == tmp_path / name and all(path.is_file() for path in report.files)
    dome = tmp_path / ("jar_environment.usda" if to == "usdz" else name)  # ARKit knows no dome lights
    stage = Usd.Stage.Open(str(dome))
    assert any(prim.GetTypeName() == "DomeLight" for prim in stage.Traverse())
    given, back = read_asset(ArtifactStore(run).resolve("bake").file("asset.glb")), read_asset(tmp_path / name)
    np.testing.assert_allclose(np.ptp(back.mesh.positions, axis=0), np.ptp(given.mesh.positions, axis=0), rtol=1e-6)
    assert len(back.mesh.faces) == len(given.mesh.faces)
    np.testing.assert_allclose(back.materials[0].roughness, given.materials[0].roughness, atol=1 / 255)


def test_blender_is_a_folder(run, tmp_path):
    report = export_asset(
        str(run), tmp_path / "jar", ExportSettings(to="blender", texture_bits=16, texture_format="exr"), version="v0001"
    )
    maps = [f"maps/glazed_jar_{name}.exr" for name in MAPS]
    expected = ["asset.glb", "import_into_blender.py", "light.exr", "light.hdr", *maps, "materials.json"]
    assert names(tmp_path / "jar") == sorted(expected) and report.files[0].name == "asset.glb"
    assert [note for note in report.notes if "8-bit maps" in note]
    np.testing.assert_allclose(read_image(tmp_path / "jar" / "light.exr")[0], demo_light(16).radiance, rtol=0.02)
    (listed,) = json.loads((tmp_path / "jar" / "materials.json").read_text())
    stored = read_asset(run / "bake" / "v0001" / "asset.glb").materials[0]
    assert listed["name"] == "glazed_jar"
    albedo = read_pixels(tmp_path / "jar" / listed["channels"]["albedo"]["file"])
    np.testing.assert_allclose(albedo, stored.albedo, atol=1e-6)


def test_levels_of_detail_stand_beside_the_file_with_what_they_cost(run, tmp_path):
    settings = ExportSettings(to="glb", quantized=True, lod=[400, 150])
    report = export_asset(str(run), tmp_path / "jar.glb", settings)
    assert [path.name for path in report.files][:3] == ["jar.glb", "jar_light.exr", "jar_light.hdr"]
    told = [line for line in report.lines() if "_lod" in line]
    assert "jar_lod1.glb: 400 triangles" in told[0] and told[1].endswith("dB against the full mesh")
    for number, budget in ((1, 400), (2, 150)):
        level = read_asset(tmp_path / f"jar_lod{number}.glb").mesh
        assert 0.9 * budget < len(level.faces) <= budget and level.tangents is not None
    fine, coarse = (level["psnr"] for level in report.as_json()["lods"])
    assert 40 > fine > coarse > 10


def test_the_command_says_what_it_wrote(tmp_path):
    arguments = ["export", "asset", "procedural:demo", "--to", "ply", "--out", str(tmp_path / "jar.ply")]
    done = CliRunner().invoke(stspbr.cli.app, arguments)
    assert (done.exit_code, done.output) == (0, f"{tmp_path / 'jar.ply'}\n")
    done = CliRunner().invoke(stspbr.cli.app, [*arguments, "--json"])
    assert json.loads(done.output) == {"files": [str(tmp_path / "jar.ply")], "notes": [], "lods": []}
    assert CliRunner().invoke(stspbr.cli.app, [*arguments, "--quiet"]).output == ""


def test_a_file_has_no_light_and_the_same_input_gives_the_same_bytes(tmp_path):
    write_glb(tmp_path / "in.glb", bumpy_jar())
    for name in "ab":
        report = export_asset(str(tmp_path / "in.glb"), tmp_path / name / "jar.glb", ExportSettings(to="glb"))
        assert [path.name for path in report.files] == ["jar.glb"]
    assert (tmp_path / "a/jar.glb").read_bytes() == (tmp_path / "b/jar.glb").read_bytes()
    assert read_asset(tmp_path / "a/jar.glb").mesh.tangents is not None  # made where the file had none


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"to": "fbx"}, "choose glb"),
        ({"to": "gtlf"}, "did you mean gltf"),
        ({"to": "glb", "texture_bits": 12}, "choose 8 or 16"),
        ({"to": "glb", "texture_format": "exr"}, "exr goes with obj and blender"),
        ({"to": "glb", "texture_format": "ktx2"}, "no KTX2 encoder"),
        ({"to": "glb", "texture_format": "gif"}, "choose png or exr"),
        ({"to": "obj", "quantized": True}, "--quantized goes with glb"),
        ({"to": "blender", "lod": [4]}, "--lod goes with"),
        *(({"to": "glb", "lod": lod}, "lod.*give falling numbers") for lod in (["many"], [100, 200], [2], [100, 100])),
    ],
)
def test_settings_that_do_not_fit_are_one_line(values, message):
    with pytest.raises(StspbrError, match=message) as told:
        settings_for(ExportSettings, [], values)
    assert "\n" not in str(told.value)


def test_every_format_has_its_suffixes():
    assert set(SUFFIXES) == set(get_args(ExportSettings.model_fields["to"].annotation))


@pytest.mark.parametrize(
    ("to", "out", "message"),
    [
        ("gltf", "a.glb", r"must end with \.gltf"),
        ("glb", "folder.glb", "writes a file"),
        ("blender", "kept.txt", "writes a folder"),
        ("glb", "kept.txt/a.glb", "cannot write"),
    ],
)
def test_a_place_that_does_not_fit_is_one_line_and_changes_nothing(tmp_path, to, out, message):
    (tmp_path / "folder.glb").mkdir()
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(StspbrError, match=message) as told:
        export_asset("procedural:demo", tmp_path / out, ExportSettings(to=to))
    assert "\n" not in str(told.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.glb", "kept.txt"]


def test_a_failure_half_way_leaves_what_was_there(tmp_path, monkeypatch):
    import stspbr.formats.gltf.writer as writer

    (tmp_path / "jar.gltf").write_text("the old one")
    monkeypatch.setattr(writer, "_encoded", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_asset("procedural:demo", tmp_path / "jar.gltf", ExportSettings(to="gltf"))
    assert names(tmp_path) == ["jar.gltf"] and (tmp_path / "jar.gltf").read_text() == "the old one"


def test_errors_name_the_place_that_was_asked_for(tmp_path):
    asset = bumpy_jar()
    asset.mesh.uvs = None
    asset.materials = [replace(asset.materials[0], normal=None)]
    from stspbr.stages import export_asset as stage

    def read(*_):
        return asset

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "read_asset", read)
        with pytest.raises(StspbrError) as told:
            export_asset("jar.obj", tmp_path / "jar.glb", ExportSettings(to="glb"))
    assert str(tmp_path / "jar.glb") in str(told.value) and "no UVs" in str(told.value)


def test_bad_sources(run, tmp_path):
    for source, version, message in (
        (tmp_path, None, "bake"),
        (run, "v0009", "v0009"),
        (tmp_path / "gone.glb", None, "does not exist"),
        ("procedural:demo", "v0001", "only runs have versions"),
    ):
        with pytest.raises(StspbrError, match=message):
            export_asset(str(source), tmp_path / "a.glb", ExportSettings(to="glb"), version)


@pytest.fixture(scope="module")
def turned_run(tmp_path_factory):
    """A run whose capture was turned, scaled and moved far away from the world of its poses."""
    folder = tmp_path_factory.mktemp("turned")
    store = ArtifactStore(folder)
    back = np.eye(4)
    back[:3] = [[0, 0, 2.0, 5e5], [2.0, 0, 0, 5e6], [0, 2.0, 0, 400]]
    parents = []
    for stage in ("capture", "coarse", "specialize", "bake"):
        with store.create(stage, settings={"texture_bits": 8}, parents=parents, seed=0) as draft:
            if stage == "capture":
                content = {"frames": [], "original_from_world": back.tolist()}
                (draft.path / "transforms.json").write_text(json.dumps(content))
            if stage == "bake":
                write_glb(draft.path / "asset.glb", bumpy_jar())
                write_hdr(draft.path / "light.hdr", demo_light(16).radiance)
        parents = [draft.artifact]
    return folder, back


@pytest.mark.parametrize("to", ["glb", "obj", "usda"])
def test_the_original_frame(turned_run, tmp_path, to):
    folder, back = turned_run
    if to == "usda":
        pytest.importorskip("pxr")
    settings = ExportSettings(to=to.replace("usda", "usd"), original_frame=True)
    export_asset(str(folder), tmp_path / f"a.{to}", settings)
    asset = read_asset(tmp_path / f"a.{to}")
    found = asset.mesh.positions.astype(np.float64) + asset.origin
    expected = bumpy_jar().mesh.positions.astype(np.float64) @ back[:3, :3].T + back[:3, 3]
    assert len(found) == len(expected)
    assert found.mean(axis=0) == pytest.approx(expected.mean(axis=0), abs=1e-5)
    np.testing.assert_allclose(
        found[np.lexsort(found.T.round(4))], expected[np.lexsort(expected.T.round(4))], atol=2e-5
    )
    plain = export_asset(str(folder), tmp_path / f"b.{to}", replace_original(settings))
    assert not read_asset(plain.files[0]).origin.any()
    light, _, _ = read_image(tmp_path / "a_light.exr")
    before = demo_light(16).radiance
    assert light.mean() == pytest.approx(before.mean(), rel=0.1) and np.abs(light - before).max() > 0.1


def replace_original(settings):
    return settings.model_copy(update={"original_frame": False})


def test_the_original_frame_of_a_run_without_its_capture(run, tmp_path):
    with pytest.raises(StspbrError, match="was not made from a specialize artifact"):
        export_asset(str(run), tmp_path / "a.glb", ExportSettings(to="glb", original_frame=True))
