"""USD lights: the dome's layout as OpenEXR states it, turns that lose no light, discs of exact irradiance."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pxr", reason="usd-core is absent")
from pxr import Gf, Usd, UsdGeom, UsdLux  # noqa: E402

from stspbr.errors import StspbrError  # noqa: E402
from stspbr.formats.images import write_exr, write_png8  # noqa: E402
from stspbr.formats.usd.light import add_disc, read_lights, usd_latlong  # noqa: E402
from stspbr.formats.usd.stage import up_and_metres  # noqa: E402
from stspbr.scene.light import direction_to_latlong, latlong_to_direction, turned_latlong  # noqa: E402

Z_UP_TO_OURS = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def openexr_direction(column: np.ndarray, row: np.ndarray, width: int, height: int) -> np.ndarray:
    """Texel centres of a lat-long map as OpenEXR's documentation, which UsdLux cites, has them.

    Left edge: longitude +π, right edge −π; top: latitude +π/2; latitude 0, longitude 0 is +Z, longitude π/2 is +X.
    """
    longitude = np.pi - 2 * np.pi * (column + 0.5) / width
    latitude = np.pi / 2 - np.pi * (row + 0.5) / height
    return np.stack(
        [np.sin(longitude) * np.cos(latitude), np.sin(latitude), np.cos(longitude) * np.cos(latitude)], axis=-1
    )


def texels(height: int, width: int) -> np.ndarray:
    """Directions ``[H, W, 3]`` of our layout."""
    u, v = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    return latlong_to_direction(np.stack(np.meshgrid(u, v), axis=-1))


def solid_angles(height: int, width: int) -> np.ndarray:
    edges = np.cos(np.pi * np.arange(height + 1) / height)
    return np.repeat((edges[:-1] - edges[1:])[:, None] * 2 * np.pi / width, width, axis=1)


def smooth(direction: np.ndarray) -> np.ndarray:
    """A sky without any symmetry that is known in every direction, ``[..., 3]``."""
    x, y, z = np.moveaxis(direction, -1, 0)
    return np.stack([1.5 + x, 1.5 + y + 0.3 * x * z, 1.5 + z], axis=-1).astype(np.float32)


def dome_stage(tmp_path, up="Y", schema=UsdLux.DomeLight, texture=None):
    """A stage with one dome whose texture holds ``smooth`` in the dome's own axes."""
    stage = Usd.Stage.CreateNew(str(tmp_path / "scene.usda"))
    UsdGeom.SetStageUpAxis(stage, up)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    if texture is None:
        row, column = np.mgrid[0:64, 0:128]
        texture = smooth(openexr_direction(column, row, 128, 64))
    write_exr(tmp_path / "sky.exr", texture)
    dome = schema.Define(stage, "/Dome")
    dome.GetTextureFileAttr().Set("./sky.exr")
    stage.Save()
    return stage, dome


def read(stage, times=(1.0, 2.0), **options):
    return read_lights(stage, options.pop("target", None), times, up_and_metres(stage)[0], **options)


def test_a_dome_has_openexrs_directions(tmp_path):
    stage, _ = dome_stage(tmp_path)
    np.testing.assert_allclose(read(stage).radiance, smooth(texels(64, 128)), atol=1e-5)


@pytest.mark.parametrize("way", ["orientToStageUpAxis", "DomeLight_1 scene", "DomeLight_1 Z"])
def test_a_dome_stands_upright_on_a_z_up_stage(tmp_path, way):
    stage, dome = dome_stage(tmp_path, "Z", UsdLux.DomeLight_1 if "_1" in way else UsdLux.DomeLight)
    if "_1" in way:
        dome.GetPoleAxisAttr().Set(way.split()[1])
    else:
        dome.OrientToStageUpAxis()
    # both documented: the pole is the stage's +Z (our +Y), latitude 0 and longitude 0 its −Y (our +Z)
    np.testing.assert_allclose(read(stage).radiance, smooth(texels(64, 128)), atol=1e-5)


