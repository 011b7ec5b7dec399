"""USD files as DCCs write them: units, interpolations, subsets, networks; and what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pxr", reason="usd-core is absent")
from pxr import Usd  # noqa: E402

from stspbr.errors import StspbrError  # noqa: E402
from stspbr.formats.assets import read_asset  # noqa: E402
from stspbr.formats.images import write_exr, write_png8, write_png16  # noqa: E402
from stspbr.formats.usd.asset import read_usd  # noqa: E402

HEAD = '#usda 1.0\n(\n defaultPrim = "World"\n metersPerUnit = {metres}\n upAxis = "{up}"\n)\n'
QUAD = """
    point3f[] points = [(0, 0, 0), (2, 0, 0), (2, 1, 0), (0, 1, 0)]
    int[] faceVertexCounts = [4]
    int[] faceVertexIndices = [0, 1, 2, 3]
    uniform token subdivisionScheme = "none"
"""


def usda(folder, body: str, up: str = "Y", metres: float = 1.0, name: str = "scene.usda"):
    path = folder / name
    path.write_text(HEAD.format(up=up, metres=metres) + f'def Xform "World" {{\n{body}\n}}\n')
    return path


def mesh(extra: str = "", name: str = "Quad", body: str = QUAD) -> str:
    return f'def Mesh "{name}" (prepend apiSchemas = ["MaterialBindingAPI"]) {{\n{body}\n{extra}\n}}\n'


def material(inputs: str, nodes: str = "", name: str = "Paint") -> str:
    surface = f"</World/{name}/Surface.outputs:surface>"
    return (
        f'def Material "{name}" {{\n token outputs:surface.connect = {surface}\n'
        f' def Shader "Surface" {{\n  uniform token info:id = "UsdPreviewSurface"\n  {inputs}\n'
        f"  token outputs:surface\n }}\n{nodes}\n}}\n"
    )


def texture(name: str, file: str, extra: str = "", coordinates: str = "Reader") -> str:
    return (
        f' def Shader "{name}" {{\n  uniform token info:id = "UsdUVTexture"\n  asset inputs:file = @{file}@\n'
        f"  float2 inputs:st.connect = </World/Paint/{coordinates}.outputs:result>\n  {extra}\n"
        "  float outputs:r\n  float outputs:g\n  float outputs:b\n  float outputs:a\n  float3 outputs:rgb\n }\n"
    )


READER = """ def Shader "Reader" {
  uniform token info:id = "UsdPrimvarReader_float2"
  string inputs:varname = "map1"
  float2 outputs:result
 }
