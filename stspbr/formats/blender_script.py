"""Import this folder into Blender: the asset, its separate maps, and its light.

Run it with ``blender --python import_into_blender.py``, or open it in Blender's text editor and press Run.
"""

import json
import math
import os

import bpy

# Blender's lat-long maps have −X in the middle where, after the importer's turn to Z-up, this light has +Y.
LIGHT_TURN = math.radians(-90.0)
SOCKETS = {"albedo": "Base Color", "roughness": "Roughness", "metallic": "Metallic", "opacity": "Alpha"}


def folder():
    """Where this script lies, also when it runs from the text editor."""
    for text in bpy.data.texts:
        if os.path.basename(text.filepath) == "import_into_blender.py":
            return os.path.dirname(bpy.path.abspath(text.filepath))
    return os.path.dirname(os.path.abspath(__file__))


def image_node(tree, path, is_colour):
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = bpy.data.images.load(path, check_existing=True)
    if not is_colour:
        node.image.colorspace_settings.name = "Non-Color"
    return node


def set_up_material(material, channels, place):
    """Principled BSDF as glTF means it, F0 0.04 (IOR 1.5) and single scattering, with one image a channel."""
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    shader = tree.nodes.new("ShaderNodeBsdfPrincipled")
    shader.inputs["IOR"].default_value = 1.5
    shader.distribution = "GGX"
    tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    for row, (channel, stored) in enumerate(channels.items()):
        if "value" in stored:
            value = stored["value"]
            shader.inputs[SOCKETS[channel]].default_value = (*value, 1.0) if len(value) == 3 else value[0]
            continue
        node = image_node(tree, os.path.join(place, stored["file"]), channel == "albedo")
        node.label, node.location = channel, (-700, 300 - 300 * row)
        if channel in SOCKETS:
            tree.links.new(node.outputs["Color"], shader.inputs[SOCKETS[channel]])
        elif channel == "normal":
            bent = tree.nodes.new("ShaderNodeNormalMap")
            bent.location = (-300, 300 - 300 * row)
            tree.links.new(node.outputs["Color"], bent.inputs["Color"])
            tree.links.new(bent.outputs["Normal"], shader.inputs["Normal"])
        # Occlusion stays unlinked: a path tracer finds its own.
    output.location = (300, 0)


def set_up_light(path):
    world = bpy.data.worlds.new("Light")
    bpy.context.scene.world = world
    world.use_nodes = True
    tree = world.node_tree
    tree.nodes.clear()
    place = tree.nodes.new("ShaderNodeTexCoord")
    turn = tree.nodes.new("ShaderNodeMapping")
    turn.vector_type = "POINT"
    turn.inputs["Rotation"].default_value = (0.0, 0.0, LIGHT_TURN)
    picture = tree.nodes.new("ShaderNodeTexEnvironment")
    picture.image = bpy.data.images.load(path, check_existing=True)
    background = tree.nodes.new("ShaderNodeBackground")
    output = tree.nodes.new("ShaderNodeOutputWorld")
    tree.links.new(place.outputs["Generated"], turn.inputs["Vector"])
    tree.links.new(turn.outputs["Vector"], picture.inputs["Vector"])
    tree.links.new(picture.outputs["Color"], background.inputs["Color"])
    tree.links.new(background.outputs["Background"], output.inputs["Surface"])


def main():
    place = folder()
    before = set(bpy.data.materials)
    bpy.ops.import_scene.gltf(filepath=os.path.join(place, "asset.glb"))
    with open(os.path.join(place, "materials.json"), encoding="utf-8") as file:
        channels = {entry["name"]: entry["channels"] for entry in json.load(file)}
    for material in set(bpy.data.materials) - before:
        stem = material.name.rpartition(".")[0]  # Blender adds .001 where a name is taken
        found = channels.get(material.name, channels.get(stem))
        if found is not None:
            set_up_material(material, found, place)
    if os.path.exists(os.path.join(place, "light.exr")):
        set_up_light(os.path.join(place, "light.exr"))
    bpy.context.scene.view_settings.view_transform = "Standard"  # sRGB and no more, as the previews


main()
