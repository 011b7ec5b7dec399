"""MTL material libraries: the classic keys, the PBR keys, and packed ORM maps of files with ``bsdf pbr``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.files import read_file
from stspbr.formats.images import HDR_SUFFIXES, IMAGE_SUFFIXES, read_pixels, three_channels
from stspbr.scene.material import Material, is_constant

ASSUMED_ROUGHNESS = 0.5

# How many values follow each option of a map line.
_OPTIONS = {"-blendu": 1, "-blendv": 1, "-boost": 1, "-mm": 2, "-o": 3, "-s": 3, "-t": 3, "-texres": 1, "-clamp": 1,
            "-bm": 1, "-imfchan": 1, "-type": 1}  # fmt: skip
_NAMES = {
    "albedo": ("basecolor", "base_color", "albedo", "diffuse"),
    "roughness": ("roughness",),
    "metallic": ("metallic", "metalness"),
    "normal": ("normal",),
    "occlusion": ("occlusion",),
}
_PACKED = re.compile(r"(?<![a-z])orm(?![a-z])|occlusionroughnessmetallic|metallic_?roughness")


@dataclass
class MtlEntry:
    """One ``newmtl``: its keys in lower case with the rest of their lines."""

    folder: Path
    keys: dict[str, str] = field(default_factory=dict)

    def numbers(self, key: str) -> list[float] | None:
        """The numbers after a key, or None; ValueError if they are not numbers."""
        return [float(token) for token in self.keys[key].split()] if key in self.keys else None

    def image(self, *keys: str) -> Path | None:
        """The file that the first key present names, map options skipped; StspbrError if it is missing."""
        for key in keys:
            if key not in self.keys:
                continue
            tokens = self.keys[key].split(" ")
            while tokens and tokens[0].lower() in _OPTIONS:
                option, count = tokens.pop(0).lower(), 0
                while tokens and count < _OPTIONS[option] and (option not in ("-o", "-s", "-t") or _number(tokens[0])):
                    tokens.pop(0)
                    count += 1
            path = self.folder / " ".join(tokens).strip().replace("\\", "/")
            if not path.is_file():
                raise StspbrError(f"{self.folder} lacks the texture {path.name} that an MTL names: copy it there")
            return path
        return None


def read_mtl(path: Path) -> dict[str, MtlEntry]:
    """The materials of an MTL file by name."""
    text = read_file(path).decode("utf-8", "replace")
    out: dict[str, MtlEntry] = {}
    entry = None
    for line in text.replace("\\\r\n", " ").replace("\\\n", " ").replace("\t", " ").splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "newmtl":
            entry = out[rest.strip()] = MtlEntry(path.parent)
        elif entry is not None and key and not key.startswith("#"):
            entry.keys[key.lower()] = rest.strip()
    return out


def materials_from_mtl(found: dict[str, MtlEntry], names: list[str], notes: list[str]) -> list[Material]:
    """The materials called ``names``; one that no MTL describes is white, with a note."""
    out = []
    for name in names:
        if name not in found:
            notes.append(f"{name} is not described by an MTL: white, roughness {ASSUMED_ROUGHNESS}, no metal")
        try:
            out.append(_material(found.get(name, MtlEntry(Path())), name, notes))
        except ValueError as error:
            raise StspbrError(f"{found[name].folder}: a value of material {name} is not a number ({error})") from error
    return out


def override_maps(material: Material, folder: Path) -> Material:
    """``material`` with the maps that a folder's image names announce; StspbrError if there are none."""
    if not folder.is_dir():
        raise StspbrError(f"{folder} is not a folder of textures: check --textures")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
        name = path.stem.lower()
        named = (kind for kind, words in _NAMES.items() if any(word in name for word in words))
        kind = "orm" if _PACKED.search(name) else next(named, None)
        if kind in found:
            raise StspbrError(f"{folder} has two {kind} maps ({found[kind].name}, {path.name}): remove one")
        if kind is not None:
            found[kind] = path
    if not found:
        raise StspbrError(f"{folder} has no image named basecolor, roughness, metallic, normal or occlusion")
    maps: dict[str, np.ndarray] = {}
    if "orm" in found:
        packed = three_channels(read_pixels(found["orm"]))
        maps = {"occlusion": packed[..., :1], "roughness": packed[..., 1:2], "metallic": packed[..., 2:3]}
    for kind, path in found.items():
        if kind == "albedo":
            maps[kind] = _albedo(path)
        elif kind == "normal":
            maps[kind] = three_channels(read_pixels(path)) * 2.0 - 1.0
        elif kind != "orm":
            maps[kind] = read_pixels(path)[..., :1]
    changes: dict[str, Any] = {kind: np.ascontiguousarray(m, np.float32) for kind, m in maps.items()}
    return replace(material, **changes)