"""
BOUND = "rel material:binding = </World/Paint>\n"
MAP1 = """texCoord2f[] primvars:map1 = [(0, 0), (1, 0), (1, 1), (0, 1)] (interpolation = "vertex")\n"""


@pytest.mark.parametrize(("up", "metres"), [("Y", 1.0), ("Z", 0.01), ("Y", 0.001)])
def test_units_axes_and_transforms(tmp_path, up, metres):
    body = (
        'def Xform "Part" {\n double3 xformOp:translate = (10, 20, 30)\n float xformOp:rotateZ = 90\n'
        ' uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:rotateZ"]\n' + mesh() + "}"
    )
    asset = read_usd(usda(tmp_path, body, up, metres))
    corner = np.array([(10, 20, 30), (10, 22, 30), (9, 22, 30), (9, 20, 30)], float) * metres
    expected = np.stack([corner[:, 0], corner[:, 2], -corner[:, 1]], axis=1) if up == "Z" else corner
    found = asset.mesh.positions[np.lexsort(asset.mesh.positions.T)]
    np.testing.assert_allclose(found, expected[np.lexsort(expected.astype(np.float32).T)], rtol=1e-6, atol=1e-7)
    normal = (0, 1, 0) if up == "Z" else (0, 0, 1)
    np.testing.assert_allclose(asset.mesh.normals.values, [normal], atol=1e-6)  # flat, as it has none
    assert any("flat-shaded" in note for note in asset.extras["notes"])
    # with the stage's turn to +Y in it, the node still says where its mesh stands
    place = np.eye(4)
    for node in asset.nodes:
        place = place @ node.local_to_parent
    np.testing.assert_allclose(place @ (0, 0, 0, 1), [*expected[0], 1], atol=1e-6)


def test_winding_under_left_hands_and_mirrors(tmp_path):
    left = mesh('uniform token orientation = "leftHanded"')
    mirror = (
        'def Xform "M" {{\n float3 xformOp:scale = (-1, 1, 1)\n'
        ' uniform token[] xformOpOrder = ["xformOp:scale"]\n{}}}\n'
    )
    for body, direction in ((mesh(), 1), (left, -1), (mirror.format(mesh()), 1), (mirror.format(left), -1)):
        m = read_usd(usda(tmp_path, body)).mesh
        p = m.positions[m.faces].astype(float)
        np.testing.assert_allclose(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])[:, 2], [2 * direction] * 2)


@pytest.mark.parametrize(
    ("values", "interpolation", "expected"),
    [
        ("[(0, 0), (1, 0), (1, 1), (0, 1)]", "vertex", {0: (0, 1), 2: (1, 0)}),
        ("[(0, 0), (1, 0), (1, 1), (0, 1)]", "varying", {0: (0, 1), 2: (1, 0)}),
        ("[(0, 0), (1, 0), (1, 1), (0, 1)]", "faceVarying", {0: (0, 1), 2: (1, 0)}),
        ("[(0.25, 0.75)]", "uniform", {0: (0.25, 0.25), 2: (0.25, 0.25)}),
        ("[(0.25, 0.75)]", "constant", {0: (0.25, 0.25), 2: (0.25, 0.25)}),
    ],
)
def test_interpolations_of_texture_coordinates(tmp_path, values, interpolation, expected):
    body = mesh(f'texCoord2f[] primvars:st = {values} (interpolation = "{interpolation}")')
    m = read_usd(usda(tmp_path, body)).mesh
    for corner, wanted in expected.items():
        position = np.array([(0, 0, 0), (2, 0, 0), (2, 1, 0), (0, 1, 0)])[corner]
        at = (m.positions[m.faces] == position).all(axis=2)
        np.testing.assert_allclose(m.uvs.values[m.uvs.index[at]], np.tile(wanted, (at.sum(), 1)))


def test_indexed_primvars_polygons_holes_and_authored_normals(tmp_path):
    body = """
    point3f[] points = [(0,0,0), (1,0,0), (2,0,0), (2,1,0), (1,2,0), (0,1,0), (5,0,0), (6,0,0), (6,1,0)]
    int[] faceVertexCounts = [6, 3, 2]
    int[] faceVertexIndices = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    int[] holeIndices = [1]
    uniform token subdivisionScheme = "none"
    normal3f[] primvars:normals = [(0, 0, 2)] (interpolation = "constant")
    texCoord2f[] primvars:st = [(0, 0), (0.5, 1)] (interpolation = "faceVarying")
    int[] primvars:st:indices = [0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    """
    m = read_usd(usda(tmp_path, mesh(body=body))).mesh
    assert len(m.faces) == 4  # the hexagon; the hole and the line are no triangles
    p = m.positions[m.faces].astype(float)
    area = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1).sum() / 2
    assert area == pytest.approx(3.0)
    np.testing.assert_allclose(m.normals.values, [(0, 0, 1)])
    at = (m.positions[m.faces] == (2, 1, 0)).all(axis=2)
    np.testing.assert_allclose(m.uvs.values[m.uvs.index[at]], np.tile((0.5, 0.0), (at.sum(), 1)))


def test_what_is_not_drawn_is_not_read(tmp_path):
    body = mesh() + mesh('token visibility = "invisible"', "Hidden") + mesh('uniform token purpose = "guide"', "Guide")
    body += 'def Sphere "Ball" {}\ndef PointInstancer "Scatter" {}\n'
    body += 'def Xform "Off" (active = false) {\n' + mesh() + "}\n"
    asset = read_usd(usda(tmp_path, body))
    assert len(asset.mesh.faces) == 2
    notes = "\n".join(asset.extras["notes"])
    assert "/World/Ball: a Sphere is not a mesh and is left out" in notes and "Scatter" not in notes


def test_instances_are_drawn_where_they_are(tmp_path):
    (tmp_path / "part.usda").write_text('#usda 1.0\n(\n defaultPrim = "P"\n)\ndef Xform "P" {\n' + mesh() + "}\n")
    body = "".join(
        f'def Xform "I{k}" (instanceable = true\n prepend references = @./part.usda@) {{\n'
        f" double3 xformOp:translate = ({10 * k}, 0, 0)\n"
        ' uniform token[] xformOpOrder = ["xformOp:translate"]\n}\n'
        for k in range(3)
    )
    asset = read_usd(usda(tmp_path, body))
    assert len(asset.mesh.faces) == 6 and asset.mesh.positions[:, 0].max() == 22
    assert [node.name for node in asset.nodes] == ["I0", "I1", "I2"]


def test_a_subdivision_surface_is_its_cage(tmp_path):
    body = QUAD.replace('uniform token subdivisionScheme = "none"', "normal3f[] normals = [(1, 0, 0)]")
    asset = read_usd(usda(tmp_path, mesh(body=body)))
    np.testing.assert_allclose(asset.mesh.normals.values, [(0, 0, 1)])
    assert any("control cage" in note for note in asset.extras["notes"])


def test_subsets_the_rest_and_unbound_meshes_have_their_materials(tmp_path):
    two = """
    point3f[] points = [(0,0,0), (1,0,0), (0,1,0), (1,1,0), (0,2,0)]
    int[] faceVertexCounts = [3, 3, 3]
    int[] faceVertexIndices = [0, 1, 2, 1, 3, 2, 2, 3, 4]
    uniform token subdivisionScheme = "none"
    color3f[] primvars:displayColor = [(0.9, 0.1, 0.2)]
    def GeomSubset "sub" (prepend apiSchemas = ["MaterialBindingAPI"]) {
      uniform token elementType = "face"
      uniform token familyName = "materialBind"
      int[] indices = [1]
      rel material:binding = </World/Other>
    }
    """
    materials = material("color3f inputs:diffuseColor = (0.1, 0.2, 0.3)\n float inputs:metallic = 1")
    materials += material("float inputs:roughness = 0.7", name="Other")
    asset = read_usd(usda(tmp_path, materials + mesh(BOUND, body=two) + mesh(name="Bare", body=two.split("def")[0])))
    named = {m.name: m for m in asset.materials}
    names = [m.name for m in asset.materials]
    assert set(names) == {"Paint", "Other", "Bare"}
    counts = dict(zip(names, np.bincount(asset.mesh.face_material).tolist(), strict=True))
    assert counts == {"Paint": 2, "Other": 1, "Bare": 3}
    middle = asset.mesh.positions[asset.mesh.faces[asset.mesh.face_material == names.index("Other")]].mean(axis=1)
    np.testing.assert_allclose(middle, [(2 / 3, 2 / 3, 0)], rtol=1e-6)  # the second triangle
    np.testing.assert_allclose(named["Paint"].albedo[0, 0], [0.1, 0.2, 0.3], rtol=1e-6)
    assert named["Paint"].metallic[0, 0, 0] == 1 and named["Paint"].roughness[0, 0, 0] == 0.5
    assert named["Other"].roughness[0, 0, 0] == pytest.approx(0.7)
    np.testing.assert_allclose(named["Other"].albedo[0, 0], 0.18, rtol=1e-6)  # the standard's default
    np.testing.assert_allclose(named["Bare"].albedo[0, 0], [0.9, 0.1, 0.2], rtol=1e-6)


def test_colour_spaces_channels_scale_and_bias(tmp_path):
    ramp = np.linspace(0.1, 0.8, 48).reshape(4, 4, 3).astype(np.float32)
    write_png8(tmp_path / "colour.png", ramp, srgb=False)
    write_png16(tmp_path / "deep.png", ramp, srgb=False)
    write_exr(tmp_path / "linear.exr", ramp)
    nodes = READER + texture("T", "./colour.png") + texture("D", "./deep.png") + texture("E", "./linear.exr")
    nodes += texture("S", "./colour.png", 'token inputs:sourceColorSpace = "sRGB"')
    raw = 'token inputs:sourceColorSpace = "raw"\n float4 inputs:scale = (1, 1, 0.5, 1)\n'
    nodes += texture("B", "./colour.png", raw + " float4 inputs:bias = (0, 0, 0.25, 0)")

    def inputs(colour: str, other: str) -> str:
        return (
            f"color3f inputs:diffuseColor.connect = </World/Paint/{colour}.outputs:rgb>\n"
            f" float inputs:roughness.connect = </World/Paint/{other}.outputs:g>\n"
            f" float inputs:metallic.connect = </World/Paint/{other}.outputs:b>\n"
            f" float inputs:occlusion.connect = </World/Paint/{other}.outputs:a>"
        )

    linear = np.where(ramp <= 0.04045, ramp / 12.92, ((ramp + 0.055) / 1.055) ** 2.4)
    for colour, expected in (("T", linear), ("S", linear), ("D", ramp), ("E", ramp), ("B", None)):
        found = read_usd(usda(tmp_path, material(inputs(colour, "B"), nodes) + mesh(BOUND + MAP1))).materials[0]
        if expected is not None:
            np.testing.assert_allclose(found.albedo, expected, atol=0.005)
    np.testing.assert_allclose(found.roughness, ramp[..., 1:2], atol=0.003)
    np.testing.assert_allclose(found.metallic, 0.25 + 0.5 * ramp[..., 2:3], atol=0.003)
    np.testing.assert_allclose(found.occlusion, 1.0)  # alpha of an image without one


def test_a_transform_of_texture_coordinates(tmp_path):
    write_png8(tmp_path / "colour.png", np.full((4, 4, 3), 0.5, np.float32), srgb=True)
    node = """ def Shader "Move" {
  uniform token info:id = "UsdTransform2d"
  float2 inputs:in.connect = </World/Paint/Reader.outputs:result>
  float inputs:rotation = 90
  float2 inputs:scale = (2, 3)
  float2 inputs:translation = (0.1, 0.2)
  float2 outputs:result
 }
"""
    nodes = READER + node + texture("T", "./colour.png", coordinates="Move")
    inputs = "color3f inputs:diffuseColor.connect = </World/Paint/T.outputs:rgb>"
    m = read_usd(usda(tmp_path, material(inputs, nodes) + mesh(BOUND + MAP1))).mesh
    at = (m.positions[m.faces] == (2, 1, 0)).all(axis=2)  # st = (1, 1): scaled (2, 3), turned (−3, 2), moved
    np.testing.assert_allclose(m.uvs.values[m.uvs.index[at]][0], (-2.9, 1 - 2.2), atol=1e-6)


def test_interfaces_and_defaults_through_the_network(tmp_path):
    """Values on the material's own interface, as Houdini and Omniverse write them."""
    text = material("float inputs:roughness.connect = </World/Paint.inputs:gloss>").replace(
        'def Material "Paint" {', 'def Material "Paint" {\n float inputs:gloss = 0.125'
    )
    found = read_usd(usda(tmp_path, text + mesh(BOUND))).materials[0]
    assert found.roughness[0, 0, 0] == 0.125


def test_what_the_maps_do_not_hold_is_said(tmp_path):
    inputs = "color3f inputs:emissiveColor = (1, 0, 0)\n float inputs:opacity = 0.5\n float inputs:ior = 1.33\n"
    asset = read_usd(usda(tmp_path, material(inputs) + mesh(BOUND)))
    notes = "\n".join(asset.extras["notes"])
    assert "emission" in notes and "index of refraction" in notes
    assert asset.materials[0].alpha_mode == "blend" and asset.materials[0].opacity[0, 0, 0] == 0.5
    other = material("").replace("UsdPreviewSurface", "ND_standard_surface_surfaceshader")
    asset = read_usd(usda(tmp_path, other + mesh(BOUND)))
    assert any("no UsdPreviewSurface and becomes grey" in note for note in asset.extras["notes"])


TEXTURED = "color3f inputs:diffuseColor.connect = </World/Paint/T.outputs:rgb>"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (mesh(body="point3f[] points = [(0,0,0)]"), "holds no triangles"),
        (mesh(body=QUAD.replace("[4]", "[5]")), "faceVertexCounts do not fit"),
        (mesh(body=QUAD.replace("1, 2, 3]", "1, 2, 9]")), "points past its 4 points"),
        (mesh(body=QUAD.replace("(0, 0, 0)", "(nan, 0, 0)")), "not finite"),
        (mesh('texCoord2f[] primvars:st = [(0, 0)] (interpolation = "vertex")'), "st .vertex. has 1 of 4 needed"),
        (material("int inputs:useSpecularWorkflow = 1") + mesh(BOUND), "specular workflow"),
        (material(TEXTURED, READER + texture("T", "./gone.png")) + mesh(BOUND + MAP1), "gone.png does not exist"),
        (material(TEXTURED, READER + texture("T", "./a.<UDIM>.png")) + mesh(BOUND + MAP1), "UDIM tiles"),
        (material(TEXTURED, READER + texture("T", "./cut.png")) + mesh(BOUND + MAP1), "truncated or corrupt"),
        (material(TEXTURED, READER + texture("T", "./ok.png")) + mesh(BOUND), "lacks map1, which its material Paint"),
    ],
)  # fmt: skip
def test_broken_files_give_one_line(tmp_path, body, wanted):
    write_png8(tmp_path / "ok.png", np.random.default_rng(0).uniform(0, 1, (16, 16, 3)).astype(np.float32), srgb=True)
    (tmp_path / "cut.png").write_bytes((tmp_path / "ok.png").read_bytes()[:200])
    with pytest.raises(StspbrError, match=wanted) as caught:
        read_usd(usda(tmp_path, body))
    assert "\n" not in str(caught.value)


