"""How sure a bake is: what it writes, that the maps do not depend on it, and what explain says about it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from stspbr.cli import app
from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.images import read_pixels, write_png8
from stspbr.metrics.relighting import frame_labels
from stspbr.report.records import read_record
from stspbr.report.run_page import run_page
from stspbr.settings import BakeSettings, CoarseSettings, ExportSettings, SpecializeSettings, settings_for
from stspbr.stages.bake import run_bake
from stspbr.stages.capture_check import as_json, run_capture_check
from stspbr.stages.coarse import run_coarse
from stspbr.stages.confidence_files import file_names
from stspbr.stages.explain import explain
from stspbr.stages.explain_removal import explain_removal
from stspbr.stages.explain_targets import Question
from stspbr.stages.export_asset import export_asset
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.state import load_capture

GRIDS = [
    f"fields.{name}.{key}"
    for name in ("appearance", "reflectance", "joint")
    for key in ("levels=4", "log2_table_size=12", "finest_resolution=64")
]
STEPS = ["optimize.iterations=12", "optimize.batch=2"]
OFF = ["confidence.maps=false", "confidence.fill=off"]
BAKE = [*STEPS, "texture_resolution=64", "target_faces=600", "padding=2"]


def open_session(run) -> Session:
    return Session.open(run, device="cpu", quiet=True)


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    """A run with two bakes: v0001 neither fills nor says how sure it is, v0002 says so, v0003 fills, too."""
    run = tmp_path_factory.mktemp("trust") / "run"
    shutil.copytree(tiny_run, run)
    session = open_session(run)
    run_coarse(session, settings_for(CoarseSettings, [*GRIDS, *STEPS, "geometry.resolution=16"]))
    run_specialize(session, settings_for(SpecializeSettings, [*STEPS, "survey.at=[]"]))
    for extra in (OFF, ["confidence.fill=off"], []):
        run_bake(session, settings_for(BakeSettings, [*BAKE, *extra]))
    return run


def test_maps_are_the_same_bits_with_and_without_confidence(run):
    plain, told, filled = (run / "bake" / f"v000{k}" for k in (1, 2, 3))
    for name in ("asset.glb", "metrics.json", "light.hdr"):
        assert (plain / name).read_bytes() == (told / name).read_bytes(), name
    assert (plain / "asset.glb").read_bytes() != (filled / "asset.glb").read_bytes()
    assert not (plain / "confidence.json").exists() and not (plain / "confidence").exists()
    share = json.loads((filled / "metrics.json").read_text())["filled_share"]
    assert 0.0 < share <= 1.0


def test_a_bake_says_how_sure_it_is(run):
    folder = run / "bake" / "v0002"
    record = json.loads((folder / "confidence.json").read_text())
    assert set(record["channels"]) == {"albedo", "roughness", "metallic"}
    for name, values in record["channels"].items():
        grey = read_pixels(folder / record["materials"][0]["files"][name])
        assert grey.shape == (64, 64, 1) and 0.0 <= grey.min() and grey.max() > 0.1
        assert 0.0 <= values["share_below_0.3"] <= 1.0 and values["median_std"] <= record["prior_std"][
            "metallic" if name == "metallic" else "roughness"
        ] * (1 + 1e-6)
    assert len(record["noise"]) == 6 and min(record["noise"].values()) > 0
    assert 0 < record["seen_share"] <= 1 and len(record["next_photos"]) == 5
    assert {"direction", "where", "azimuth", "elevation", "drop", "left"} == set(record["next_photos"][0])


def test_std_is_an_exr_of_five_channels(run):
    oiio = pytest.importorskip("OpenImageIO")
    file = oiio.ImageInput.open(str(run / "bake" / "v0002" / "std.exr"))
    names = list(file.spec().channelnames)
    assert sorted(names) == ["albedo.B", "albedo.G", "albedo.R", "metallic", "roughness"]
    pixels = file.read_image()
    limits = np.array([0.5 if name == "metallic" else 0.3 for name in names])
    assert (pixels > 0).all() and (pixels <= limits * 1.001).all()


def test_several_materials_have_their_names_in_the_files():
    assert file_names(["material"])[0]["roughness"] == "confidence/roughness.png"
    many = file_names(["body", "lid", "lid"])
    assert many[1]["metallic"] == "confidence/lid_metallic.png" and many[1]["std"] == "std_lid.exr"
    assert len({name for own in many for name in own.values()}) == 12


@pytest.mark.parametrize("kind", ["obj", "blender"])
def test_nothing_of_it_is_exported(run, tmp_path, kind):
    out = tmp_path / ("asset.obj" if kind == "obj" else "asset")
    export_asset(str(run), out, ExportSettings(to=kind))
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert names and not [name for name in names if "confidence" in name or name.endswith("std.exr")]


def seen_texel(run) -> str:
    grey = read_pixels(run / "bake" / "v0002" / "confidence" / "metallic.png")[..., 0]
    row, column = np.unravel_index(grey.argmax(), grey.shape)
    return f"{(column + 0.5) / 64},{(row + 0.5) / 64}"


def test_explain_a_texel(run, tmp_path):
    found = explain(open_session(run), Question(texel=seen_texel(run)), "roughness", tmp_path / "out")
    assert sum(view["share"] for view in found.views) + found.prior == pytest.approx(1.0, abs=1e-4)
    assert [view["share"] for view in found.views] == sorted((v["share"] for v in found.views), reverse=True)
    assert 0 < found.std < found.prior_std
    text = "\n".join(found.lines())
    assert "prior" in text and found.views[0]["name"] in text and "would help most" in text
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"explanation.json", "deciding.png"} <= names
    for view in found.views:
        assert {f"{view['name']}_share.png", f"{view['name']}_pull.png"} <= names
    heat = read_pixels(tmp_path / "out" / f"{found.views[0]['name']}_share.png")
    assert np.ptp(heat, axis=2).max() > 0.3  # the photograph is grey, the heat is not


def test_explain_finds_the_same_texel_by_point_and_by_texel(run, tmp_path):
    asset = read_gltf(run / "bake" / "v0003" / "asset.glb")
    mesh = asset.mesh
    face = 10
    middle = mesh.positions[mesh.faces[face]].mean(axis=0)
    u, v = mesh.uvs.values[mesh.uvs.index[face]].mean(axis=0)
    session = open_session(run)
    one = explain(session, Question(point=",".join(map(str, middle))), "metallic", tmp_path / "a")
    other = explain(session, Question(texel=f"{u},{v}"), "metallic", tmp_path / "b")
    assert one.std == pytest.approx(other.std) and one.value == other.value
    assert one.channel == "metallic" and one.prior_std == 0.5


def test_explain_a_region_and_a_pixel(run, tmp_path):
    half = np.zeros((128, 128, 1), np.float32)
    half[:, :64] = 1.0
    write_png8(tmp_path / "half.png", half, srgb=False)
    session = open_session(run)
    region = explain(session, Question(region=str(tmp_path / "half.png")), "albedo", tmp_path / "a")
    assert len(region.value) == 3 and "texels of" in region.what
    assert sum(view["share"] for view in region.views) + region.prior == pytest.approx(1.0, abs=1e-4)
    pixel = explain(session, Question(pixel="train_0001,16,16"), "roughness", tmp_path / "b")
    assert "train_0001" in {view["name"] for view in pixel.views}


@pytest.mark.parametrize(
    ("question", "channel", "message"),
    [
        ({}, "roughness", "one of --texel, --point, --region and --pixel"),
        ({"texel": "0.1,0.1", "point": "0,0,0"}, "roughness", "given: --texel and --point"),
        ({"texel": "0.1"}, "roughness", "give 2 numbers"),
        ({"texel": "1.5,0.2"}, "roughness", "between 0 and 1"),
        ({"texel": "nan,0.2"}, "roughness", "give 2 numbers"),
        ({"texel": "0.0,0.0"}, "roughness", "between the charts; nearest: 0"),
        ({"point": "9,9,9"}, "roughness", "off the surface; the nearest point"),
        ({"region": "no-such.png"}, "roughness", "no-such.png"),
        ({"pixel": "train_001,3,3"}, "roughness", r"no view 'train_001'; did you mean train_00"),
        ({"pixel": "train_0001,99,3"}, "roughness", "32×32 pixels"),
        ({"pixel": "train_0001,0,0"}, "roughness", "shows no surface"),
        ({"pixel": "3,3"}, "roughness", "give a view, a column and a row"),
        ({"texel": "0.1,0.1"}, "gloss", "choose from albedo, roughness, metallic"),
        ({"texel": "0.5,0.5", "material": "lid"}, "roughness", "no such material; choose from material"),
    ],
)
def test_bad_questions_are_one_clear_line(run, tmp_path, question, channel, message):
    with pytest.raises(StspbrError, match=message) as raised:
        explain(open_session(run), Question(**question), channel, tmp_path / "out")
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


def test_without_views_the_maps_change_where_they_look(run, tmp_path):
    found = CliRunner().invoke(
        app, ["explain", str(run), "--without", "train_0001", "--json", "--out", str(tmp_path / "one")]
    )
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    assert answer["views"] == ["train_0001"] and set(answer["channels"]) == {"albedo", "roughness", "metallic"}
    for own in answer["channels"].values():
        assert 0 < own["mean"] <= own["most"] and 0 <= own["changed"] <= 1 and own["std_without"] >= own["std"]
    u, v = answer["place"]["texel"]
    change = read_pixels(tmp_path / "one" / "change.png")
    side = len(change)
    spot = change[int(v * side), int(u * side)].astype(float)  # the top of the scale: red up, blue down
    assert np.ptp(spot) > 0.5 * np.iinfo(np.uint8).max * (1 if change.max() > 1 else 1 / 255)
    assert (spot[0] > spot[2]) == (answer["place"]["change"] > 0)
    pictures = {path.name for path in (tmp_path / "one").iterdir()}
    assert {"change.exr", "change.png", "lost.png", "changed.png", "explanation.json"} <= pictures
    assert {f"{photo['name']}_change.png" for photo in answer["photos"]} <= pictures
    assert [photo["seen"] for photo in answer["photos"]] == sorted((p["seen"] for p in answer["photos"]), reverse=True)
    session = open_session(run)
    both = explain_removal(session, ["train_0001", "train_0000"], Question(), "roughness", tmp_path / "two")
    assert both.views == ["train_0000", "train_0001"] and both.left == answer["left"] - 1
    for name, own in both.channels.items():
        assert own["std_without"] >= answer["channels"][name]["std_without"] - 1e-9
        assert own["rests"] >= answer["channels"][name]["rests"] - 1e-9
    words = " ".join(both.lines())
    assert (
        both.change[0].shape[2] == 5 and float(both.change[0][..., 3].abs().max()) >= both.channels["roughness"]["most"]
    )
    assert "train_0000 and train_0001" in words and "predicted" in words and "roughness would change by" in words
    x, y, z = both.place["point"]  # a place of the surface, in the object's own units
    explain(session, Question(point=f"{x},{y},{z}"), "roughness", tmp_path / "there")
    pixel = explain_removal(session, ["train_0001"], Question(pixel="train_0001,16,16"), "albedo", tmp_path / "few")
    assert "pixel train_0001,16,16" in pixel.lines()[0] and pixel.channels["roughness"]["most"] > 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train_001"], r"no training view has this name; did you mean train_00"),
        ("all", "leave at least one"),
    ],
)
def test_views_that_cannot_be_left_out_are_one_clear_line(run, tmp_path, names, message):
    session = open_session(run)
    if names == "all":
        names = frame_labels(load_capture(session.parent("capture"), session).split("train"))
    with pytest.raises(StspbrError, match=message) as raised:
        explain_removal(session, names, Question(), "roughness", tmp_path / "out")
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


def test_explain_needs_a_bake(tiny_run):
    found = CliRunner().invoke(app, ["explain", str(tiny_run), "--texel", "0.5,0.5"])
    assert isinstance(found.exception, StspbrError) and "bake" in str(found.exception)


def test_capture_check_says_from_where_to_take_five_more(run, tiny_run, tmp_path):
    check, out = run_capture_check(run, tmp_path / "check", after=run)
    assert len(check.photos) == 5 and as_json(check)["next_photos"] == check.photos
    assert "Photographs to take next" in (out / "check.html").read_text("utf-8")
    with pytest.raises(StspbrError, match="no such folder"):
        run_capture_check(run, tmp_path / "other", after=tmp_path / "nothing")
    with pytest.raises(StspbrError, match="bake"):
        run_capture_check(run, tmp_path / "other", after=tiny_run)
    plain = tmp_path / "plain"
    shutil.copytree(run, plain)
    for version in ("v0002", "v0003"):
        shutil.rmtree(plain / "bake" / version)
    with pytest.raises(StspbrError, match="does not say how sure its maps are"):
        run_capture_check(run, tmp_path / "other", after=plain)
    assert not (tmp_path / "other").exists()


def test_the_report_shows_confidence(run):
    page = run_page(read_record(run))
    assert 'id="confidence"' in page and "white is sure, black is the prior" in page
    older = run_page(read_record(run, "v0001"))
    assert 'id="confidence"' not in older