def test_a_plain_dome_on_a_z_up_stage_lies_and_is_reported(tmp_path):
    stage, _ = dome_stage(tmp_path, "Z")
    said: list[str] = []
    light = read(stage, on_warning=said.append)
    expected = smooth(texels(64, 128) @ Z_UP_TO_OURS)  # the dome's axes are the stage's: d_stage = Rᵀ d_ours
    np.testing.assert_allclose(light.radiance, expected, atol=0.02)
    assert any("orientToStageUpAxis" in line for line in said)


def test_the_domes_own_turn_intensity_exposure_colour_and_temperature(tmp_path):
    stage, dome = dome_stage(tmp_path)
    dome.AddRotateXYZOp().Set(Gf.Vec3f(20, 50, -35))
    dome.GetIntensityAttr().Set(3.0)
    dome.GetExposureAttr().Set(-1.0)
    dome.GetColorAttr().Set(Gf.Vec3f(1.0, 0.5, 0.25))
    turn = np.array(dome.ComputeLocalToWorldTransform(0).ExtractRotationMatrix()).T
    expected = smooth(texels(64, 128) @ turn) * 1.5 * np.array([1, 0.5, 0.25])
    np.testing.assert_allclose(read(stage).radiance, expected, atol=0.02)
    dome.GetEnableColorTemperatureAttr().Set(True)
    dome.GetColorTemperatureAttr().Set(3000.0)
    warm = np.array(UsdLux.BlackbodyTemperatureAsRgb(3000))
    np.testing.assert_allclose(read(stage).radiance, expected * warm, atol=0.03)


def test_layouts_there_and_back_are_exact():
    sky = np.random.default_rng(1).uniform(0, 9, (16, 32, 3)).astype(np.float32)
    texture = usd_latlong(sky)
    row, column = np.mgrid[0:16, 0:32]
    uv = direction_to_latlong(openexr_direction(column, row, 32, 16)) * (32, 16) - 0.5
    np.testing.assert_array_equal(texture, sky[np.rint(uv[..., 1]).astype(int), np.rint(uv[..., 0]).astype(int) % 32])
    np.testing.assert_array_equal(usd_latlong(texture), sky)


@pytest.mark.parametrize("row", [0, 3, 20, 32, 63])
def test_a_turn_keeps_the_light_of_one_bright_texel(row):
    sky = np.zeros((64, 128, 3), np.float32)
    sky[row, 17] = 1000.0
    angles = np.radians([31.0, 47.0])
    (cx, cz), (sx, sz) = np.cos(angles), np.sin(angles)
    turn = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turned = turned_latlong(sky, turn)
    omega = solid_angles(64, 128)
    before, after = (image[..., 0] * omega for image in (sky, turned))
    assert after.sum() == pytest.approx(before.sum(), rel=1e-5)
    centre = np.einsum("hw,hwc->c", after, texels(64, 128))
    expected = turn.T @ np.einsum("hw,hwc->c", before, texels(64, 128))
    assert np.degrees(np.arccos(np.dot(centre / np.linalg.norm(centre), expected / np.linalg.norm(expected)))) < 1.4


@pytest.mark.parametrize("half_degrees", [0.0, 0.27, 3.0, 40.0])
def test_a_disc_gives_its_irradiance_exactly(half_degrees):
    sky = np.zeros((128, 256, 3))
    direction = np.array([0.3, 0.7, -0.5]) / np.linalg.norm([0.3, 0.7, -0.5])
    add_disc(sky, direction, np.radians(half_degrees), np.array([3.0, 2.0, 1.0]))
    weight = solid_angles(128, 256) * np.maximum(texels(128, 256) @ direction, 0)
    np.testing.assert_allclose(np.einsum("hwc,hw->c", sky, weight), [3, 2, 1], rtol=1e-9)
    mean = np.einsum("hw,hwc->c", sky[..., 0] * solid_angles(128, 256), texels(128, 256))
    assert np.degrees(np.arccos(min(1, mean @ direction / np.linalg.norm(mean)))) < 1.0
    edge = np.degrees(np.arccos(np.clip(texels(128, 256)[sky[..., 0] > 0] @ direction, -1, 1))).max()
    assert edge < half_degrees + 1.5


