"""OpenEXR: which part, layer and view is the image, and how its channels become linear sRGB.

A layer is the prefix of channels (``albedo.R``) or a part of its own (channels ``R``, ``G``, ``B`` of the part
``albedo``). The beauty is, in this order: the channels without a prefix of a file with one part; a layer with one of
the names that renderers give it (``C``, ``rgba``, ``beauty``, ``Combined`` …); the only layer with colours; the only
one with colours and alpha. Of several views the first is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.primaries import NAMED, SRGB, name_of, srgb_from, xyz_from
from stspbr.notes import Notes

if TYPE_CHECKING:
    import OpenImageIO

_BEAUTY = (
    "", "rgba", "rgb", "c", "ci", "beauty", "bty", "combined", "color", "colour", "main", "master", "masterbeauty",
    "primary", "final", "image", "rgb_color", "vrayrgb", "effectsresult", "default", "defaultlayer", "radiance",
)  # fmt: skip
_NO_IMAGE = (
    "albedo", "diffuse", "diffcol", "glosscol", "transcol", "normal", "normals", "n", "position", "p", "depth", "z",
    "uv", "uvs", "motion", "vector", "velocity", "cryptomatte", "crypto", "specular", "emission", "mask", "alpha",
    "shadow", "ao", "occlusion", "roughness", "metallic", "mist",
)  # fmt: skip
_SPELLED = {"red": "R", "green": "G", "blue": "B", "alpha": "A"}
_SETS = (("R", "G", "B", "A"), ("R", "G", "B"), ("Y", "RY", "BY", "A"), ("Y", "RY", "BY"), ("Y", "A"), ("Y",))
_INTEROP = {  # colorInteropID, of files without chromaticities
    "lin_ap1_scene": "ACES AP1 (ACEScg)", "lin_ap0_scene": "ACES AP0", "lin_rec2020_scene": "Rec. 2020",
    "lin_p3d65_scene": "Display P3", "lin_adobergb_scene": "Adobe RGB",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """Channels that are an image.

    Attributes:
        part: its number in the file; name: of the layer, empty for channels without a prefix; view: empty if none.
        channels: the index in the part of each channel, by its plain name (``R``, ``G``, ``B``, ``A``, ``Y`` …).
        spec: of the part.
    """

    part: int
    name: str
    part_name: str
    view: str
    channels: dict[str, int]
    spec: OpenImageIO.ImageSpec

    @property
    def title(self) -> str:
        """What ``--layer`` calls it."""
        return self.name or self.part_name or "".join(self.channels)

    @property
    def short(self) -> str:
        return self.name.rpartition(".")[2].lower()

    @property
    def has_colour(self) -> bool:
        return len(self.channels) >= 3


def read_exr(
    file: OpenImageIO.ImageInput, wanted: str | None, notes: Notes | None, where: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels ``[H, W, 1..4]`` float32 of the display window, as stored, and the matrix to linear sRGB or None.

    Args:
        wanted: the name of a part, layer or view; None: the beauty.
        notes: receives the choice, if there was one; ``where`` names the file there.

    Raises:
        StspbrError: no such layer, or no way to decide; deep pixels.
        ValueError: the file is damaged.
    """
    import OpenImageIO as oiio

    layers, held = _layers(file)
    if not layers:
        raise StspbrError(f"has no channels R, G, B or Y (it has: {', '.join(held)}): export the beauty image")
    layer = chosen_layer(layers, wanted, notes, where)
    spec = layer.spec
    if spec.deep:
        raise StspbrError("holds deep pixels: flatten it")
    names, index = list(layer.channels), list(layer.channels.values())
    pixels = file.read_image(layer.part, 0, min(index), max(index) + 1, oiio.UNKNOWN)
    if pixels is None or file.has_error:
        raise ValueError(file.geterror())
    pixels = pixels.reshape(spec.height, spec.width, -1)[..., np.subtract(index, min(index))]
    return finished(pixels, names, spec, notes, where)


