"""The scene tracer against a sphere in a box, cast in numpy, and against Mitsuba's own path integrator."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, minimum_filter

from stspbr.render.mitsuba_bsdf import llvm_status
from stspbr.render.scene_tracer import SceneTracer, Surfaces, TracedScene, Triangles
from stspbr.scenes.description import looking
from stspbr.settings.scene_model import CHANNELS

LOW, HIGH = np.array([-3.0, -0.5, -3.0]), np.array([3.0, 2.5, 3.0])
BALL = np.array([0.4, 0.1, -0.2, 0.6])
LAMP = np.array([1.2, 1.7, 0.9, 0.125])
SIZE, FOV = 12, 70.0
EYES = [(2.0, 1.5, 2.2), (-2.1, 1.0, 1.4)]


def _box():
    positions, normals, faces, surface = [], [], [], []
    for axis in range(3):
        for side in (0, 1):
            normal = np.eye(3)[axis] * (1 - 2 * side)
            a, b = (k for k in range(3) if k != axis)
            corners = np.zeros((4, 3))
            corners[:, axis] = (LOW, HIGH)[side][axis]
            for k, (u, v) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
                corners[k, a], corners[k, b] = (LOW, HIGH)[u][a], (LOW, HIGH)[v][b]
            first = 4 * len(positions)
            faces += [[first, first + 1, first + 2], [first, first + 2, first + 3]]
            surface += [len(positions)] * 2
            positions.append(corners)
            normals += [normal] * 4
    return Triangles(
        np.concatenate(positions), np.array(normals), np.zeros((24, 2)), np.array(faces), np.array(surface)
    )


def _scene(roughness=0.6, wall_roughness=1.0, radiance=180.0, bounces=4):
    colour = np.array([[0.9, 0.2, 0.2], [0.2, 0.9, 0.2], [0.8, 0.8, 0.8], [0.8, 0.8, 0.8], [0.2, 0.2, 0.9],
                       [0.9, 0.9, 0.2], [0.2, 0.8, 0.8]])  # fmt: skip
    rough = np.array([wall_roughness] * 6 + [roughness])
    surfaces = Surfaces(colour, rough, np.arange(7) / 7.0, np.zeros(7), np.ones(7))
    return TracedScene(
        _box(), surfaces, BALL[None], np.array([6]), LAMP[None], np.full((1, 3), radiance), bounces=bounces
    )


def _poses():
    return np.stack([np.linalg.inv(looking(np.array(eye), np.array([0.2, 0.4, 0.0]))) for eye in EYES])


def _cast(origin, direction):
    """Distance, normal and surface of what rays ``[N, 3]`` hit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = np.where(direction > 0, (HIGH - origin) / direction, (LOW - origin) / direction)
    walls = np.where(np.isfinite(walls), walls, np.inf)
    axis = walls.argmin(axis=1)
    distance = walls[np.arange(len(axis)), axis]
    side = direction[np.arange(len(axis)), axis] > 0
    normal = np.zeros_like(direction)
    normal[np.arange(len(axis)), axis] = np.where(side, -1.0, 1.0)
    surface = 2 * axis + side
    way = BALL[:3] - origin
    along = (way * direction).sum(axis=1)
    rest = BALL[3] ** 2 - ((way - along[:, None] * direction) ** 2).sum(axis=1)
    ball = along - np.sqrt(np.maximum(rest, 0.0))
    hit = (rest > 0) & (ball > 1e-6) & (ball < distance)
    distance = np.where(hit, ball, distance)
    point = origin + distance[:, None] * direction
    normal = np.where(hit[:, None], (point - BALL[:3]) / BALL[3], normal)
    return distance, normal, np.where(hit, 6, surface)


