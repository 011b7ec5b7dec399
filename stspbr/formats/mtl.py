"""MTL material libraries: the classic keys, the PBR keys, and packed ORM maps of files with ``bsdf pbr``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.colour import luminance_of, srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.images import HDR_SUFFIXES, IMAGE_SUFFIXES, read_pixels, three_channels
from stspbr.formats.map_lookups import Lookup, common_lookup, tiled
from stspbr.formats.obj_text import name_of, named_file, text_lines
from stspbr.notes import Notes
from stspbr.scene.material import Material, is_constant, scaled_normals

ASSUMED_ROUGHNESS = 0.5
_NEARLY, _CUT_OUT = 0.1, 0.9  # an opacity that counts as 0 or 1; the share of such texels that makes a cut-out

# How many values follow each option of a map line.
_OPTIONS = {"-blendu": 1, "-blendv": 1, "-boost": 1, "-cc": 1, "-mm": 2, "-o": 3, "-s": 3, "-t": 3, "-texres": 1,
            "-clamp": 1, "-bm": 1, "-imfchan": 1, "-type": 1}  # fmt: skip
_LEFT_OUT = {  # what our materials have no place for, and the values that change nothing
    "map_tr": ("transparency", None), "ke": ("emission", 0.0), "map_ke": ("emission", None), "pc": ("clearcoat", 0.0),
    "map_pc": ("clearcoat", None), "ps": ("sheen", 0.0), "map_ps": ("sheen", None), "disp": ("displacement", None),
    "decal": ("the decal", None), "refl": ("the reflection map", None), "aniso": ("anisotropy", 0.0),
}  # fmt: skip
_NAMES = {
    "albedo": ("basecolor", "base_color", "albedo", "diffuse"),
    "roughness": ("roughness",),
    "metallic": ("metallic", "metalness"),
    "normal": ("normal",),
    "occlusion": ("occlusion",),
}
_PACKED = re.compile(r"(?<![a-z])orm(?![a-z])|occlusionroughnessmetallic|metallic_?roughness")


@dataclass
class MapReference:
    """A map line of an MTL: its file and its options.

    Attributes:
        scale, offset: of the texture coordinates, v upwards (``-s``, ``-o``); channel: ``-imfchan``, or "".
        bump: ``-bm``; base, gain: ``-mm``, the value becomes base + gain · value; clamped: ``-clamp on``.
    """

    path: Path
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    channel: str = ""
    bump: float = 1.0
    base: float = 0.0
    gain: float = 1.0
    clamped: bool = False

    @property
    def lookup(self) -> Lookup:
        """Where the map is looked up, v upwards."""
        return Lookup.of("vt", np.c_[np.diag(self.scale), self.offset])

    def pixels(self) -> np.ndarray:
        """The stored numbers ``[H, W, C]``; ``-mm`` is applied."""
        pixels = read_pixels(self.path)
        return pixels if (self.base, self.gain) == (0.0, 1.0) else self.base + self.gain * pixels

    def value(self) -> np.ndarray:
        """One channel ``[H, W, 1]``: that of ``-imfchan``, else the first."""
        pixels = self.pixels()
        if self.channel == "m" and pixels.shape[-1] in (2, 4):
            return pixels[..., -1:]
        if self.channel == "l":
            return luminance_of(three_channels(pixels))[..., None]
        at = "rgb".find(self.channel) if self.channel else 0
        return three_channels(pixels)[..., max(at, 0) :][..., :1]


@dataclass
class MtlEntry:
    """One ``newmtl``: its keys in lower case with the rest of their lines."""

    folder: Path
    name: str = ""
    keys: dict[str, bytes] = field(default_factory=dict)

    def numbers(self, key: str) -> list[float] | None:
        """The numbers after a key, or None; ValueError if they are not numbers."""
        return [float(token) for token in self.keys[key].split()] if key in self.keys else None

    def image(self, notes: Notes, *keys: str) -> MapReference | None:
        """What the first key present refers to; StspbrError if the file is missing."""
        for key in keys:
            if not self.keys.get(key):
                continue
            tokens = self.keys[key].split(b" ")
            options: dict[str, list[str]] = {}
            while tokens and (option := tokens[0].decode("latin-1").lower()) in _OPTIONS:
                tokens.pop(0)
                values = options[option] = []
                several = option in ("-o", "-s", "-t")
                while tokens and len(values) < _OPTIONS[option] and (not several or _number(tokens[0])):
                    values.append(tokens.pop(0).decode("latin-1").lower())
            raw = b" ".join(tokens).strip()
            path = named_file(self.folder, raw, notes)
            if b"<UDIM>" in raw:
                raise StspbrError(f"{name_of(raw, notes)} is made of UDIM tiles: export it as one texture")
            if path is None:
                missing = name_of(raw, notes).replace("\\", "/")
                raise StspbrError(f"{self.folder} lacks the texture {missing} that an MTL names: copy it there")
            if "-t" in options or float((options.get("-boost") or ["0"])[0]):
                notes(f"options of {key} other than -s, -o, -bm, -mm, -imfchan and -clamp are left out", self.name)
            base, gain = (float(value) for value in (options.get("-mm") or ["0", "1"])[:2])
            return MapReference(
                path,
                _pair(options.get("-s", []), 1.0),
                _pair(options.get("-o", []), 0.0),
                "".join(options.get("-imfchan", [])),
                bump=float((options.get("-bm") or ["1"])[0]),
                base=base,
                gain=gain,
                clamped=options.get("-clamp") == ["on"],
            )
        return None


@dataclass
class MtlMaterial:
    """A material, where its maps are looked up (v upwards; None without maps), and what its MTL says of them.

    Attributes:
        coloured: whether the MTL gives it a colour; clamped: whether a map ends at the border of the unit square.
    """

    material: Material
    lookup: Lookup | None = None
    coloured: bool = True
    clamped: bool = False


def read_mtl(path: Path, notes: Notes) -> dict[str, MtlEntry]:
    """The materials of an MTL file by name."""
    out: dict[str, MtlEntry] = {}
    entry = None
    for line in text_lines(path):
        key, _, rest = line.strip().partition(b" ")
        if key == b"newmtl":
            name = name_of(rest, notes)
            if name in out:
                notes("it is described twice: the last is read", name)
            entry = out[name] = MtlEntry(path.parent, name)
        elif entry is not None and key and not key.startswith(b"#"):
            entry.keys[key.decode("latin-1").lower()] = rest.strip()
    return out


def materials_from_mtl(found: dict[str, MtlEntry], names: list[str], notes: Notes) -> list[MtlMaterial]:
    """The materials called ``names``; one that no MTL describes is white, with a note."""
    out = []
    for name in names:
        if name not in found:
            notes(
                f"no MTL describes it: roughness {ASSUMED_ROUGHNESS}, no metal, white if its vertices are not coloured",
                name,
            )
        try:
            out.append(_material(found.get(name, MtlEntry(Path(), name)), name, notes))
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
            maps[kind] = _albedo(path, read_pixels(path))
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
    if material.opacity is not None:
        add(material.coverage(), "opacity", "d", "map_d")
    add(material.roughness, "roughness", "Pr", "map_Pr")
    add(material.metallic, "metallic", "Pm", "map_Pm")
    if material.occlusion is not None:
        add(material.occlusion, "occlusion", None, "map_ao")
    if material.normal is not None:
        add(material.normal * 0.5 + 0.5, "normal", None, "norm")
    return lines, images


def _material(entry: MtlEntry, name: str, notes: Notes) -> MtlMaterial:
    where = str(entry.folder)
    given = {
        "albedo": entry.image(notes, "map_kd"),
        "roughness": entry.image(notes, "map_pr"),
        "metallic": entry.image(notes, "map_pm"),
        "normal": entry.image(notes, "norm", "map_bump", "bump"),
        "occlusion": entry.image(notes, "map_ao"),
        "opacity": entry.image(notes, "map_d"),
    }
    constants = {"roughness": entry.numbers("pr"), "metallic": entry.numbers("pm")}
    packed = entry.keys.get("bsdf", b"").lower() == b"pbr"
    if packed and not any([given["roughness"], given["metallic"], *constants.values()]):
        given["orm"] = entry.image(notes, "map_ks")
    elif "map_ks" in entry.keys:
        notes("the specular map is left out", name)
    normal = _normal(given["normal"], name, notes)
    if normal is None:
        given.pop("normal")
    maps = {kind: reference for kind, reference in given.items() if reference is not None}
    lookup, tiles = common_lookup({kind: own.lookup for kind, own in maps.items()}, where, name, notes)

    def shown(kind: str, image: np.ndarray) -> np.ndarray:
        return tiled(image, tiles[kind], f"{where}: {name}")

    def scalar(kind: str) -> np.ndarray | None:
        if kind in maps and kind in tiles:
            return shown(kind, maps[kind].value())
        values = constants.get(kind)
        return None if values is None else _constant(values, 1)

    albedo = _constant(entry.numbers("kd") or [1.0, 1.0, 1.0], 3)
    if "albedo" in maps:
        albedo = shown("albedo", _albedo(maps["albedo"].path, maps["albedo"].pixels()))
    roughness, metallic, occlusion = scalar("roughness"), scalar("metallic"), scalar("occlusion")
    constant = entry.numbers("ks")
    if packed and roughness is None and metallic is None and ("orm" in maps or constant is not None):
        orm = shown("orm", three_channels(maps["orm"].pixels())) if "orm" in maps else _constant(constant or [], 3)
        roughness, metallic = orm[..., 1:2], orm[..., 2:3]
        # This convention stores how much is occluded; ours is how much is open.
        occlusion = 1.0 - orm[..., :1] if occlusion is None and orm[..., 0].any() else occlusion
    if roughness is None:
        roughness = _constant([ASSUMED_ROUGHNESS], 1)
        if entry.keys:
            notes(f"the MTL gives no roughness, {ASSUMED_ROUGHNESS} is assumed", name)
    metallic = _constant([0.0], 1) if metallic is None else metallic
    opacity, cutoff = _opacity(entry, shown("opacity", _alpha(maps["opacity"])) if "opacity" in tiles else None)
    if normal is not None:
        normal = shown("normal", normal) if "normal" in tiles else None
    for key, (what, neutral) in _LEFT_OUT.items():
        if key in entry.keys and (
            neutral is None or any(float(v) != neutral for v in entry.keys[key].split() if _number(v))
        ):
            notes(f"{what} is left out", name)
    coloured = bool({"kd", "map_kd"} & entry.keys.keys())
    material = Material.of(albedo, roughness, metallic, occlusion, normal, name, opacity, cutoff)
    return MtlMaterial(material, lookup, coloured, any(own.clamped for own in maps.values()))


def _alpha(reference: MapReference) -> np.ndarray:
    """``[H, W, 1]`` of ``map_d``: the alpha of a picture that has one, as modellers name the coloured texture here."""
    stored = reference.pixels()
    if not reference.channel and stored.shape[-1] in (2, 4) and np.ptp(stored[..., -1]) > 0:
        return stored[..., -1:]
    return reference.value()


def _opacity(entry: MtlEntry, texels: np.ndarray | None) -> tuple[np.ndarray | None, float | None]:
    """Opacity and cutoff as ``Material`` has them, of ``d`` or ``Tr`` times ``map_d``; None if it is opaque.

    MTL has no cutoff: a map that is nearly everywhere 0 or 1 is taken as a cut-out.
    """
    named = entry.keys.get("d", b"").split()[-1:]  # after a possible -halo
    constant = float(named[0]) if named else 1.0 - (entry.numbers("tr") or [0.0])[0]
    opacity = np.float32(constant) * (_constant([1.0], 1) if texels is None else texels)
    if opacity.min() >= 1.0 - 1e-3:
        return None, None
    clear = (opacity < _NEARLY) | (opacity > 1.0 - _NEARLY)
    return opacity, 0.5 if opacity.size > 1 and clear.mean() > _CUT_OUT else None


def _normal(reference: MapReference | None, name: str, notes: Notes) -> np.ndarray | None:
    """Tangent-space normals of a map that is one, its slopes times ``-bm``."""
    if reference is None:
        return None
    stored = reference.pixels()
    if stored.shape[-1] < 3 or np.ptp(stored[..., :3], axis=-1).max() <= 0.02:
        notes("the grey bump map is left out, only normal maps are read", name)
        return None
    normal = stored[..., :3] * 2.0 - 1.0
    return normal if reference.bump == 1.0 else scaled_normals(normal, reference.bump)


def _constant(values: list[float], count: int) -> np.ndarray:
    if len(values) < count:
        raise ValueError(f"{count} numbers expected")
    return np.asarray(values[:count], np.float32).reshape(1, 1, count)


def _albedo(path: Path, pixels: np.ndarray) -> np.ndarray:
    pixels = three_channels(pixels)
    return pixels if path.suffix.lower() in HDR_SUFFIXES else srgb_to_linear(pixels)


def _pair(values: list[str], default: float) -> tuple[float, float]:
    u, v = ([float(value) for value in values] + [default] * 2)[:2]
    return u, v


def _number(token: bytes) -> bool:
    return re.fullmatch(rb"[-+]?[0-9.]+(e[-+]?\d+)?", token, re.IGNORECASE) is not None