def test_one_way_in_for_every_suffix(tmp_path):
    path = usda(tmp_path, mesh())
    stage = Usd.Stage.Open(str(path))
    for suffix in (".usd", ".usdc"):
        stage.GetRootLayer().Export(str(tmp_path / f"other{suffix}"))
        assert len(read_asset(tmp_path / f"other{suffix}").mesh.faces) == 2
    assert len(read_asset(path).mesh.faces) == 2
    with pytest.raises(StspbrError, match="a folder of textures goes with OBJ only"):
        read_asset(path, tmp_path)
    (tmp_path / "cut.usdc").write_bytes((tmp_path / "other.usdc").read_bytes()[:300])
    with pytest.raises(StspbrError, match="truncated or not USD"):
        read_asset(tmp_path / "cut.usdc")
    (tmp_path / "cut.usdz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(StspbrError, match="truncated or not USD"):
        read_asset(tmp_path / "cut.usdz")


def test_without_usd_core_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    path = usda(tmp_path, mesh())
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(StspbrError, match=r"pip install 'stspbr\[usd\]'"):
        read_usd(path)


def test_concave_polygons(tmp_path):
    body = """
    point3f[] points = [(0,0,0), (3,0,0), (3,3,0), (2,3,0), (2,1,0), (1,1,0), (1,3,0), (0,3,0)]
    int[] faceVertexCounts = [8]
    int[] faceVertexIndices = [0, 1, 2, 3, 4, 5, 6, 7]
    uniform token subdivisionScheme = "none"
    """
    m = read_usd(usda(tmp_path, mesh(body=body))).mesh
    p = m.positions[m.faces].astype(float)
    areas = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1) / 2
    assert areas.sum() == pytest.approx(7.0) and len(areas) == 6


