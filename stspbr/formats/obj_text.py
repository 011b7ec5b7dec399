"""The text of OBJ and MTL files: byte order marks, continued lines, names in any encoding, and files by their names."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from stspbr.errors import StspbrError
from stspbr.files import read_file
from stspbr.notes import Notes

_CODE_PAGES = ("gb18030", "cp932", "cp949", "big5", "cp1251", "cp1252", "latin-1")
_LATIN = "names that are not UTF-8 are read byte by byte as Latin-1: they look different, but stay apart"


def text_lines(path: Path) -> list[bytes]:
    """The lines of a file in UTF-8 or a code page, continued lines joined, tabs as blanks; UTF-16 becomes UTF-8.

    Raises:
        StspbrError: the file is missing; UTF-16 that ends within a character.
    """
    data = read_file(path).removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data = data.decode("utf-16").encode("utf-8")
        except UnicodeError as error:
            raise StspbrError(f"{path} is truncated or not UTF-16 ({error}): export it as UTF-8") from error
    return re.sub(rb"\\[ \t]*\r?\n|\t", b" ", data).splitlines()


def name_of(raw: bytes, notes: Notes) -> str:
    """A name as text: UTF-8, else Latin-1, which keeps different bytes different, with a note."""
    raw = raw.strip()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        notes(_LATIN)
        return raw.decode("latin-1")


def named_file(folder: Path, raw: bytes, notes: Notes) -> Path | None:
    """The file that ``raw`` names relative to ``folder``; None if there is none.

    Backslashes separate folders, quotation marks are not part of the name, upper and lower case may be mixed up, and a
    file of a folder that does not exist (a path of another machine) is looked for in ``folder``, with a note.
    """
    raw = raw.strip().strip(b'"')
    names = [os.fsdecode(raw)]
    for page in ("utf-8", *_CODE_PAGES):
        try:
            names.append(raw.decode(page))
        except UnicodeDecodeError:
            continue
    for name in dict.fromkeys(names):
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts or "\0" in name:
            continue
        found = _found(folder, parts)
        if found is None and len(parts) > 1 and (found := _found(folder, parts[-1:])) is not None:
            notes(
                "it is not in the folder that is named, and is taken from the folder of the OBJ", repr(found.name)[1:-1]
            )
        if found is not None:
            return found
    return None


def named_files(folder: Path, raw: bytes, notes: Notes) -> list[tuple[str, Path | None]]:
    """The files of a line that may name several, or one with blanks; each with its name."""
    whole = named_file(folder, raw, notes)
    if whole is not None:
        return [(whole.name, whole)]
    parts = re.findall(rb'"[^"]+"|.+?\.mtl(?=\s|$)', raw.strip(), re.IGNORECASE) or [raw]
    return [(name_of(part, notes), named_file(folder, part, notes)) for part in parts]


def _found(folder: Path, parts: list[str]) -> Path | None:
    place = folder.joinpath(*parts)
    try:
        if place.is_file():
            return place
        for part in parts:
            named = [entry for entry in folder.iterdir() if entry.name.lower() == part.lower()] if part != ".." else []
            folder = named[0] if len(named) == 1 else folder / part
        return folder if folder.is_file() else None
    except (OSError, ValueError):  # too long a name, or a folder that may not be read
        return None