Images = dict[str, tuple[np.ndarray, bool]]


def map_lines(material: Material, label: str, suffix: str = ".png") -> tuple[list[str], Images]:
    """The MTL lines of a material, and the images that they name: ``{file: (pixels, sRGB?)}``."""
    lines, images = [f"newmtl {label}"], {}

    def add(pixels: np.ndarray, kind: str, constant: str | None, key: str, srgb: bool = False) -> None:
        if constant is not None and is_constant(pixels):
            lines.append(f"{constant} " + " ".join(f"{v:.9g}" for v in pixels[0, 0].tolist()))
        else:
            file = f"{label}_{kind}{suffix}"
            images[file] = (pixels, srgb)
            lines.append(f"{key} {file}")

    add(material.albedo, "albedo", "Kd", "map_Kd", srgb=True)
    add(material.roughness, "roughness", "Pr", "map_Pr")
    add(material.metallic, "metallic", "Pm", "map_Pm")
    if material.occlusion is not None:
        add(material.occlusion, "occlusion", None, "map_ao")
    if material.normal is not None:
        add(material.normal * 0.5 + 0.5, "normal", None, "norm")
    return lines, images


def _material(entry: MtlEntry, name: str, notes: list[str]) -> Material:
    packed = entry.keys.get("bsdf", "").lower() == "pbr"
    image = entry.image("map_kd")
    albedo = _constant(entry.numbers("kd") or [1.0, 1.0, 1.0], 3) if image is None else _albedo(image)
    roughness = _scalar(entry, "pr", "map_pr")
    metallic = _scalar(entry, "pm", "map_pm")
    occlusion = _scalar(entry, "", "map_ao")
    if packed and roughness is None and metallic is None:
        image, constant = entry.image("map_ks"), entry.numbers("ks")
        if image is not None or constant is not None:
            orm = three_channels(read_pixels(image)) if image is not None else _constant(constant or [], 3)
            roughness, metallic = orm[..., 1:2], orm[..., 2:3]
            # This convention stores how much is occluded; ours is how much is open.
            occlusion = 1.0 - orm[..., :1] if occlusion is None and orm[..., 0].any() else occlusion
    elif "map_ks" in entry.keys:
        notes.append(f"{name}: the specular map is left out")
    if roughness is None:
        roughness = _constant([ASSUMED_ROUGHNESS], 1)
        notes.append(f"{name}: the MTL gives no roughness, {ASSUMED_ROUGHNESS} is assumed")
    metallic = _constant([0.0], 1) if metallic is None else metallic
    normal = None
    image = entry.image("norm", "map_bump", "bump")
    if image is not None:
        stored = read_pixels(image)
        if stored.shape[-1] >= 3 and np.ptp(stored[..., :3], axis=-1).max() > 0.02:
            normal = stored[..., :3] * 2.0 - 1.0
        else:
            notes.append(f"{name}: the grey bump map is left out, only normal maps are read")
    return Material.of(albedo, roughness, metallic, occlusion, normal, name)


def _scalar(entry: MtlEntry, constant: str, image: str) -> np.ndarray | None:
    path = entry.image(image)
    if path is not None:
        return read_pixels(path)[..., :1]
    values = entry.numbers(constant)
    return None if values is None else _constant(values, 1)


def _constant(values: list[float], count: int) -> np.ndarray:
    if len(values) < count:
        raise ValueError(f"{count} numbers expected")
    return np.asarray(values[:count], np.float32).reshape(1, 1, count)


def _albedo(path: Path) -> np.ndarray:
    pixels = three_channels(read_pixels(path))
    return pixels if path.suffix.lower() in HDR_SUFFIXES else srgb_to_linear(pixels)


def _number(token: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9.]+(e[-+]?\d+)?", token, re.IGNORECASE) is not None