@pytest.mark.parametrize("purpose", ["", ":preview", ":full"])
def test_bindings_of_every_purpose(tmp_path, purpose):
    red = material("color3f inputs:diffuseColor = (0.7, 0.02, 0.02)\n float inputs:roughness = 0.2")
    asset = read_usd(usda(tmp_path, mesh(f"rel material:binding{purpose} = </World/Paint>") + red))
    assert asset.materials[0].albedo[0, 0] == pytest.approx([0.7, 0.02, 0.02])
    assert asset.materials[0].roughness[0, 0, 0] == pytest.approx(0.2)


def test_of_two_purposes_the_preview_is_read(tmp_path):
    both = "rel material:binding:preview = </World/Paint>\n rel material:binding:full = </World/Other>"
    paints = material("color3f inputs:diffuseColor = (0.7, 0, 0)")
    paints += material("color3f inputs:diffuseColor = (0, 0.7, 0)", name="Other")
    asset = read_usd(usda(tmp_path, mesh(both) + paints))
    assert asset.materials[0].albedo[0, 0] == pytest.approx([0.7, 0, 0])
    assert any("Quad: it has a material for previews and another" in note for note in asset.extras["notes"])


STRIP = """
    point3f[] points = [(0,0,0), (1,0,0), (1,1,0), (0,1,0), (4,0,0), (4,1,0)]
    int[] faceVertexCounts = [4, 4]
    int[] faceVertexIndices = [0, 1, 2, 3, 1, 4, 5, 2]
    uniform token subdivisionScheme = "none"
"""


