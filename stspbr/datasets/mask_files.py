"""The masks that belong to images, by their names: the same for every way to make a capture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from stspbr.errors import StspbrError
from stspbr.files import alike
from stspbr.formats.images import IMAGE_SUFFIXES

MASK_SUFFIXES = (".png", *IMAGE_SUFFIXES, ".gif")  # the first is preferred
_AFFIXES = ("{}", "{}_mask", "{}-mask", "{}.mask", "mask_{}", "{}_matte", "{}_alpha", "{}_seg")


def mask_folder(folder: Path, masks: str | None) -> Path:
    """Where the masks of a data set are: ``masks`` in ``folder``, or the folder that was asked for, which must be."""
    if masks is None:
        return folder / "masks"
    place = next((place for place in (folder / masks, Path(masks)) if place.is_dir()), None)
    if place is None:
        raise StspbrError(f"the mask folder {folder / masks} does not exist: check masks")
    return place


def find_masks(masks: Path, names: Sequence[str]) -> dict[str, Path]:
    """The mask of each image that has one.

    The mask of ``a/IMG.JPG`` is ``a/IMG.JPG.png`` as COLMAP has it, ``a/IMG.png``, ``a/IMG_mask.png``,
    ``a/mask_IMG.png`` or the like, in any case and with any image suffix; without the folder ``a/`` if no other image
    has this last part.
    Hidden files are left out.

    Args:
        masks: the folder; names: of all images, relative, with suffix.
    """
    held: dict[str, Path] = {}
    files = [path for path in masks.rglob("*") if path.suffix.lower() in MASK_SUFFIXES and path.is_file()]
    for path in sorted(files, key=lambda path: (MASK_SUFFIXES.index(path.suffix.lower()), path.as_posix())):
        relative = path.relative_to(masks)
        if not any(part.startswith(".") for part in relative.parts):
            stem = relative.with_suffix("").as_posix()
            held.setdefault(stem, path)
            held.setdefault(f"/{alike(stem)}", path)  # no relative path begins with a slash
    last_parts = Counter(PurePosixPath(name).name.lower() for name in names)

    def find(name: str) -> Path | None:
        path = PurePosixPath(name)
        wanted = (
            [path] if len(path.parts) == 1 or last_parts[path.name.lower()] > 1 else [path, PurePosixPath(path.name)]
        )
        stems = [
            (each.parent / affix.format(last)).as_posix()
            for each in wanted
            for affix in _AFFIXES
            for last in ((each.name, each.stem) if affix == "{}" else (each.stem, each.name))
        ]
        return next((held[stem] for stem in [*stems, *(f"/{alike(s)}" for s in stems)] if stem in held), None)

    found = {name: find(name) for name in names}
    return {name: path for name, path in found.items() if path is not None}
