"""Crops of large views: their cameras and pixels, where they are drawn, and that a stage resumes with them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.optimize.crops import Crops
from stspbr.optimize.distributed import Ranks
from stspbr.optimize.losses import tonemap
from stspbr.optimize.map_adam import MapAdam
from stspbr.optimize.progress import Reporter
from stspbr.optimize.views import OVERVIEW_SIDE, WHOLE_SIDE, Targets, ViewSet, crop_side, equal_side
from stspbr.procedural.jar import demo_asset
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.blocks import render_view
from stspbr.render.gbuffer import Surface, ViewBatch, compose, coverage_image, render_gbuffer
from stspbr.render.light import EnvironmentCube
from stspbr.scene import Camera, Corners, Frame, look_at
from stspbr.settings import CoarseSettings, RefineSettings, settings_for
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session

CPU = torch.device("cpu")
BACKEND = get_backend("cpu", CPU)
WIDTH, HEIGHT = 700, 410  # larger than a whole view, reduced by 3, with a rest
CROP_SIDE = 160


def disk(name: str, centre: tuple[float, float], radius: float, seed: int = 0, **fields) -> Frame:
    """A frame of noise inside a disk."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    alpha = (np.hypot(columns - centre[0], rows - centre[1]) < radius).astype(np.float32)[..., None]
    image = np.random.default_rng(seed).random((HEIGHT, WIDTH, 3), dtype=np.float32) * alpha
    camera = Camera(look_at((0.5, 1, 3 + seed), (0, 0, 0)), 600.0, 610.0, 352.0, 200.0, WIDTH, HEIGHT)
    return Frame(name, camera, image, alpha, **fields)


@pytest.fixture(scope="module")
def views() -> ViewSet:
    frames = [disk("a", (500, 150), 60), disk("b", (200, 300), 40, 1), disk("c", (350, 205), 190, 2, saturation=1.0)]
    return ViewSet(frames, 1, CPU, crop=CROP_SIDE)


@pytest.mark.parametrize(
    ("crop", "resolution", "wanted"),
    [
        ("auto", (WHOLE_SIDE, WHOLE_SIDE), 0),
        ("auto", (100, WHOLE_SIDE + 1), OVERVIEW_SIDE),
        (0, (3000, 4000), 0),
        (256, (256, 256), 0),
        (256, (200, 257), 256),
    ],
)
def test_side_of_the_crops(crop, resolution, wanted):
    assert crop_side(crop, resolution) == wanted


def test_crops_have_as_many_covered_pixels_as_whole_small_views():
    """Disks that fill a quarter of views of 960², reduced to 320²; squares inside of a larger one are full of it."""
    side = 240
    rows, columns = np.mgrid[:side, :side] + 0.5
    distance = np.hypot(columns - side / 2, rows - side / 2)
    alpha = np.stack([(distance < radius).astype(np.float32) for radius in (60, 62, 58)])
    wanted = alpha.sum() / 3
    for scale in (2, 4, 16):
        chosen = equal_side(alpha, scale)
        assert chosen % 16 == 0 and 64 <= chosen <= OVERVIEW_SIDE
        middles = np.argwhere(alpha[0] > 0)[::50]
        whole = np.repeat(np.repeat(alpha[0], scale, axis=0), scale, axis=1)
        covered = []
        for row, column in middles * scale + scale // 2:
            top, left = (int(np.clip(v - chosen / 2, 0, side * scale - chosen)) for v in (row, column))
            covered.append(whole[top : top + chosen, left : left + chosen].sum())
        assert 0.8 * wanted < np.mean(covered) < 1.35 * wanted, scale
    assert equal_side(np.ones((2, side, side), np.float32), 4) == side
    assert equal_side(np.zeros((2, side, side), np.float32), 4) == 64