@pytest.mark.parametrize(
    ("values", "interpolation", "mean"),
    [
        ("[(0.8, 0, 0)]", "constant", None),
        ("[(0.8, 0, 0), (0, 0, 0.8)]", "uniform", (0.2, 0, 0.6)),
        ("[(0.8, 0, 0), (0, 0, 0.8), (0, 0, 0.8), (0.8, 0, 0), (0, 0, 0.8), (0, 0, 0.8)]", "vertex", (0.1, 0, 0.7)),
        ("[" + ", ".join(["(0.8, 0, 0)"] * 4 + ["(0, 0, 0.8)"] * 4) + "]", "faceVarying", (0.2, 0, 0.6)),
    ],
)
def test_display_colours_by_interpolation(tmp_path, values, interpolation, mean):
    """Both squares differ in area, 1 and 3: the mean is by area, not by the number of values."""
    extra = f'color3f[] primvars:displayColor = {values} (interpolation = "{interpolation}")'
    asset = read_usd(usda(tmp_path, mesh(extra, body=STRIP)))
    assert asset.materials[0].albedo[0, 0] == pytest.approx(mean or (0.8, 0, 0), abs=1e-6)
    assert any("their mean is the albedo" in note for note in asset.extras["notes"]) == (mean is not None)


@pytest.mark.parametrize(
    ("visibility", "shown"),
    [
        ('token visibility.timeSamples = { 1: "invisible", 50: "inherited" }', False),
        ('token visibility.timeSamples = { 1: "inherited", 50: "invisible" }', True),
        ('token visibility = "invisible"', False),
        ('token visibility = "invisible"\n token visibility.timeSamples = { 1: "inherited" }', True),
    ],
)
def test_visibility_at_the_earliest_time(tmp_path, visibility, shown):
    asset = read_usd(usda(tmp_path, mesh() + mesh(visibility, "Later")))
    assert len(asset.mesh.faces) == (4 if shown else 2)
    noted = any("Later: it is invisible at the earliest time" in note for note in asset.extras["notes"])
    assert noted == (not shown and "timeSamples" in visibility)