def _rays(view, side):
    """``[size², side², 3]`` directions of a grid of samples per pixel."""
    step = (np.arange(SIZE * side) + 0.5) / (SIZE * side)
    x, y = np.meshgrid(2 * step - 1, 1 - 2 * step)
    half = np.tan(np.radians(FOV / 2))
    pose = np.linalg.inv(_poses()[view])
    rays = np.stack([x * half, y * half, -np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    blocks = rays.reshape(SIZE, side, SIZE, side, 3).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(SIZE * SIZE, side * side, 3)


def _alone(surface):
    """Pixels that, like all their neighbours, see one surface only: random samples see slivers that a grid misses."""
    blocks = surface.reshape(SIZE * SIZE, -1)
    low, high = (values.reshape(SIZE, SIZE) for values in (blocks.min(axis=1), blocks.max(axis=1)))
    return (minimum_filter(low, 3) == maximum_filter(high, 3)).ravel()


@pytest.fixture(scope="module")
def tracer():
    pytest.importorskip("mitsuba")
    ok, why = llvm_status()
    if not ok:
        pytest.skip(why)
    return SceneTracer()


@pytest.fixture(scope="module")
def buffers(tracer):
    return tracer.render(_scene(), _poses(), [FOV] * 2, SIZE, 256, 3)


def test_every_buffer_has_its_shape_and_the_parts_of_light_add_up(buffers):
    assert list(buffers) == list(CHANNELS)
    for name, values in buffers.items():
        assert values.shape == (2, CHANNELS[name], SIZE, SIZE)
        assert np.isfinite(values).all()
    np.testing.assert_allclose(buffers["direct"] + buffers["indirect"], buffers["beauty"], atol=1e-5)
    np.testing.assert_allclose(buffers["diffuse"] + buffers["specular"], buffers["beauty"], atol=1e-5)
    assert buffers["specular"].min() > -1e-6
    assert buffers["specular"].max() > 0.05


@pytest.mark.parametrize("view", [0, 1])
def test_geometry_buffers_are_the_analytic_ones(buffers, view):
    side = 24
    rays = _rays(view, side).reshape(-1, 3)
    origin = np.broadcast_to(np.array(EYES[view]), rays.shape)
    distance, normal, surface = _cast(origin, rays)
    point = origin + distance[:, None] * rays
    mirror = rays - 2 * (rays * normal).sum(axis=1, keepdims=True) * normal
    again, other_normal, other = _cast(point + 1e-6 * normal, mirror)
    hit = point + again[:, None] * mirror
    expected = {"normal": normal, "position": point, "depth": distance[:, None], "mirror": mirror,
                "mirror_hit": hit, "mirror_normal": other_normal, "id": surface[:, None] / 7.0}  # fmt: skip
    plain = _alone(surface)
    flat = plain & (surface.reshape(SIZE * SIZE, -1)[:, 0] < 6)
    same = flat & (np.ptp(other.reshape(SIZE * SIZE, -1), axis=1) == 0)
    assert plain.sum() > 40
    assert same.sum() > 20
    for name, values in expected.items():
        truth = values.reshape(SIZE * SIZE, side * side, -1).mean(axis=1)
        spread = values.reshape(SIZE * SIZE, side * side, -1).std(axis=1)
        found = buffers[name][view].reshape(CHANNELS[name], -1).T
        chosen = same if name.startswith("mirror_") else flat if name == "mirror" else plain
        # means over a stratified pixel: 16 strata a side leave 1/16 of the spread, over as many samples
        allowed = 1e-3 + 4.0 * spread[chosen] / 16.0 / 16.0 * 2.0
        # a mirror shows slivers that the grid misses, in few pixels
        good = (np.abs(found - truth)[chosen] <= allowed).all(axis=1)
        assert good.mean() > (0.9 if name.startswith("mirror_") else 0.999), name


def test_a_narrow_view_has_the_analytic_values_of_its_only_ray(tracer):
    found = tracer.render(_scene(), _poses(), [1e-3] * 2, 1, 4, 0, ["position", "normal", "mirror_hit", "depth"])
    for view, eye in enumerate(EYES):
        ray = -np.linalg.inv(_poses()[view])[None, :3, 2]
        distance, normal, _ = _cast(np.array([eye]), ray)
        point = np.array([eye]) + distance[:, None] * ray
        mirror = ray - 2 * (ray * normal).sum(axis=1, keepdims=True) * normal
        again, _, _ = _cast(point + 1e-6 * normal, mirror)
        expected = {"position": point, "normal": normal, "depth": distance[:, None],
                    "mirror_hit": point + again[:, None] * mirror}  # fmt: skip
        for name, values in expected.items():
            np.testing.assert_allclose(found[name][view].ravel(), values.ravel(), atol=1e-3, err_msg=name)


def test_shadows_and_ao_are_the_analytic_ones_up_to_noise(buffers):
    random = np.random.default_rng(5)
    for view in (0, 1):
        rays = _rays(view, 24)
        count = rays.shape[1]
        rays = rays.reshape(-1, 3)
        origin = np.broadcast_to(np.array(EYES[view]), rays.shape)
        distance, normal, _ = _cast(origin, rays)
        point = origin + distance[:, None] * rays + 1e-6 * normal
        # a point on the visible disk of the lamp, as seen from each place
        way = LAMP[:3] - point
        far = np.linalg.norm(way, axis=1, keepdims=True)
        cosine = 1 - random.uniform(size=(len(way), 1)) * (1 - np.sqrt(1 - (LAMP[3] / far) ** 2))
        angle, sine = 2 * np.pi * random.uniform(size=(len(way), 1)), np.sqrt(1 - cosine**2)
        ahead = way / far
        side = np.cross(ahead, [0.0, 1.0, 0.0])
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        lit = sine * (np.cos(angle) * side + np.sin(angle) * np.cross(ahead, side)) + cosine * ahead
        free = (_cast(point, lit)[0] > far[:, 0] - LAMP[3] * 1.01) & ((lit * normal).sum(axis=1) > 0)
        # a cosine-weighted direction: a unit normal plus a point of the unit sphere
        sphere = random.normal(size=point.shape)
        sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
        probe = normal + sphere
        probe /= np.linalg.norm(probe, axis=1, keepdims=True)
        open_ = _cast(point, probe)[0] > 1.0
        for name, values in (("shadows", free), ("ao", open_)):
            truth = values.reshape(-1, count).mean(axis=1)
            error = np.sqrt(np.maximum(truth * (1 - truth), 0.02) * (1 / count + 1 / 256))
            z = (buffers[name][view].ravel() - truth) / error
            assert np.sqrt((z**2).mean()) < 1.3, name
            assert abs(z.mean()) < 2.0 / np.sqrt(len(z)) * 2.0, name
            assert truth.std() > 0.05


def test_equal_seeds_give_equal_bits_and_scenes_leave_no_trace(tracer):
    once = tracer.render(_scene(), _poses(), [FOV] * 2, SIZE, 4, 8, ["beauty", "ao"])
    tracer.render(_scene(0.05, radiance=20.0), _poses(), [40.0] * 2, SIZE, 4, 9, ["beauty"])
    again = tracer.render(_scene(), _poses(), [FOV] * 2, SIZE, 4, 8, ["beauty", "ao"])
    other = tracer.render(_scene(), _poses(), [FOV] * 2, SIZE, 4, 7, ["beauty", "ao"])
    for name in once:
        np.testing.assert_array_equal(once[name], again[name])
        assert (once[name] != other[name]).any()


def _by_mitsuba(scene, spp):
    """The same scene by Mitsuba's path integrator and its own plug-ins."""
    import mitsuba as mi

    parts, s = scene.triangles, scene.surfaces

    def bsdf(k):
        glossy = {"type": "roughconductor", "distribution": "ggx", "alpha": float(s.roughness[k]) ** 2,
                  "eta": {"type": "uniform", "value": 15.0}, "k": {"type": "uniform", "value": 0.0}}  # fmt: skip
        matt = {"type": "diffuse", "reflectance": {"type": "rgb", "value": [float(v) for v in s.colour[k]]}}
        weight = float(np.clip(1 - (s.roughness[k] - 0.05) / 0.95, 0, 1))
        return {"type": "blendbsdf", "weight": weight, "a": matt, "b": glossy}

    out = {"type": "scene", "integrator": {"type": "path", "max_depth": scene.bounces + 1, "hide_emitters": True,
                                           "rr_depth": 99}}  # fmt: skip
    for k in np.unique(parts.surface):
        properties = mi.Properties()
        properties["bsdf"] = mi.load_dict(bsdf(int(k)))
        faces = parts.faces[parts.surface == k]
        mesh = mi.Mesh(f"m{k}", len(parts.positions), len(faces), has_vertex_normals=True, props=properties)
        values = mi.traverse(mesh)
        values["vertex_positions"] = mi.Float(parts.positions.astype(np.float32).ravel())
        values["vertex_normals"] = mi.Float(parts.normals.astype(np.float32).ravel())
        values["faces"] = mi.UInt32(faces.astype(np.uint32).ravel())
        values.update()
        out[f"m{k}"] = mesh
    for k, (ball, owner) in enumerate(zip(scene.spheres, scene.sphere_surface, strict=True)):
        out[f"b{k}"] = {"type": "sphere", "center": [float(v) for v in ball[:3]], "radius": float(ball[3]),
                        "bsdf": bsdf(int(owner))}  # fmt: skip
    for k, (ball, radiance) in enumerate(zip(scene.light_spheres, scene.sphere_radiance, strict=True)):
        emitter = {"type": "area", "radiance": {"type": "rgb", "value": [float(v) for v in radiance]}}
        out[f"l{k}"] = {"type": "sphere", "center": [float(v) for v in ball[:3]], "radius": float(ball[3]),
                        "bsdf": {"type": "diffuse", "reflectance": 0.0}, "emitter": emitter}  # fmt: skip
    loaded, images = mi.load_dict(out), []
    for pose in _poses():
        to_world = np.linalg.inv(pose) @ np.diag([-1.0, 1.0, -1.0, 1.0])
        sensor = mi.load_dict({
            "type": "perspective", "fov": FOV, "to_world": mi.ScalarTransform4f(to_world), "near_clip": 1e-3,
            "film": {"type": "hdrfilm", "width": SIZE, "height": SIZE, "filter": {"type": "box"},
                     "pixel_format": "rgb", "component_format": "float32"},
        })  # fmt: skip
        images.append(np.array(mi.render(loaded, sensor=sensor, spp=spp, seed=1)).transpose(2, 0, 1))
    return np.stack(images)


@pytest.mark.parametrize(("roughness", "walls"), [(1.0, 1.0), (0.3, 1.0), (0.5, 0.6)])
def test_light_is_mitsubas_own_without_bias(tracer, roughness, walls):
    scene = _scene(roughness, walls)
    ours = tracer.render(scene, _poses(), [FOV] * 2, SIZE, 1024, 2, ["beauty"])["beauty"]
    reference = _by_mitsuba(scene, 1024)
    # where the camera looks at the lamp, Mitsuba's film has a hole
    assert abs(ours.mean() / reference.mean() - 1.0) < 0.01
    smooth = np.abs(ours - reference) / (reference + 0.05)
    assert np.median(smooth) < 0.05


@pytest.mark.slow
def test_light_of_twenty_scenes_is_mitsubas_own(tracer):
    random, ratios = np.random.default_rng(22), []
    for _ in range(20):
        colour, rough = random.uniform(0.1, 0.95, (7, 3)), random.choice([1.0, 0.5, 0.3], 7)
        surfaces = Surfaces(colour, rough, np.arange(7) / 7.0, np.zeros(7), np.ones(7))
        ball = np.array([*random.uniform(-1.5, 1.5, 2), 0.0, random.uniform(0.3, 0.6)])[[0, 2, 1, 3]]
        lamp = np.array([*random.uniform((-2.2, 1.3, -2.2), (2.2, 1.85, 2.2)), 0.125])
        scene = TracedScene(
            _box(), surfaces, ball[None], np.array([6]), lamp[None], random.uniform(60.0, 180.0, (1, 3)), bounces=4
        )
        ours = tracer.render(scene, _poses(), [FOV] * 2, SIZE, 4096, 2, ["beauty"])["beauty"]
        ratios.append(ours.mean() / _by_mitsuba(scene, 4096).mean() - 1.0)
    assert abs(np.mean(ratios)) < 0.003, ratios
    assert np.abs(ratios).max() < 0.01, ratios