def finished(
    pixels: np.ndarray, names: Sequence[str], spec: OpenImageIO.ImageSpec, notes: Notes | None, where: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels in the order of :func:`read_exr` from channels ``names``, and the matrix of the part's primaries."""
    chromaticities = _chromaticities(spec)
    matrix = srgb_from(chromaticities)
    if "RY" in names:
        pixels = _from_luminance_chroma(pixels, xyz_from(chromaticities)[1])
    if matrix is not None and notes is not None and pixels.shape[-1] >= 3:
        notes(f"colours in {name_of(chromaticities)} are converted to sRGB's primaries", where)
    aspect = spec.get_float_attribute("PixelAspectRatio", 1.0)
    if notes is not None and aspect > 0 and abs(aspect - 1) > 1e-3:
        notes(f"the pixel aspect ratio {aspect:g} is left out: pixels stay as they are stored", where)
    return _display_window(pixels.astype(np.float32), spec), matrix


def subsampled(path: Path, wanted: str | None, notes: Notes | None, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """As :func:`read_exr`, of a file whose chroma has fewer pixels, which OpenImageIO does not read."""
    try:
        import OpenEXR
    except ImportError:
        raise StspbrError("has fewer pixels of chroma than of luminance: pip install OpenEXR to read it") from None
    import OpenImageIO as oiio

    if wanted is not None:
        raise StspbrError(f"has no layer {wanted}: it holds luminance and chroma only, leave the layer out")
    with OpenEXR.File(str(path), separate_channels=True) as file:
        header, channels = file.header(), file.channels()
        names = [name for name in ("Y", "RY", "BY", "A") if name in channels]
        if names[:3] != ["Y", "RY", "BY"]:
            raise StspbrError(f"has subsampled channels that are no luminance and chroma ({', '.join(channels)})")
        whole = np.shape(channels["Y"].pixels)
        layers = [_enlarged(np.asarray(channels[name].pixels, np.float32), whole) for name in names]
        (left, top), (right, bottom) = np.reshape(header["displayWindow"], (2, 2))
        spec = oiio.ImageSpec(whole[1], whole[0], len(names), oiio.FLOAT)
        spec.x, spec.y = (int(v) for v in np.reshape(header["dataWindow"], (2, 2))[0])
        spec.full_x, spec.full_y = int(left), int(top)
        spec.full_width, spec.full_height = int(right - left + 1), int(bottom - top + 1)
        if "chromaticities" in header:
            spec.attribute("chromaticities", "float[8]", tuple(float(v) for v in header["chromaticities"]))
    return finished(np.stack(layers, axis=-1), names, spec, notes, where)


def subsampled_size(path: Path) -> tuple[int, int]:
    """Width and height of the display window of a file for :func:`subsampled`."""
    import OpenEXR

    with OpenEXR.File(str(path), header_only=True) as file:
        (left, top), (right, bottom) = np.reshape(file.header()["displayWindow"], (2, 2))
    return int(right - left + 1), int(bottom - top + 1)


def chosen_layer(layers: Sequence[Layer], wanted: str | None, notes: Notes | None = None, where: str = "") -> Layer:
    """The beauty, or the layer that is wanted.

    Raises:
        StspbrError: none, or several that may be meant.
    """
    titles = list(dict.fromkeys(layer.title for layer in layers))
    views = list(dict.fromkeys(layer.view for layer in layers))
    held = ", ".join([*titles, *(f"view {view}" for view in views if view and len(views) > 1)])
    if wanted is not None:
        found = [layer for layer in layers if wanted.lower() in _names(layer)]
        if not found:
            raise StspbrError(f"has no layer {wanted}: choose one of {held}")
        return _beauty(found, held)
    layer = _beauty([layer for layer in layers if layer.view == layers[0].view], held)
    if notes is not None and len(views) > 1:
        others = ", ".join(view or "the one without a name" for view in views if view != layer.view)
        notes(f"view {layer.view} is read, others are left out ({others}): --layer NAME chooses", where)
    beside = [other for other in layers if other.view == layer.view and other.title != layer.title]
    left = list(dict.fromkeys(other.title for other in beside))
    if notes is not None and any(other.has_colour for other in beside):
        notes(f"layer {layer.title} is read, others are left out ({', '.join(left)}): --layer NAME chooses", where)
    return layer


def _beauty(layers: Sequence[Layer], held: str) -> Layer:
    ranked = sorted((layer for layer in layers if layer.short in _BEAUTY), key=_rank)
    if ranked:
        return ranked[0]
    for fitting in (
        layers,
        [layer for layer in layers if layer.has_colour],
        [layer for layer in layers if layer.has_colour and layer.short not in _NO_IMAGE],
        [layer for layer in layers if layer.has_colour and "A" in layer.channels],
    ):
        if len(fitting) == 1:
            return fitting[0]
    raise StspbrError(f"has several layers and none is named as the beauty ({held}): choose with --layer NAME")


def _rank(layer: Layer) -> tuple[bool, int, bool]:
    """Colours before grey, then the order of the names, then Blender's composite before its view layers."""
    return not layer.has_colour, _BEAUTY.index(layer.short), not layer.name.lower().startswith("composite")


def _names(layer: Layer) -> set[str]:
    return {name.lower() for name in (layer.title, layer.name, layer.part_name, layer.view, layer.short) if name}


def _layers(file: Any) -> tuple[list[Layer], list[str]]:
    """The layers of a file that can be images, and the names of all channels."""
    found, part = [], 0
    parts = []
    while file.seek_subimage(part, 0):
        parts.append(file.spec().copy())
        part += 1
    for number, spec in enumerate(parts):
        part_name = str(spec.getattribute("oiio:subimagename") or spec.getattribute("name") or "")
        views = spec.getattribute("multiView")
        views = [views] if isinstance(views, str) else list(views or [])
        own_view = str(spec.getattribute("view") or (views[0] if views else ""))
        grouped: dict[tuple[str, str], dict[str, int]] = {}
        for index, channel in enumerate(spec.channelnames):
            prefix, _, plain = channel.rpartition(".")
            pieces = prefix.split(".") if prefix else []
            view = next((piece for piece in pieces if piece in views), own_view)
            prefix = ".".join(piece for piece in pieces if piece != view)
            if len(parts) > 1:  # channels may repeat the name of their part
                base = part_name.removesuffix(f".{view}") if view else part_name
                prefix = prefix if prefix else base
            plain = _SPELLED.get(plain.lower(), plain.upper())
            grouped.setdefault((prefix, view), {}).setdefault(plain, index)
        for (name, view), held in grouped.items():
            sets = [names for names in _SETS if "X" not in held or "Y" not in names]  # Y of a vector is no luminance
            names: tuple[str, ...] | None = next((names for names in sets if all(n in held for n in names)), None)
            if names is None and len(held) == 1 and len(grouped) == len(parts) == 1 and "Z" not in held:
                names = tuple(held)  # a single channel of another name
            if names is None:
                continue
            channels = {n: held[n] for n in names}
            if name and "A" not in channels and "A" in grouped.get(("", view), {}):
                channels["A"] = grouped["", view]["A"]
            found.append(Layer(number, name, part_name if len(parts) > 1 else "", view, channels, spec))
    return found, [name for spec in parts for name in spec.channelnames]


def _chromaticities(spec: OpenImageIO.ImageSpec) -> tuple[float, ...]:
    held = spec.getattribute("chromaticities")
    if held is not None and len(held) == 8 and any(held):
        return tuple(float(value) for value in held)
    if spec.get_int_attribute("acesImageContainerFlag") == 1:
        return NAMED["ACES AP0"]
    name = _INTEROP.get(str(spec.getattribute("colorInteropID") or ""))
    return NAMED[name] if name else SRGB


def _from_luminance_chroma(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """RGB(A) of Y, RY = (R − Y)/Y, BY = (B − Y)/Y (and A); ``weights`` ``[3]`` are those of luminance."""
    luminance, red_chroma, blue_chroma = (pixels[..., k].astype(np.float64) for k in range(3))
    red, blue = (red_chroma + 1) * luminance, (blue_chroma + 1) * luminance
    green = (luminance - weights[0] * red - weights[2] * blue) / weights[1]
    return np.concatenate([np.stack([red, green, blue], axis=-1), pixels[..., 3:]], axis=-1)


def _enlarged(channel: np.ndarray, whole: tuple[int, ...]) -> np.ndarray:
    """A channel of every nth row and column at all of them, bilinear; its samples lie on the first of each n."""
    for axis in (0, 1):
        step = -(-whole[axis] // channel.shape[axis])
        if step > 1:
            place = np.minimum(np.arange(whole[axis]) / step, channel.shape[axis] - 1)
            first = np.floor(place).astype(int)
            part = np.expand_dims(place - first, 1 - axis)
            after = np.minimum(first + 1, channel.shape[axis] - 1)
            channel = channel.take(first, axis) * (1 - part) + channel.take(after, axis) * part
    return channel


def _display_window(pixels: np.ndarray, spec: OpenImageIO.ImageSpec) -> np.ndarray:
    """What a cropped render shows: outside its data window it is black and empty."""
    x, y = spec.x - spec.full_x, spec.y - spec.full_y
    (height, width), (rows, columns) = (spec.full_height, spec.full_width), pixels.shape[:2]
    if height * width > max(1 << 28, 64 * rows * columns):
        raise StspbrError(f"has a display window of {width}x{height} about {columns}x{rows} pixels: crop it")
    if (x, y, columns, rows) == (0, 0, width, height):
        return pixels
    out = np.zeros((height, width, pixels.shape[-1]), np.float32)
    part = pixels[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
    out[max(y, 0) : max(y, 0) + part.shape[0], max(x, 0) : max(x, 0) + part.shape[1]] = part
    return out
