"""Evaluation of a bake made by hand, so that what it should say is known."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from stspbr.errors import StspbrError
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import read_pixels, write_hdr
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.scene import Asset
from stspbr.settings import EvaluateSettings
from stspbr.stages.error_record import ErrorRecord, compared_table, error_table
from stspbr.stages.evaluate import load_lights, run_evaluate
from stspbr.stages.session import Session

CAPTURED = EvaluateSettings(reference_capture=True, samples=2000, footprint_samples=200, views=1, map_resolution=64)


@pytest.fixture(scope="module")
def rougher() -> Asset:
    """The jar that was captured, but 0.1 rougher everywhere; a third of the size of its maps."""
    jar = demo_asset(128)
    return replace(jar, materials=[replace(m, roughness=m.roughness + np.float32(0.1)) for m in jar.materials])


def baked(tiny_run: Path, folder: Path, asset: Asset, learned: bool = False) -> Path:
    """A run with the tiny capture and ``asset`` for its bake."""
    shutil.copytree(tiny_run, folder)
    session = Session.open(folder, device="cpu", quiet=True)
    parent = session.parent("capture")
    for stage in ("coarse", "specialize", "bake"):
        with session.store.create(stage, settings={}, parents=[parent], seed=0) as draft:
            if stage == "bake":
                write_glb(draft.path / "asset.glb", asset, texture_bits=16)
                write_hdr(draft.path / "light.hdr", demo_light().radiance * np.float32(2.0 if learned else 1.0))
                (draft.path / "metrics.json").write_text('{"export_psnr": 50.0}')
                if learned:
                    (draft.path / "light.safetensors").write_bytes(b"")
        parent = draft.artifact
    return folder


def evaluated(run: Path, settings: EvaluateSettings = CAPTURED) -> tuple[dict, Path]:
    artifact = run_evaluate(Session.open(run, device="cpu", quiet=True), settings)
    return json.loads(artifact.file("errors.json").read_text()), artifact.path


@pytest.fixture(scope="module")
def plain(tiny_run, tmp_path_factory, rougher):
    return evaluated(baked(tiny_run, tmp_path_factory.mktemp("plain") / "run", rougher))


def test_the_error_that_was_put_in_comes_out(plain):
    errors, _ = plain
    lit = errors["material"]["lit"]
    assert lit["roughness_mae"] == pytest.approx(0.1, abs=0.005)
    assert lit["roughness_bias"] == pytest.approx(0.1, abs=0.005)
    assert lit["metallic_mae"] < 0.02 and lit["albedo_mae"] < 0.02 and lit["normal_angle_mean"] < 0.5
    assert errors["material_at_footprint"]["footprint"] > 0
    assert errors["material_at_footprint"]["lit"]["roughness_bias"] == pytest.approx(0.1, abs=0.01)
    assert errors["geometry"]["chamfer_l1"] < 1e-6 and errors["geometry"]["genus"] == 0
    assert 15 < errors["views"]["psnr"] < 60 and errors["views"]["count"] == 2
    assert errors["views"]["psnr"] == pytest.approx(np.mean([row["psnr"] for row in errors["views"]["per_view"]]))
    assert errors["alignment"]["mode"] == "none" and errors["alignment"]["matrix"] == np.eye(4).tolist()
    assert errors["relighting"] is None and errors["light"] is None  # the light was known
    assert errors["reference"] == "procedural:demo" and errors["bake"] == {"export_psnr": 50.0}


def test_the_files_are_there_and_show_it(plain):
    _, folder = plain
    for channel in ("albedo", "roughness", "metallic", "normal"):
        shapes = {
            read_pixels(folder / f"maps/{kind}_{channel}.png").shape for kind in ("reference", "estimate", "error")
        }
        assert shapes == {(64, 64, 3)}
    difference = read_pixels(folder / "maps/estimate_roughness.png") - read_pixels(
        folder / "maps/reference_roughness.png"
    )
    assert np.median(difference) == pytest.approx(0.1, abs=0.01)
    for kind in ("target", "result", "error"):
        assert read_pixels(folder / f"views/test_0000_{kind}.png").shape == (32, 32, 3)
    assert (folder / "views/test_0000_material_error.png").stat().st_size > 500
    assert read_pixels(folder / "contact_sheet.png").ndim == 3


def test_csv_holds_the_same_metrics(plain):
    errors, folder = plain
    with (folder / "errors.csv").open(newline="") as stream:
        rows = {(r["group"], r["region"], r["metric"]): r for r in csv.DictReader(stream)}
    lit = errors["material"]["lit"]
    row = rows["material", "lit", "roughness_mae"]
    assert float(row["value"]) == lit["roughness_mae"]
    assert float(row["standard_error"]) == lit["roughness_mae_se"]
    assert float(rows["views", "mean", "psnr"]["value"]) == errors["views"]["psnr"]
    assert float(rows["geometry", "", "f_score_1%"]["value"]) == 1.0
    assert float(rows["geometry", "reference", "genus"]["value"]) == 0
    assert ("views", "images/test_0001.exr", "ssim") in rows
    assert not any(metric.endswith("_se") for _, _, metric in rows)


def test_the_record_has_a_schema(plain):
    errors, _ = plain
    ErrorRecord.model_validate(errors)
    ErrorRecord.model_validate({**errors, "views": {**errors["views"], "exposure": "fitted"}})  # of photographs
    assert "lit" in ErrorRecord.model_json_schema()["$defs"]["MaterialErrors"]["properties"]
    for broken in (
        {**errors, "schema": 2},
        {**errors, "surprise": 1},
        {k: v for k, v in errors.items() if k != "views"},
    ):
        with pytest.raises(ValidationError):
            ErrorRecord.model_validate(broken)


def test_the_terminal_table_names_every_part(plain):
    rows = dict(error_table(plain[0]))
    assert rows["roughness MAE"].startswith(f"{plain[0]['material']['lit']['roughness_mae']:.4f} ± ")
    assert rows["geometry: genus"] == "0 (reference 0)" and "SSIM" in rows["held-out views"]
    assert {"false metal", "missed metal", "shading normals", "points compared"} <= set(rows)


def test_the_same_work_has_the_same_content(plain, tiny_run, tmp_path, rougher):
    again = evaluated(baked(tiny_run, tmp_path / "run", rougher))
    assert again[0] == plain[0]
    manifests = [json.loads((folder / "manifest.json").read_text()) for _, folder in (plain, again)]
    assert manifests[0]["files"] == manifests[1]["files"]


def test_another_asset_stands_beside_the_result(tiny_run, tmp_path, rougher):
    """The other one is half as rough again, larger and moved; aligned, its errors are those that were put in."""
    jar = demo_asset(128)
    other = replace(jar, materials=[replace(m, roughness=m.roughness + np.float32(0.2)) for m in jar.materials])
    matrix = np.diag([1.06, 1.06, 1.06, 1.0])
    matrix[:3, 3] = 0.02, -0.04, 0.01
    write_glb(tmp_path / "theirs.glb", other.transformed(matrix), texture_bits=16)
    run = baked(tiny_run, tmp_path / "run", rougher)
    settings = CAPTURED.model_copy(update={"other": str(tmp_path / "theirs.glb"), "other_align": "sim3"})
    errors, folder = evaluated(run, settings)
    ErrorRecord.model_validate(errors)
    theirs = errors["other"]
    assert theirs["name"] == "theirs.glb" and theirs["alignment"]["mode"] == "sim3"
    np.testing.assert_allclose(np.array(theirs["alignment"]["matrix"]) @ matrix, np.eye(4), atol=3e-3)
    assert theirs["material"]["lit"]["roughness_mae"] == pytest.approx(0.2, abs=0.01)
    assert errors["material"]["lit"]["roughness_mae"] == pytest.approx(0.1, abs=0.005)  # ours is as it was
    assert theirs["geometry"]["chamfer_l1"] < 1e-3
    assert theirs["views"]["psnr"] < errors["views"]["psnr"]
    rows = {label: (ours, its) for label, ours, its in compared_table(errors)}
    for text, part in zip(rows["roughness MAE"], (errors, theirs), strict=True):
        assert text.startswith(f"{part['material']['lit']['roughness_mae']:.4f} ± ")
    assert rows["aligned by"] == ("", "sim3")
    with (folder / "errors.csv").open(encoding="utf-8", newline="") as stream:
        found = {(row["group"], row["region"], row["metric"]): row["value"] for row in csv.DictReader(stream)}
    key = ("lit", "roughness_mae")
    assert float(found["other/material", *key]) == theirs["material"]["lit"]["roughness_mae"]
    assert float(found["material", *key]) == errors["material"]["lit"]["roughness_mae"]
    assert len(list((folder / "views").glob("*_other.png"))) == 1


def test_alignment_is_done_only_when_asked(tiny_run, tmp_path, rougher):
    c, s = np.cos(0.05), np.sin(0.05)
    matrix = np.eye(4)
    matrix[:3, :3] = 1.08 * np.float64([[1, 0, 0], [0, c, -s], [0, s, c]])
    matrix[:3, 3] = 0.03, -0.05, 0.02
    write_glb(tmp_path / "moved.glb", demo_asset(128).transformed(matrix), texture_bits=16)
    run = baked(tiny_run, tmp_path / "run", rougher)
    settings = CAPTURED.model_copy(update={"reference_capture": False, "reference": str(tmp_path / "moved.glb")})
    loose, _ = evaluated(run, settings)
    fitted, _ = evaluated(run, settings.model_copy(update={"align": "sim3"}))
    np.testing.assert_allclose(fitted["alignment"]["matrix"], matrix, atol=2e-3)
    assert loose["geometry"]["chamfer_l1"] > 10 * fitted["geometry"]["chamfer_l1"]
    assert loose["material"]["too_far"] > 0.1 * loose["material"]["samples"] and fitted["material"]["too_far"] == 0
    # cameras follow the estimate: what they saw does not depend on the frame that the reference is in
    assert fitted["material"]["unseen"] < 0.2 * fitted["material"]["samples"]
    assert fitted["material"]["lit"]["roughness_bias"] == pytest.approx(0.1, abs=0.01)
    assert fitted["views"]["psnr"] == loose["views"]["psnr"]  # views are of the capture, nothing is moved there


def test_a_learned_light_is_compared_with_the_true_one(tiny_run, tmp_path, rougher):
    errors, _ = evaluated(baked(tiny_run, tmp_path / "run", rougher, learned=True))
    # the same light, twice as bright
    np.testing.assert_allclose(errors["light"]["irradiance"]["common_scale"], 0.5, rtol=0.02)
    assert errors["light"]["irradiance"]["relative_error_common"] < 0.05 and errors["light"]["direction_error"] < 5
    assert any(label.startswith("light:") for label, _ in error_table(errors))


def test_relighting_by_the_path_tracer(tiny_run, tmp_path, rougher):
    pytest.importorskip("mitsuba")
    write_hdr(tmp_path / "bright.hdr", np.roll(demo_light(16).radiance, 9, axis=1))
    settings = CAPTURED.model_copy(update={"lights": [str(tmp_path / "*.hdr")], "relight_samples": 4})
    errors, folder = evaluated(baked(tiny_run, tmp_path / "run", rougher), settings)
    assert list(errors["relighting"]) == ["bright"]
    assert 10 < errors["relighting"]["bright"]["psnr"] < 80 and len(errors["relighting"]["bright"]["per_view"]) == 1
    assert sorted(p.name for p in (folder / "relit").iterdir())[-1].startswith("bright_test_0000")
    assert dict(error_table(errors))["relit by bright"]


def test_lights_are_files_folders_and_patterns(tmp_path):
    for name in ("a.hdr", "b.hdr"):
        write_hdr(tmp_path / name, np.ones((4, 8, 3), np.float32))
    assert list(load_lights([str(tmp_path)])) == ["a", "b"] == list(load_lights([str(tmp_path / "*.hdr")]))
    assert list(load_lights([str(tmp_path / "b.hdr"), str(tmp_path)])) == ["b", "a"]
    assert load_lights([]) == {} and list(load_lights(["procedural:demo"])) == ["demo"]
    with pytest.raises(StspbrError, match="no HDR or EXR"):
        load_lights([str(tmp_path / "*.exr")])
    (tmp_path / "more").mkdir()
    write_hdr(tmp_path / "more/a.hdr", np.ones((4, 8, 3), np.float32))
    with pytest.raises(StspbrError, match="two lights are called a"):
        load_lights([str(tmp_path), str(tmp_path / "more")])
    with pytest.raises(StspbrError, match=r"absent\.hdr"):
        load_lights([str(tmp_path / "absent.hdr")])


def test_command_line_takes_unquoted_patterns(tmp_path, monkeypatch, capsys):
    from stspbr import cli

    seen = []
    monkeypatch.setattr(cli.stages, "run_stage", lambda stage, run, settings, *rest, **options: seen.append(settings))
    monkeypatch.setattr("sys.argv", ["stspbr", "evaluate", str(tmp_path), "--quiet", "--lights", "a.hdr", "b.hdr"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code and seen[0].lights == ["a.hdr", "b.hdr"] and seen[0].align == "none"
    assert seen[0].reference is None and seen[0].reference_capture
    monkeypatch.setattr("sys.argv", ["stspbr", "evaluate", str(tmp_path), "b.glb"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and "b.glb: unexpected" in capsys.readouterr().err
