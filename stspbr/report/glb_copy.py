"""A lighter copy of a GLB for a page: the same mesh, its textures as JPEG and no larger than they need to be."""

from __future__ import annotations

import io
import json
import struct

from stspbr.errors import StspbrError

_HEADER, _CHUNK = struct.Struct("<4sII"), struct.Struct("<I4s")
_JPEG_QUALITY = 92
_SIDES = (1024, 512, 256)


def page_copy(data: bytes, limit: int) -> tuple[bytes, str]:
    """A GLB's bytes as they are where they are at most ``limit`` long, else with re-encoded textures.

    Textures become JPEGs of at most 1024 pixels a side, then 512, then 256, until the file fits; the mesh is never
    touched, so a very large one stays above the limit.

    Returns:
        the bytes, and one line that says what was done (empty: nothing).

    Raises:
        StspbrError: the bytes are no binary glTF 2.0.
    """
    content, binary = _parts(data)
    if len(data) <= limit:
        return data, ""
    small = data
    for side in _SIDES:
        small = _with_jpegs(content, binary, side)
        if len(small) <= limit:
            break
    if len(small) >= len(data):
        return data, f"The model has {_megabytes(data)}, nearly all of it mesh; it is embedded unchanged."
    return small, (
        f"The model's textures are JPEGs of at most {side} pixels in this page "
        f"({_megabytes(small)} in place of {_megabytes(data)}); the file of the bake is unchanged."
    )


def _parts(data: bytes) -> tuple[dict, bytes]:
    """The JSON and the binary chunk."""
    try:
        magic, version, length = _HEADER.unpack_from(data)
        if magic != b"glTF" or version != 2 or length > len(data):
            raise ValueError("no header")
        content, binary, at = None, b"", _HEADER.size
        while at + _CHUNK.size <= length:
            size, kind = _CHUNK.unpack_from(data, at)
            chunk = data[at + _CHUNK.size : at + _CHUNK.size + size]
            if kind == b"JSON":
                content = json.loads(chunk)
            elif kind == b"BIN\0":
                binary = chunk
            at += _CHUNK.size + size
        if not isinstance(content, dict):
            raise ValueError("no JSON chunk")
    except (ValueError, struct.error) as error:
        raise StspbrError(f"the bake's model is no binary glTF 2.0 file ({error}): run `stspbr bake` again") from None
    return content, binary


def _with_jpegs(content: dict, binary: bytes, side: int) -> bytes:
    content = json.loads(json.dumps(content))
    views = content.get("bufferViews", [])
    blobs = [_slice(binary, view) for view in views]
    for image in content.get("images", []):
        if "bufferView" not in image:
            continue
        jpeg = _jpeg(blobs[image["bufferView"]], side)
        if len(jpeg) < len(blobs[image["bufferView"]]):
            blobs[image["bufferView"]] = jpeg
            image["mimeType"] = "image/jpeg"
    packed = bytearray()
    for view, blob in zip(views, blobs, strict=True):
        packed += bytes(-len(packed) % 4)
        view["byteOffset"], view["byteLength"] = len(packed), len(blob)
        packed += blob
    packed += bytes(-len(packed) % 4)
    content["buffers"] = [{"byteLength": len(packed)}]
    text = json.dumps(content, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    length = _HEADER.size + 2 * _CHUNK.size + len(text) + len(packed)
    chunks = _CHUNK.pack(len(text), b"JSON") + text + _CHUNK.pack(len(packed), b"BIN\0") + bytes(packed)
    return _HEADER.pack(b"glTF", 2, length) + chunks


def _jpeg(encoded: bytes, side: int) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
        covered = image.convert("RGBA").getchannel("A").histogram()[255] if image.mode in ("RGBA", "LA", "PA") else None
        if covered is not None and covered < image.width * image.height:
            return encoded  # a JPEG has no coverage
        opaque = image.convert("RGB")
        if max(opaque.size) > side:
            opaque.thumbnail((side, side), Image.Resampling.BOX)
        stream = io.BytesIO()
        opaque.save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def _slice(binary: bytes, view: dict) -> bytes:
    start = view.get("byteOffset", 0)
    return binary[start : start + view["byteLength"]]


def _megabytes(data: bytes) -> str:
    return f"{len(data) / 1e6:.1f} MB"