def test_point_instances(tmp_path):
    part = 'def Xform "Part" {\n double3 xformOp:translate = (0, 5, 0)\n'
    part += ' uniform token[] xformOpOrder = ["xformOp:translate"]\n\n' + mesh() + "}\n"
    body = f"""def PointInstancer "Scatter" {{
    rel prototypes = [</World/Scatter/Part>]
    int[] protoIndices = [0, 0, 0]
    point3f[] positions = [(0, 0, 0), (50, 0, 0), (10, 0, 0)]
    quath[] orientations = [(1, 0, 0, 0), (1, 0, 0, 0), (0.70710678, 0, 0, 0.70710678)]
    float3[] scales = [(1, 1, 1), (1, 1, 1), (2, 2, 2)]
    int64[] invisibleIds = [1]

    {part}
    }}
    """
    asset = read_usd(usda(tmp_path, body))
    p = asset.mesh.positions
    assert len(asset.mesh.faces) == 4
    first, turned = p[p[:, 1] >= 5], p[p[:, 1] < 5]
    assert first.min(axis=0) == pytest.approx([0, 5, 0]) and first.max(axis=0) == pytest.approx([2, 6, 0])
    # (x, y) → 2 (−y, x) + (10, 0) of the part that is at y from 5 to 6
    assert turned.min(axis=0) == pytest.approx([-2, 0, 0], abs=0.01)
    assert turned.max(axis=0) == pytest.approx([0, 4, 0], abs=0.01)


def test_instances_that_do_not_fit_their_prototypes_are_named(tmp_path):
    body = 'def PointInstancer "Scatter" {\n rel prototypes = [</World/Quad>]\n int[] protoIndices = [3]\n'
    body += " point3f[] positions = [(0, 0, 0)]\n}\n"
    with pytest.raises(StspbrError, match="Scatter: its instances do not fit its prototypes"):
        read_usd(usda(tmp_path, mesh() + body))


