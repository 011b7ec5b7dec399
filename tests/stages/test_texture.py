"""`stspbr texture`: the whole stage with an exact prior, its artifact in other commands, resuming, bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.gltf.writer import write_glb
from stspbr.priors.bank import BankPrior
from stspbr.priors.vocabulary import Vocabulary
from stspbr.procedural.by_name import procedural_asset
from stspbr.scene import Asset, Corners
from stspbr.settings import EvaluateSettings, RelightSettings, TextureSettings, UnpackSettings
from stspbr.stages import texture as stage
from stspbr.stages.session import Session

pytestmark = pytest.mark.usefixtures("coarse_lights")

SETTINGS = TextureSettings(
    mesh="procedural:knob", prompt="rough clay, polished brass plate", size=32, steps=[6], views=2, survey=2,
    turntable=1, lights=["procedural:studio", "procedural:window"], preview_every=3, checkpoint_every=2,
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_bank(monkeypatch):
    """Pictures of 24²."""
    monkeypatch.setattr(stage, "load_prior", lambda *_: BankPrior(Vocabulary.read(), 24))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def opened(folder, cache, **others):
    """A session whose filtered lights are shared by the tests: filtering takes most of the time."""
    folder.mkdir(exist_ok=True)
    if not (folder / ".cache").exists():
        (folder / ".cache").symlink_to(cache)
    return Session.open(folder, threads=1, quiet=True, **others)


def test_the_artifact_is_a_bake_that_other_commands_read(tmp_path, cache):
    session = opened(tmp_path / "run", cache)
    bake = stage.run_texture(session, SETTINGS)
    assert bake.stage == "bake"
    assert {"asset.glb", "obj/asset.obj", "light.hdr", "metrics.json"} <= set(bake.files)
    assert sum(name.startswith("progress/") for name in bake.files) == 2
    assert sum(name.startswith("turntable/") for name in bake.files) == 2
    asset = read_gltf(bake.file("asset.glb"))
    assert [material.name for material in asset.materials] == ["knob", "plate"]
    metallic = [float(np.mean(material.metallic)) for material in asset.materials]
    assert metallic[0] < 0.4 < 0.6 < metallic[1]
    metrics = json.loads(bake.file("metrics.json").read_text())
    assert metrics["prompts"] == {"knob": "rough clay", "plate": "polished brass"}
    assert metrics["coverage"]["unseen_share"] < 0.5

    from stspbr.stages.evaluate import run_evaluate
    from stspbr.stages.export_asset import export_asset
    from stspbr.stages.relight import run_relight
    from stspbr.stages.report import write_report
    from stspbr.stages.unpack_orm import run_unpack_orm
    from stspbr.stages.view_source import RunSource
    from stspbr.view.run_state import look

    assert "plate_metallic.png" in run_unpack_orm(session, UnpackSettings()).files
    found = run_evaluate(session, EvaluateSettings(prompt=True))
    parts = json.loads(found.file("prompt.json").read_text())["parts"]
    assert set(parts) == {"knob", "plate"} and all(part["right_side"] for part in parts.values())
    with pytest.raises(StspbrError, match="no photographs"):
        run_evaluate(session, EvaluateSettings())
    relit = run_relight(session, RelightSettings(lights=["procedural:studio"], views=1, resolution=32))
    assert sum(name.endswith(".png") for name in relit.files) == 1
    from stspbr.settings import ExportSettings

    out = tmp_path / "out.glb"
    export_asset(str(tmp_path / "run"), out, ExportSettings(to="glb"))
    assert read_gltf(out).mesh.faces.shape == asset.mesh.faces.shape
    assert "rough clay" in write_report(tmp_path / "run").read_text()
    newest = look(tmp_path / "run").newest()
    assert newest is not None and RunSource(session).subject(newest) is not None


def test_a_resumed_run_gives_the_same_bytes(tmp_path, cache, monkeypatch):
    whole = stage.run_texture(opened(tmp_path / "a", cache), SETTINGS)
    session = opened(tmp_path / "b", cache)
    real = stage.Distillation.terms

    def killed(self, step, *rest):
        if step == 5:
            raise KeyboardInterrupt
        return real(self, step, *rest)

    monkeypatch.setattr(stage.Distillation, "terms", killed)
    with pytest.raises(KeyboardInterrupt):
        stage.run_texture(session, SETTINGS)
    monkeypatch.setattr(stage.Distillation, "terms", real)
    session.resume = True
    resumed = stage.run_texture(session, SETTINGS)
    assert resumed.content_hash == whole.content_hash


def test_nets_make_the_maps_with_dip(tmp_path, cache):
    settings = SETTINGS.model_copy(update={"param": "dip", "steps": [2], "survey": 0})
    bake = stage.run_texture(opened(tmp_path, cache), settings)
    assert np.ptp(read_gltf(bake.file("asset.glb")).materials[0].albedo) > 0
    with pytest.raises(StspbrError, match="multiple of 16"):
        stage.run_texture(opened(tmp_path, cache), settings.model_copy(update={"size": 40}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "polished bras"}, "nearest known: brass"),
        ({"prompt": "brass plate"}, "says nothing of knob"),
        ({"prompt": " , "}, "--prompt is empty"),
        ({"prompt": "brass", "part": ["plat=clay"]}, "did you mean plate"),
        ({"prompt": "brass", "part": ["plate"]}, "NAME=PROMPT"),
        ({"prompt": "brass, clay plate", "part": ["plate=gold"]}, "already has a prompt"),
        ({"mesh": "nowhere.glb", "prompt": "brass"}, "nowhere.glb"),
        ({"steps": [0]}, "at least one resolution"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, cache, change, message):
    session = opened(tmp_path / "run", cache)
    with pytest.raises(StspbrError, match=message) as error:
        stage.run_texture(session, SETTINGS.model_copy(update=change))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "bake").exists()


@pytest.mark.parametrize("fault", ["no faces", "NaN"])
def test_a_mesh_that_cannot_be_textured_is_one_line(tmp_path, cache, fault, monkeypatch):
    asset = procedural_asset("procedural:knob")
    if fault == "NaN":
        uvs = asset.mesh.required("uvs")
        values = uvs.values.copy()
        values[3] = np.nan
        asset = replace(asset, mesh=replace(asset.mesh, uvs=Corners(values, uvs.index)))
        monkeypatch.setattr("stspbr.stages.texture_subject.load_mesh_asset", lambda _: asset)
    else:
        empty = asset.mesh.of_faces(np.zeros(0, np.int64))
        monkeypatch.setattr("stspbr.stages.prior.procedural_asset", lambda _: Asset(empty, asset.materials))
    with pytest.raises(StspbrError, match=fault):
        stage.run_texture(opened(tmp_path, cache), SETTINGS)


def test_a_mesh_without_uvs_gets_new_ones(tmp_path, cache):
    asset = procedural_asset("procedural:knob")
    bare = replace(asset, mesh=replace(asset.mesh, uvs=None, tangents=None))
    write_glb(tmp_path / "bare.glb", bare)
    settings = SETTINGS.model_copy(update={"mesh": str(tmp_path / "bare.glb"), "size": 64})
    subject = stage.read_subject(opened(tmp_path, cache), settings)
    assert subject.renewed == [0, 1] and all(len(texels.texel) > 0 for texels in subject.texels)


def test_the_first_run_makes_a_prior_where_none_is_shipped_and_the_second_finds_it(tmp_path, cache, monkeypatch):
    calls = []

    def trained(session, settings):
        calls.append(settings)
        with session.create("prior", settings) as draft:
            (draft.path / "prior.safetensors").write_bytes(b"weights")
        return draft.artifact

    monkeypatch.setattr(stage, "run_prior_train", trained)
    session = opened(tmp_path, cache)
    first = stage.first_prior(session)
    assert stage.first_prior(session) == first and first.read_bytes() == b"weights" and len(calls) == 1