def test_a_crop_shows_the_frame_s_pixels_through_its_own_camera(views):
    windows = [(17, 33), (540, 250), (300, 0)]
    batch, targets = views.crops([2, 0, 1], windows)
    assert batch.resolution == (CROP_SIDE, CROP_SIDE) == targets.image.shape[1:3]
    point = np.array([0.3, -0.2, 0.1, 1.0])
    for place, (number, (left, top)) in enumerate(zip((2, 0, 1), windows, strict=True)):
        image, alpha = views.whole(number)
        part = slice(top, top + CROP_SIDE), slice(left, left + CROP_SIDE)
        np.testing.assert_array_equal(targets.image[place], image[part])
        np.testing.assert_array_equal(targets.alpha[place], alpha[part])
        clip = views.camera(number).clip_from_object(np.eye(4)) @ point
        whole = (clip[:2] / clip[3] * 0.5 + 0.5) * (WIDTH, HEIGHT)
        own = batch.clip_from_object[place].double().numpy() @ point
        np.testing.assert_allclose((own[:2] / own[3] * 0.5 + 0.5) * CROP_SIDE, whole - (left, top), atol=1e-3)
    assert targets.saturation.flatten().tolist() == [1.0, float("inf"), float("inf")]


def test_crops_of_reduced_views(views):
    frames = [disk("a", (500, 150), 60)]
    reduced = ViewSet(frames, 2, CPU, crop=64)
    batch, targets = reduced.crops([0], [(200, 40)])
    assert reduced.full == (205, 350) and batch.resolution == (64, 64)
    whole = ViewSet(frames, 2, CPU)
    assert whole.crop == 0 and whole.overview == 1 and whole.resolution == (205, 350)
    np.testing.assert_array_equal(targets.image[0], whole.image[0, 40:104, 200:264])


def test_the_overview_is_the_whole_view_reduced(views):
    assert views.overview == 3 and views.resolution == (136, 233)
    batch, targets = views.batch([1])
    image, _ = views.whole(1)
    mean = image[: 136 * 3, : 233 * 3].reshape(136, 3, 233, 3, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(targets.image[0], mean)
    point = np.array([0.3, -0.2, 0.1, 1.0])
    clip = views.camera(1).clip_from_object(np.eye(4)) @ point
    own = batch.clip_from_object[0].double().numpy() @ point
    pixel = (clip[:2] / clip[3] * 0.5 + 0.5) * (WIDTH, HEIGHT)
    np.testing.assert_allclose((own[:2] / own[3] * 0.5 + 0.5) * (233, 136), pixel / 3, atol=1e-3)


def test_samples_are_single_pixels_at_their_own_places(views):
    batch, targets = views.samples(2)
    image, alpha = views.whole(2)
    np.testing.assert_array_equal(targets.image[0], image[1:408:3, 1:699:3])
    np.testing.assert_array_equal(targets.alpha[0], alpha[1:408:3, 1:699:3])
    point = np.array([0.3, -0.2, 0.1, 1.0])
    clip = views.camera(2).clip_from_object(np.eye(4)) @ point
    own = batch.clip_from_object[0].double().numpy() @ point
    pixel = (clip[:2] / clip[3] * 0.5 + 0.5) * (WIDTH, HEIGHT)
    # the centre of sample k is that of pixel 3k + 1
    np.testing.assert_allclose((own[:2] / own[3] * 0.5 + 0.5) * (233, 136) - 0.5, (pixel - 1.5) / 3, atol=1e-3)


# -- a crop of a render is the render of a crop ------------------------------------------------------------


def exact_scene() -> tuple[Surface, Camera]:
    """Overlapping triangles and a camera whose projections are short binary fractions: no step of them rounds."""
    rng = np.random.default_rng(3)
    depth = rng.choice([2.0, 4.0], 240)
    x, y = rng.integers(-250, 250, (2, 240)) / 256
    points = np.stack([x * depth, y * depth, -depth], axis=1)
    corners = torch.arange(240, dtype=torch.int32).reshape(80, 3)
    positions = torch.tensor(points, dtype=torch.float32, requires_grad=True)
    normals = torch.nn.functional.normalize(torch.tensor(rng.normal(size=(240, 3)), dtype=torch.float32), dim=1)
    uvs = torch.tensor(rng.integers(0, 64, (240, 2)) / 64, dtype=torch.float32)
    camera = Camera(np.eye(4), 256.0, 256.0, 256.0, 256.0, 512, 512, 1.0, 5.0)
    return Surface(positions, corners, Corners(normals, corners), Corners(uvs, corners)), camera


@pytest.mark.parametrize("window", [(0, 0), (128, 200), (384, 301), (77, 384)])
def test_a_crop_of_a_render_is_the_render_of_the_crop_bit_for_bit(window):
    surface, camera = exact_scene()
    left, top = window
    crop = camera.resampled((left, top, 128, 128), (128, 128))

    def render(own: Camera) -> tuple[torch.Tensor, torch.Tensor]:
        views = ViewBatch.of([own], [np.eye(4)], CPU)
        gbuffer = render_gbuffer(surface, views, BACKEND)
        values = torch.cat([gbuffer.position, gbuffer.normal, gbuffer.to_eye, gbuffer.uv, gbuffer.uv_da], dim=1)
        image = compose(gbuffer, values, BACKEND)
        torch.testing.assert_close(coverage_image(surface, views, BACKEND), image[..., -1:], rtol=0, atol=0)
        return image[0], gbuffer.rast[0, ..., 3]

    (whole, ids), (part, own_ids) = render(camera), render(crop)
    inner = slice(2, -2), slice(2, -2)
    assert torch.equal(ids[top : top + 128, left : left + 128], own_ids) and len(own_ids.unique()) > 5
    assert torch.equal(whole[top : top + 128, left : left + 128][inner], part[inner])


def jar() -> tuple[AssetRenderer, torch.Tensor, Camera]:
    cube = EnvironmentCube(16)
    cube.set_radiance(torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(0)))
    asset = demo_asset(64, around=48, along=40)
    camera = Camera(look_at((0.4, 1.0, 3.2), (0, 0, 0)), 330.0, 340.0, 155.0, 117.0, 300, 240)
    return AssetRenderer(asset, BACKEND, CPU), cube.prefilter().detach(), camera


