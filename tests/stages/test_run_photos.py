"""`stspbr run photos`: what it makes of its options, what it expects, and the whole way on ray-cast photos."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from stspbr.cli import main
from stspbr.errors import StspbrError
from stspbr.settings import CapturePhotosSettings, PhotoRunSettings
from stspbr.stages.run_photos import asset_file, photo_recipe, run_folder
from stspbr.stages.time_estimate import Photographs, expected_seconds, machine_pace


def wanted(folder="shots/my shoe", **changes) -> PhotoRunSettings:
    return PhotoRunSettings(folder=folder, **changes)


def test_names_come_from_the_folder():
    settings = wanted()
    assert run_folder(settings) == Path("runs/my-shoe") and asset_file(settings)[0] == Path("my-shoe.glb")
    assert asset_file(wanted(out="a/b.usdz"))[1].to == "usdz"
    assert run_folder(wanted(run="here")) == Path("here")


def test_a_format_that_there_is_not(tmp_path):
    with pytest.raises(StspbrError, match=r"--out shoe.fbx: the name must end with one of .glb, "):
        asset_file(wanted(out="shoe.fbx"))
    (tmp_path / "x.glb").mkdir()
    with pytest.raises(StspbrError, match="a folder has that name"):
        asset_file(wanted(out=str(tmp_path / "x.glb")))


def test_the_recipe_is_that_of_the_quality_with_what_was_said():
    recipe = photo_recipe(wanted(quality="draft", masks="m", light="flash"), ["coarse.optimize.iterations=7"])
    capture = recipe.capture
    assert isinstance(capture, CapturePhotosSettings)
    assert (capture.folder, capture.masks, capture.light, capture.mask) == ("shots/my shoe", "m", "flash", "auto")
    assert recipe.coarse.optimize.iterations == 7 and recipe.name == "my-shoe"
    with pytest.raises(StspbrError, match="makes a capture of photographs"):
        photo_recipe(wanted(), ["capture.kind=nerf"])


def test_better_quality_is_expected_to_take_longer():
    photos = Photographs([(4000, 3000)] * 60, masked=False)
    seconds = [
        sum(expected_seconds(photo_recipe(wanted(quality=quality)), photos, 1.0).values())
        for quality in ("draft", "standard", "fine")
    ]
    assert seconds[0] < seconds[1] < seconds[2]
    recipe = photo_recipe(wanted())
    carved = photo_recipe(wanted(), ["coarse.geometry.initial=stereo"])  # depths are sought
    assert expected_seconds(carved, photos, 1.0)["coarse"] > expected_seconds(recipe, photos, 1.0)["coarse"]
    slow = expected_seconds(recipe, photos, 3.0)
    assert slow["coarse"] == pytest.approx(3.0 * expected_seconds(recipe, photos, 1.0)["coarse"])
    more = Photographs([(4000, 3000)] * 120, masked=False)
    assert expected_seconds(recipe, more, 1.0)["capture"] > 2.0 * expected_seconds(recipe, photos, 1.0)["capture"]


def test_the_pace_is_a_positive_number():
    assert 0.0 < machine_pace(torch.device("cpu"), tries=1) < 1000.0


def test_errors_are_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, says in (
        (["gone"], "gone is not a folder of photos"),
        ([".", "--out", "x.abc"], "--out x.abc: the name must end with"),
        ([".", "--quality", "best"], "draft"),
    ):
        monkeypatch.setattr(sys, "argv", ["stspbr", "run", "photos", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr().err
        assert caught.value.code == 2 and says in said and "Traceback" not in said, said


def ball_scene(*arguments, **options):
    path = Path(__file__).parents[1] / "photos" / "conftest.py"
    spec = importlib.util.spec_from_file_location("ball_photos_of_a_run", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.ball_scene(*arguments, **options)


_QUICK = [
    "capture.max_side=64", "coarse.geometry.resolution=14", "coarse.optimize.iterations=4",
    "specialize.optimize.iterations=4", "specialize.survey.observations=4000", "bake.optimize.iterations=3",
    "bake.texture_resolution=64", "bake.target_faces=300", "bake.confidence.observations=4000",
    "coarse.light.learned_resolution=16",
]  # fmt: skip


def run_main() -> None:
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)


@pytest.mark.slow
def test_a_folder_becomes_an_asset_and_again_at_once(tmp_path, capsys, monkeypatch):
    pytest.importorskip("pycolmap")
    pytest.importorskip("cv2")
    (tmp_path / "ball").mkdir()
    for k, image in enumerate(ball_scene(10, (320, 240), arc=300.0).images):
        Image.fromarray(image).save(tmp_path / "ball" / f"p{k}.png")
    monkeypatch.chdir(tmp_path)
    changes = [word for change in _QUICK for word in ("--set", change)]
    words = ["stspbr", "run", "photos", "ball", "--quality", "draft", "--threads", "1", *changes]
    monkeypatch.setattr(sys, "argv", words)
    run_main()
    said = capsys.readouterr().out
    assert "expect about" in said and "wrote ball.glb" in said and "next:" in said and "result.png" in said
    assert (tmp_path / "ball.glb").stat().st_size > 10_000 and (tmp_path / "runs/ball/report.html").is_file()
    facts = json.loads((tmp_path / "runs/ball/capture/v0001/run.json").read_text())["photos"]
    assert len(facts["mask_confidence"]) >= 8
    run_main()
    assert capsys.readouterr().out.count("is up to date") == 5
    Image.new("RGB", (320, 240)).save(tmp_path / "ball" / "extra.png")
    run_main()
    assert "capture: running" in capsys.readouterr().out  # the folder has changed