def test_distant_lights_shine_along_their_minus_z(tmp_path):
    stage, dome = dome_stage(tmp_path)
    dome.GetPrim().SetActive(False)
    sun = UsdLux.DistantLight.Define(stage, "/Sun")
    sun.AddRotateXYZOp().Set(Gf.Vec3f(-90, 0, 0))  # −Z to −Y: it shines down
    sun.GetIntensityAttr().Set(20.0)
    sun.GetAngleAttr().Set(10.0)
    light = read(stage).radiance
    omega = solid_angles(*light.shape[:2])
    irradiance = (light[..., 0] * omega * np.maximum(texels(*light.shape[:2])[..., 1], 0)).sum()
    assert irradiance == pytest.approx(20 * np.pi * np.sin(np.radians(5)) ** 2, rel=1e-5)
    assert light[0, :, 0].min() == pytest.approx(20, rel=0.02) and light[light.shape[0] // 2 :].max() == 0
    sun.GetNormalizeAttr().Set(True)
    light = read(stage).radiance
    irradiance = (light[..., 0] * omega * np.maximum(texels(*light.shape[:2])[..., 1], 0)).sum()
    assert irradiance == pytest.approx(20, rel=1e-5)
    dome.GetPrim().SetActive(True)
    both = read(stage).radiance
    assert both.shape == (64, 128, 3) and both[0, 0, 0] > 100


def test_lights_that_are_off_invisible_or_not_linked_do_not_count(tmp_path):
    stage, _ = dome_stage(tmp_path)
    thing, other = UsdGeom.Xform.Define(stage, "/Thing"), UsdGeom.Xform.Define(stage, "/Other")

    def link_elsewhere(light) -> None:
        linked = UsdLux.LightAPI(light).GetLightLinkCollectionAPI()
        linked.CreateIncludeRootAttr(False)
        linked.IncludePath("/Other")

    for name, change in {
        "Off": lambda light: light.GetIntensityAttr().Set(0.0),
        "Hidden": lambda light: UsdGeom.Imageable(light).MakeInvisible(),
        "Elsewhere": link_elsewhere,
    }.items():
        lamp = UsdLux.SphereLight.Define(stage, f"/{name}")
        change(lamp)
    assert read(stage, target=thing.GetPrim()) is not None
    assert read(stage, target=other.GetPrim()) is None


def test_lights_that_cannot_be_known_give_one_line(tmp_path):
    stage, dome = dome_stage(tmp_path)
    dome.GetTextureFormatAttr().Set("mirroredBall")
    with pytest.raises(StspbrError, match="/Dome: its texture is mirroredBall: convert it to latlong"):
        read(stage)
    dome.GetTextureFormatAttr().Set("latlong")
    dome.GetTextureFileAttr().Set("./gone.exr")
    with pytest.raises(StspbrError, match="gone.exr does not exist"):
        read(stage)
    (tmp_path / "broken.exr").write_bytes((tmp_path / "sky.exr").read_bytes()[:300])
    dome.GetTextureFileAttr().Set("./broken.exr")
    with pytest.raises(StspbrError, match="truncated or corrupt"):
        read(stage)
    dome.GetTextureFileAttr().Set("./sky.exr")
    dome.AddRotateYOp().Set(0.0, 1)
    dome.GetPrim().GetAttribute("xformOp:rotateY").Set(30.0, 2)
    with pytest.raises(StspbrError, match="/Dome turns between frames 1 and 2: the light must stay"):
        read(stage)


def test_a_dome_without_texture_is_uniform_and_a_clipped_one_is_reported(tmp_path):
    stage, dome = dome_stage(tmp_path)
    write_png8(tmp_path / "sky.png", np.full((8, 16, 3), 0.5, np.float32), srgb=True)
    dome.GetTextureFileAttr().Set("./sky.png")
    said: list[str] = []
    np.testing.assert_allclose(read(stage, on_warning=said.append).radiance, 0.5, atol=0.005)
    assert any("clipped" in line for line in said)
    dome.GetTextureFileAttr().Clear()
    dome.GetIntensityAttr().Set(0.7)
    np.testing.assert_allclose(read(stage).radiance, 0.7, rtol=1e-6)