@pytest.mark.parametrize("bent", [False, True])
def test_skeletons_place_their_meshes(tmp_path, bent):
    """The mesh's own transform does not count; geomBindTransform, the joints' pose and the skeleton's place do."""
    rest = "((1,0,0,0), (0,1,0,0), (0,0,1,0), (0,0,3,1))"
    moved = "((1,0,0,0), (0,1,0,0), (0,0,1,0), (0,0,4,1))"
    skin = f"""rel skel:skeleton = </World/Rig/Bones>
    matrix4d primvars:skel:geomBindTransform = ((2,0,0,0), (0,2,0,0), (0,0,2,0), (0,0,0,1))
    int[] primvars:skel:jointIndices = [0, 0, {int(bent)}, {int(bent)}] (
      interpolation = "vertex"
      elementSize = 1
    )
    float[] primvars:skel:jointWeights = [1, 1, 1, 1] (
      interpolation = "vertex"
      elementSize = 1
    )
    double3 xformOp:translate = (100, 0, 0)
    uniform token[] xformOpOrder = ["xformOp:translate"]
    """
    quad = mesh(skin).replace('["MaterialBindingAPI"]', '["SkelBindingAPI"]')
    body = f"""def SkelRoot "Rig" (prepend apiSchemas = ["SkelBindingAPI"]) {{
    def Skeleton "Bones" {{
      uniform token[] joints = ["a", "b"]
      uniform matrix4d[] bindTransforms = [{rest}, {rest}]
      uniform matrix4d[] restTransforms = [{rest}, {moved if bent else rest}]
      double3 xformOp:translate = (0, 0, 10)
      uniform token[] xformOpOrder = ["xformOp:translate"]
    }}
    {quad}
    }}
    """
    asset = read_usd(usda(tmp_path, body))
    assert asset.mesh.positions.min(axis=0) == pytest.approx([0, 0, 10])
    assert asset.mesh.positions.max(axis=0) == pytest.approx([4, 2, 11 if bent else 10])
    assert any("stand as the skeleton does" in note for note in asset.extras["notes"])


def test_faces_with_too_few_corners_are_noted(tmp_path):
    body = QUAD.replace("[4]", "[4, 2]").replace("[0, 1, 2, 3]", "[0, 1, 2, 3, 0, 1]")
    asset = read_usd(usda(tmp_path, mesh(body=body)))
    assert any("faces with fewer than three corners are left out: 1" in note for note in asset.extras["notes"])


def test_open_meshes_that_show_both_sides_are_noted(tmp_path):
    asset = read_usd(usda(tmp_path, mesh("uniform bool doubleSided = true")))
    assert any(note.endswith("exports show the front alone") for note in asset.extras["notes"])
    asset = read_usd(usda(tmp_path, mesh("uniform bool doubleSided = false")))
    assert not any("both sides" in note for note in asset.extras["notes"])


def test_motion_and_lights_are_noted(tmp_path):
    moving = QUAD.replace("points = [", "points.timeSamples = { 1: [").replace(
        "(0, 1, 0)]", "(0, 1, 0)], 2: [(0, 0, 0), (9, 0, 0), (9, 9, 0), (0, 9, 0)] }"
    )
    asset = read_usd(usda(tmp_path, mesh(body=moving) + 'def SphereLight "Bulb" {\n}\n'))
    assert np.ptp(asset.mesh.positions, axis=0).tolist() == [2, 1, 0]
    notes = asset.extras["notes"]
    assert "/World/Quad: it moves or bends over time: it is read at the earliest time" in notes
    assert "/World/Bulb: lights are left out" in notes


def test_backslashes_in_names_of_textures(tmp_path):
    (tmp_path / "maps").mkdir()
    write_png8(tmp_path / "maps/red.png", np.float32([[[1, 0, 0]]]), srgb=True)
    nodes = texture("Image", "maps\\red.png") + READER
    paint = material("color3f inputs:diffuseColor.connect = </World/Paint/Image.outputs:rgb>", nodes)
    asset = read_usd(usda(tmp_path, paint + mesh(MAP1 + BOUND)))
    assert asset.materials[0].albedo.reshape(-1, 3)[0].tolist() == [1, 0, 0]


def test_reflectance_outside_of_the_unit_interval_is_clipped(tmp_path):
    paint = material("color3f inputs:diffuseColor = (2, 0.5, -1)")
    asset = read_asset(usda(tmp_path, paint + mesh(BOUND)))
    assert asset.materials[0].albedo.reshape(3).tolist() == [1, 0.5, 0]
    assert "Paint: its albedo outside of 0 to 1 is clipped" in asset.extras["notes"]
    write_exr(tmp_path / "bad.exr", np.full((2, 2, 3), np.nan))
    nodes = texture("Image", "bad.exr") + READER
    paint = material("color3f inputs:diffuseColor.connect = </World/Paint/Image.outputs:rgb>", nodes)
    with pytest.raises(StspbrError, match="the albedo of Paint is not finite everywhere"):
        read_asset(usda(tmp_path, paint + mesh(MAP1 + BOUND)))