def test_any_crop_is_the_render_up_to_rounding():
    renderer, light, camera = jar()
    whole = renderer.render(ViewBatch.of([camera], [np.eye(4)], CPU), light)
    crop = camera.resampled((61, 35, 96, 96), (96, 96))
    part = renderer.render(ViewBatch.of([crop], [np.eye(4)], CPU), light)
    assert 0.3 < float(part["alpha"].mean()) < 0.95
    for name, image in whole.items():
        cut = image[:, 37:129, 63:155]
        torch.testing.assert_close(part[name][:, 2:-2, 2:-2], cut, atol=1e-3, rtol=1e-3, msg=name)


def test_a_view_in_blocks_is_the_view():
    renderer, light, camera = jar()
    sizes = []

    def render(views: ViewBatch) -> dict[str, torch.Tensor]:
        sizes.append(views.resolution)
        return renderer.render(views, light)

    whole = render_view(camera, np.eye(4), render, CPU)
    assert sizes == [(240, 300)]
    blocks = render_view(camera, np.eye(4), render, CPU, ("rgb", "alpha"), at_once=200, side=100)
    assert len(sizes) == 10 and max(map(max, sizes[1:])) == 104 and set(blocks) == {"rgb", "alpha"}
    for name, image in blocks.items():
        np.testing.assert_allclose(image, whole[name], atol=1e-3, rtol=1e-3)


# -- where they are drawn ----------------------------------------------------------------------------------


def test_the_same_step_draws_the_same_windows(views):
    first, second = Crops(views, 5), Crops(views, 5)
    assert [first.draw(step, [0]) is None for step in range(4)] == [True, False, True, False]
    assert first.draw(7, [0, 1, 2, 0]) == second.draw(7, [0, 1, 2, 0])
    others = [Crops(views, 6).draw(7, [0, 1, 2, 0]), first.draw(9, [0, 1, 2, 0])]
    assert first.draw(7, [0, 1, 2, 0]) not in others


