"""Attribution against formulas and finite differences; swaps, probes; the commands end to end on a tiny run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.neural.model import SceneModel, Views
from stspbr.optimize.attribution import completeness, every_pixel, of_picture, of_vector, pixels
from stspbr.optimize.scene_figures import probe_score, swap_efficiency
from stspbr.render.mitsuba_bsdf import llvm_status
from stspbr.scenes.generation import drawn_scene, kind_of
from stspbr.settings import SceneGenerateSettings
from stspbr.settings.scene_files import load_scene_config, parse_scene_config
from stspbr.settings.scene_model import CHANNELS
from stspbr.settings.scenes import train_settings
from stspbr.stages.scenes_attribute import Question, attribute_scene
from stspbr.stages.scenes_evaluate import evaluate_scenes, parameters
from stspbr.stages.scenes_generate import run_scenes_generate
from stspbr.stages.scenes_render import compose
from stspbr.stages.scenes_train import run_scenes_train
from stspbr.stages.session import Session


def _config(**top):
    values = json.loads(load_scene_config("room_mini")[0].model_dump_json())
    values["model"]["representations"][0] |= {
        "representation_dim": 12, "render_size": 16, "sharpening": 4, "final_sharpening": 2,
    }  # fmt: skip
    options = {"loss": ["logl1"], "layers": 1, "hidden_units": 8, "propagate_buffers": True, "end_relu": False}
    values["model"]["generators"][0] |= {"render_size": 16, "settings": options}
    small = {"batch_size": 3, "test_batch_size": 3, "views_per_scene": 3, "samples_per_pixel": 4}
    return parse_scene_config(values | small | top, "tiny")[0]


def _scene(config, seed=0):
    generator = torch.Generator().manual_seed(seed)
    buffers = {name: torch.rand(1, 3, CHANNELS[name], 16, 16, generator=generator) for name in config.passes}
    views = Views(buffers, torch.rand(1, 3, 16, generator=generator))
    return views.chosen(slice(0, -1)), views.chosen(slice(-1, None))


def _model():
    config = _config()
    return SceneModel(config, torch.Generator().manual_seed(1)).double(), config


def _double(views):
    return Views({name: values.double() for name, values in views.buffers.items()}, views.poses.double())


def test_an_attribution_is_the_mean_of_the_outputs_own_gradients():
    model, config = _model()
    observations, query = (_double(one) for one in _scene(config))
    outputs = pixels(16, 5, 6, 2)
    found = of_picture(model, observations, query, outputs)
    beauty = observations.buffers["beauty"].clone().requires_grad_()
    values = outputs(
        model.picture(model.represent(Views({**observations.buffers, "beauty": beauty}, observations.poses)), query)[0]
    )
    assert len(values) == 12
    each = [torch.autograd.grad(value, beauty, retain_graph=True)[0][0] for value in values]
    expected = torch.stack([(one * beauty.detach()[0]).abs() for one in each]).mean(dim=0)
    torch.testing.assert_close(found.observations["beauty"], expected)
    # the same question again gives the same answer: nothing was accumulated
    again = of_picture(model, observations, query, outputs)
    torch.testing.assert_close(again.observations["beauty"], found.observations["beauty"], rtol=0, atol=0)
    signed = of_picture(model, observations, query, outputs, signed=True)
    torch.testing.assert_close(
        signed.observations["beauty"], torch.stack([one * beauty.detach()[0] for one in each]).mean(dim=0)
    )
    assert set(found.query) == {"normal", "position", "id"}


def test_a_gradient_agrees_with_finite_differences():
    model, config = _model()
    observations, query = (_double(one) for one in _scene(config))
    found = of_picture(model, observations, query, every_pixel, signed=True)
    place = (1, 2, 7, 9)
    step, values = 1e-5, []
    for sign in (1, -1):
        moved = observations.buffers["beauty"].clone()
        moved[(0, *place)] += sign * step
        inside = Views({**observations.buffers, "beauty": moved}, observations.poses)
        with torch.no_grad():
            values.append(float(model.picture(model.represent(inside), query).mean()))
    expected = (values[0] - values[1]) / (2 * step) * float(observations.buffers["beauty"][(0, *place)])
    assert float(found.observations["beauty"][place]) == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_integrated_gradients_are_complete():
    model, config = _model()
    for seed in range(3):
        observations, query = (_double(one) for one in _scene(config, seed))
        assert completeness(of_picture(model, observations, query, pixels(16, 3, 3), steps=200)) < 0.02
        assert completeness(of_vector(model, observations, range(12), steps=200)) < 0.02
    with pytest.raises(StspbrError, match="integrated"):
        completeness(of_vector(model, observations, [0]))


def test_only_the_asked_channels_have_an_attribution():
    model, config = _model()
    observations, _ = (_double(one) for one in _scene(config))
    found = of_vector(model, observations, [2, 3])
    assert found.vector.nonzero().flatten().tolist() == [
        k for k in (2, 3) if float(found.representation[k]) > 0
    ]  # fmt: skip
    shares = found.partitions([(0, 4), (4, 8), (8, 12)])
    assert shares["light"]["share"] == pytest.approx(1.0)
    assert shares["light"]["per_channel"] == pytest.approx(3.0)


def test_what_is_not_in_the_room_is_not_asked_for():
    kind = kind_of(_config())
    rooms = [drawn_scene(kind, 0, "test", 0, k, -1) for k in range(12)]
    for scene in rooms:
        hidden = {shape.material for shape in scene.geometry if shape.transform[3][1] < -1.0}
        _, places = parameters(scene, 1)
        values, materials = parameters(scene, 2)
        assert places.sum() == 3 * len(scene.geometry) - 2 * len(hidden)
        assert materials.sum() == len(values) - 4 * len(hidden)
    assert len({parameters(scene, 2)[1].sum() for scene in rooms}) > 1
    assert parameters(rooms[0], 0)[1].all()


def test_probe_and_swap_scores():
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 5))
    targets = features @ random.normal(size=(5, 2))
    assert probe_score(features, targets, range(150), range(150, 200)) > 0.99
    assert probe_score(random.normal(size=(200, 5)), targets, range(150), range(150, 200)) < 0.1
    half = np.arange(200)[:, None] % 2 == 0
    noisy = np.where(half, targets, random.normal(size=targets.shape) * 9.0)
    assert probe_score(features, noisy, range(150), range(150, 200)) < 0.5
    known = np.broadcast_to(half, targets.shape)
    assert probe_score(features, noisy, range(150), range(150, 200), known) > 0.99
    assert swap_efficiency(1.0, 0.4, 0.2) == pytest.approx(0.75)
    assert swap_efficiency(0.0114, 0.0117, 0.0115) is None  # nothing can be gained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("mitsuba")
    ok, why = llvm_status()
    if not ok:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("run")
    session = Session.open(folder, device="cpu", threads=1, quiet=True)
    settings = SceneGenerateSettings(config=_config(), batches=2, test=2)
    first = run_scenes_generate(session, settings)
    run_scenes_train(session, train_settings(_config(), 8))
    return folder, first, settings


def _open(run):
    return Session.open(run[0], device="cpu", threads=1, quiet=True)


def test_generation_is_the_same_again_and_goes_on_where_it_was(run, tmp_path, monkeypatch):
    from stspbr.scenes import generation

    _, first, settings = run
    assert {"train/batch000000001.npz", "test/batch000000000.npz"} <= set(first.files)
    assert "scenes/test/batch000000001/scene0002/view002.json" in first.files
    original, calls = generation.rendered_batch, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(generation, "rendered_batch", failing)
    session = Session.open(tmp_path, device="cpu", threads=1, quiet=True)
    with pytest.raises(KeyboardInterrupt):
        run_scenes_generate(session, settings)
    again = run_scenes_generate(session, settings)
    assert again.content_hash == first.content_hash
    assert len(calls) == 5  # two finished, one interrupted, two left


def test_compositions_are_drawn_beside_their_truth(run):
    found = compose(_open(run), (0, 1, 2), rows=2, spp=4, animate=3)
    assert [row["scenes"] for row in found.rows] == [[0, 1, 2], [3, 4, 5]]
    assert all((found.folder / name).is_file() for name in found.files)
    assert np.isfinite([row["psnr"] for row in found.rows]).all()
    with pytest.raises(StspbrError, match="scene 99"):
        compose(_open(run), (0, 1, 99), spp=4)


def test_attributions_are_written_and_asked_again(run):
    found = attribute_scene(_open(run), Question("1", pixel="4,5", patch=2, integrated=16))
    assert found.completeness < 0.05
    assert sum(found.observations) == pytest.approx(1.0)
    assert sum(one["share"] for one in found.partitions.values()) == pytest.approx(1.0)
    held = np.load(found.folder / "R.npz")
    assert held["representation"].shape == (12,)
    assert held["lighting"][1] == held["geometry"][0]
    assert (found.folder / "representation" / "beauty_grad.npz").is_file()
    assert (found.folder / "generator" / "normal.png").is_file()
    again = attribute_scene(_open(run), Question(str(found.folder / "settings.json")), found.folder / "again")
    assert again.observations == found.observations
    scene = run[1].path / "scenes/test/batch000000000/scene0001"
    assert attribute_scene(_open(run), Question(str(scene), mean=True), found.folder / "json").what == "mean"
    for question, words in (
        (Question("0"), "give one of"),
        (Question("0", pixel="a"), "two whole numbers"),
        (Question("0", pixel="16,0"), "not in the picture"),
        (Question("0", latent=12), "12 channels"),
        (Question("0", partition="lights"), "choose light"),
        (Question("77", mean=True), "scene 77"),
        (Question("nowhere", mean=True), "no scene here"),
    ):
        with pytest.raises(StspbrError, match=words):
            attribute_scene(_open(run), question)


def test_figures_are_measured(run):
    found = evaluate_scenes(_open(run), 2, 4)
    assert set(found.swap) == set(found.probe) == {"light", "geometry", "material"}
    assert found.completeness < 0.2
    assert json.loads((run[0] / "scenes-figures.json").read_text())["blanking"] == found.blanking
    assert len(found.lines()) >= 12


def test_the_commands_say_bad_input_in_one_line(run, tmp_path, capsys):
    from stspbr import cli

    def fails(*words):
        with pytest.raises(SystemExit) as caught, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["stspbr", "scenes", *words])
            cli.main()
        said = capsys.readouterr().err.strip()
        assert caught.value.code == 2
        assert "Traceback" not in said
        return said

    broken = tmp_path / "c.json"
    broken.write_text('{"iteratoins": 3, "model": {"representations": [{}], "generators": [{"type": "GQN"}]}}')
    assert fails("train", str(tmp_path), "--config", str(broken), "--threads", "1").count("\n") == 0
    assert "did you mean room_mini" in fails("train", str(tmp_path), "--config", "room_mine", "--threads", "1")
    assert "scenes generate" in fails("train", str(tmp_path), "--threads", "1")
    assert "choose run or config" in fails("train", str(tmp_path), "--data", "here", "--threads", "1")
    assert "scenes train" in fails("render", str(tmp_path), "--threads", "1")
    assert "choose light" in fails("attribute", str(run[0]), "--partition", "lamp", "--threads", "1")


def test_the_example_composes(run, capsys):
    import importlib.util
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "examples" / "compose_scenes.py"
    spec = importlib.util.spec_from_file_location("example_compose_scenes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(path), str(run[0]), "--spp", "4", "--scenes", "2", "1", "0"])
        module.main()
    assert "light of 2, shapes of 1, materials of 0" in capsys.readouterr().out


def test_the_page_shows_compositions_and_attributions(run):
    from stspbr.stages.scenes_source import Source
    from stspbr.stages.scenes_view import ModelShow
    from stspbr.view.scene_view import SceneChoice, canvas, tiles

    show = ModelShow(Source.open(_open(run)))
    own = show.predict(SceneChoice(query_spp=4))
    assert own.predicted.shape == (16, 16, 3)
    assert len(own.observations) == 2
    mixed = show.predict(SceneChoice(light=1, material=2, query_spp=4))
    assert np.abs(mixed.predicted - own.predicted).max() > 0
    moved = show.predict(SceneChoice(round=1, query_spp=4, observation_spp=4))
    assert np.abs(moved.observations[0] - own.observations[0]).max() > 0
    asked = SceneChoice(query_spp=4, pixel=(3, 4), patch=2)
    shown = show.predict(asked)
    assert shown.heat.shape == (2, 16, 16)
    assert "pixel 3,4 comes from light" in shown.lines[-1]
    reference = show.reference(asked, 0)
    assert np.abs(reference - show.reference(asked, 1)).max() > 0
    image = canvas(shown, reference, asked, 640, 400)
    assert image.shape == (400, 640, 3)
    places = tiles(640, 400, 2, 3)
    for a in places.values():
        assert 0 <= a.left and a.left + a.side <= 640 and a.top + a.side <= 400
        others = [b for b in places.values() if b is not a]
        assert all(abs(a.left - b.left) >= min(a.side, b.side) or abs(a.top - b.top) >= a.side for b in others)
    tile = places["predicted"]
    assert tile.pixel(tile.left + tile.side * 0.26, tile.top + tile.side * 0.51, 16) == (4, 8)
    assert tile.pixel(tile.left - 1, tile.top, 16) is None