def test_crops_lie_in_the_view_where_the_object_is(views):
    crops = Crops(views, 0)
    seen = np.zeros((len(views), HEIGHT, WIDTH))
    for step in range(1, 301, 2):
        for number, (left, top) in enumerate(crops.draw(step, [0, 1, 2])):
            assert 0 <= left <= WIDTH - CROP_SIDE and 0 <= top <= HEIGHT - CROP_SIDE
            seen[number, top : top + CROP_SIDE, left : left + CROP_SIDE] += 1
    for number in range(len(views)):
        alpha = views.whole(number)[1][..., 0] > 0
        assert seen[number][alpha].min() > 0  # no pixel of the object is left out
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        far = np.full(alpha.shape, True)
        inside = np.argwhere(alpha)
        (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0)
        reach = CROP_SIDE + 24
        far &= (rows < top - reach) | (rows > bottom + reach) | (columns < left - reach) | (columns > right + reach)
        assert not seen[number][far].any()


def test_crops_are_drawn_where_the_error_is(views):
    crops = Crops(views, 0)
    cells = crops.error.shape[2]
    crops.error.fill_(0.01)
    crops.error[2, :, : cells // 2] = 0.2

    def left_share() -> float:
        middles = [crops.draw(step, [2])[0][0] + CROP_SIDE / 2 for step in range(1, 801, 2)]
        return float(np.mean(np.array(middles) < 8 * 3 * (cells // 2)))

    worse = left_share()
    crops.error.fill_(0.01)
    assert left_share() == pytest.approx(0.5, abs=0.1) and 0.65 < worse < 0.95


def test_an_empty_mask_is_no_error(views):
    empty = disk("empty", (-500, -500), 1, 3)
    alone = ViewSet([empty], 1, CPU, crop=CROP_SIDE)
    crops = Crops(alone, 0)
    (window,) = crops.draw(1, [0])
    crops.learn([0], [window], [0], torch.zeros(1, 160, 160, 4), alone.crops([0], [window])[1], Ranks())
    assert (crops.error == -1).all()


def test_errors_are_those_of_the_cells(views):
    crops = Crops(views, 0)
    ids, windows = [2, 0], [(271, 113), (431, 77)]
    _, targets = views.crops(ids, windows)
    image = torch.rand((2, 160, 160, 4), generator=torch.Generator().manual_seed(0))
    crops.learn(ids, windows, [0, 1], image, targets, Ranks())
    cell = 8 * views.overview
    wanted = torch.full_like(crops.error, -1.0)
    difference = (tonemap(image[..., :3]) - tonemap(targets.image)).abs().mean(dim=3)
    for place, (number, (left, top)) in enumerate(zip(ids, windows, strict=True)):
        rows, columns = (torch.arange(160) + top) // cell, (torch.arange(160) + left) // cell
        for row in rows.unique():
            for column in columns.unique():
                here = (rows == row)[:, None] & (columns == column)[None]
                here &= targets.alpha[place, ..., 0] > 0
                if here.any():
                    wanted[number, row, column] = difference[place][here].mean()
    torch.testing.assert_close(crops.error, wanted, atol=1e-5, rtol=1e-5)
    assert int((wanted >= 0).sum()) > 30
    before = crops.error.clone()
    crops.learn(ids, windows, [0, 1], image * 0 + torch.nn.functional.pad(targets.image, (0, 1)), targets, Ranks())
    torch.testing.assert_close(crops.error, torch.where(before >= 0, before / 2, before))  # seen again: half of it


def test_ranks_have_one_map_of_errors(views):
    ids, windows = [0, 1, 2], [(431, 77), (100, 220), (271, 113)]
    _, targets = views.crops(ids, windows)
    image = torch.rand((3, 160, 160, 4), generator=torch.Generator().manual_seed(0))
    alone = Crops(views, 0)
    alone.learn(ids, windows, [0, 1, 2], image, targets, Ranks())

    said: list[tuple[float, ...]] = []

    class Rank(Ranks):
        size = 2

        def gather(self, *numbers):
            said.append(numbers)
            return said if len(said) > 1 else [numbers]

    def part(first: int, last: int) -> Targets:
        return Targets(*(values[first:last] for values in (targets.image, targets.alpha, targets.saturation)))

    Crops(views, 0).learn(ids, windows, [0, 1], image[:2], part(0, 2), Rank())
    together = Crops(views, 0)
    together.learn(ids, windows, [2], image[2:], part(2, 3), Rank())
    assert torch.equal(together.error, alone.error)


# -- in a stage --------------------------------------------------------------------------------------------

GRIDS = [
    f"fields.{name}.{key}"
    for name in ("appearance", "reflectance", "joint")
    for key in ("levels=4", "log2_table_size=12", "finest_resolution=64")
]
COARSE = [*GRIDS, "geometry.resolution=12", "optimize.batch=2", "optimize.checkpoint_every=3",
          "optimize.iterations=8"]  # fmt: skip


@pytest.fixture
def run(tiny_run, tmp_path):
    def copy(name: str, **options) -> Session:
        if not (tmp_path / name).exists():
            shutil.copytree(tiny_run, tmp_path / name)
        return Session.open(tmp_path / name, device="cpu", quiet=True, **options)

    return copy


def test_a_stage_with_crops_resumes_bit_for_bit(run, monkeypatch):
    settings = settings_for(CoarseSettings, [*COARSE, "optimize.crop=20"])
    expected = run_coarse(run("whole"), settings)

    step = Reporter.step

    def broken(reporter, done, *others):
        step(reporter, done, *others)
        if done == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Reporter, "step", broken)
    with pytest.raises(KeyboardInterrupt):
        run_coarse(run("broken"), settings)
    monkeypatch.undo()
    found = run_coarse(run("broken", resume=True), settings)
    assert found.content_hash == expected.content_hash
    other = run_coarse(run("other"), settings_for(CoarseSettings, [*COARSE, "optimize.crop=0"]))
    files = {artifact.manifest["files"]["fields.safetensors"]["sha256"] for artifact in (expected, other)}
    assert len(files) == 2


def test_the_optimiser_is_told_what_part_of_a_view_a_step_draws(run, monkeypatch):
    told = []
    step = MapAdam.step
    monkeypatch.setattr(MapAdam, "step", lambda optimizer: (told.append(optimizer.share), step(optimizer)))
    run_coarse(run("crops"), settings_for(CoarseSettings, [*COARSE, "optimize.crop=20"]))
    assert max(told) == 1.0 and 0.0 < min(told) < 1.0  # overviews between the crops
    told.clear()
    run_coarse(run("whole"), settings_for(CoarseSettings, [*COARSE, "optimize.crop=0"]))
    assert set(told) == {1.0}


def test_a_crop_that_holds_the_view_gives_the_bits_of_whole_views(run):
    found = [run_coarse(run(crop), settings_for(CoarseSettings, [*COARSE, f"optimize.crop={crop}"]))
             for crop in ("0", "auto", "32")]  # fmt: skip
    assert len({str(artifact.manifest["files"]) for artifact in found}) == 1


def test_frames_on_disk_give_the_bits_of_frames_in_memory(run, monkeypatch):
    settings = settings_for(CoarseSettings, [*COARSE, "optimize.crop=20"])
    expected = run_coarse(run("memory"), settings)
    monkeypatch.setattr("stspbr.stages.state.IN_MEMORY", 0)
    session = run("disk")
    found = run_coarse(session, settings)
    assert found.content_hash == expected.content_hash
    (tiles,) = (session.run / ".cache" / "frames").iterdir()
    written = tiles.stat().st_mtime_ns
    assert run_coarse(session, settings).content_hash == expected.content_hash
    assert tiles.stat().st_mtime_ns == written  # decoded once


@pytest.mark.parametrize("crop", ["-1", "half", "1.5"])
def test_another_crop_is_one_line(crop):
    with pytest.raises(StspbrError, match="crop.*choose auto, 0 or a side in pixels"):
        settings_for(CoarseSettings, [f"optimize.crop={crop}"])


def test_refine_has_no_crops():
    with pytest.raises(StspbrError, match="whole views"):
        settings_for(RefineSettings, ["optimize.crop=64"])
