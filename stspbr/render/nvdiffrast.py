"""nvdiffrast behind the raster protocol (CUDA; installed by the user, see ``stspbr doctor``).

**Unverified:** written against the documentation and the input checks of nvdiffrast 0.4; it has not run on a GPU. It
is tested against a stand-in with the same checks (``tests/render/test_nvdiffrast.py``).

Differences from the ``cpu`` backend:

* it takes contiguous tensors with at least one pixel and one triangle: empty ones are handled here;
* it has no mip levels below one with an odd side: chains end there, as in ``build_mips``;
* it snaps vertices to 1/16 pixel, not 1/256, so coverage at edges may differ by a pixel;
* it takes no layer in front (``behind``), and no ``linear-mipmap-nearest``: it floors the level, the others round;
* it counts pixels in 32 bits: antialiasing of large batches is split here;
* its ``rasterize`` waits for the GPU once per call; sums in its backward passes have no fixed order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.render.last_tensors import OfLastTensors
from stspbr.render.raster_backend import RasterBackend
from stspbr.render.raster_checks import MAX_FACES

MAPS = 8  # constant textures whose mip levels are kept
MAX_PIXELS = 1 << 27  # of one antialiasing: nvdiffrast's work buffer has 8 integers a pixel, counted in 32 bits


def nvdiffrast_backend(device: torch.device) -> RasterBackend:
    """nvdiffrast's operations with a CUDA context of their own on ``device``."""
    import nvdiffrast.torch as dr

    context = dr.RasterizeCudaContext(device=device)
    topology = OfLastTensors(lambda faces: dr.antialias_construct_topology_hash(faces.contiguous()))
    mips = OfLastTensors(lambda tex, *of: dr.texture_construct_mip(tex.contiguous(), *of), MAPS)

    def rasterize(
        clip: Tensor, faces: Tensor, resolution: tuple[int, int], behind: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if behind is not None:  # its peeler keeps the layer in front inside the context and takes none from outside
            raise StspbrError("nvdiffrast draws no cut-outs here: use --backend warp, or fields.alpha=off")
        if len(faces) >= MAX_FACES:  # it writes larger ids as bits, which we do not read
            raise ValueError(f"{len(faces)} faces: triangle ids in float32 are exact only below {MAX_FACES}")
        if len(faces) == 0:
            rast = _nothing(clip, (len(clip), *resolution, 4))
            return rast, torch.zeros_like(rast)
        return dr.rasterize(context, clip.contiguous(), faces.contiguous(), resolution)

    def interpolate(
        attributes: Tensor,
        rast: Tensor,
        faces: Tensor,
        rast_db: Tensor | None = None,
        diff_attributes: str | list[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        if rast.numel() == 0 or len(faces) == 0:
            shape, channels = rast.shape[:3], attributes.shape[-1]
            derived = channels if diff_attributes == "all" else len(diff_attributes or [])
            return _nothing(attributes, (*shape, channels)), _nothing(attributes, (*shape, 2 * derived))
        db = None if rast_db is None else rast_db.contiguous()
        return dr.interpolate(
            attributes.contiguous(), rast.contiguous(), faces.contiguous(), rast_db=db, diff_attrs=diff_attributes
        )

    def antialias(color: Tensor, rast: Tensor, clip: Tensor, faces: Tensor) -> Tensor:
        if color.numel() == 0 or len(faces) == 0:
            return color
        height, width = color.shape[1:3]
        if (images := MAX_PIXELS // (height * width)) == 0:
            raise StspbrError(f"nvdiffrast cannot antialias {width}×{height} pixels: use --backend warp")
        faces, edges = faces.contiguous(), topology(faces)
        parts = zip(color.split(images), rast.split(images), clip.split(images), strict=True)
        done = [dr.antialias(*(t.contiguous() for t in part), faces, topology_hash=edges) for part in parts]
        return done[0] if len(done) == 1 else torch.cat(done)

    def texture(
        tex: Tensor,
        uv: Tensor,
        uv_da: Tensor | None = None,
        mip_level_bias: Tensor | None = None,
        mip: list[Tensor] | None = None,
        filter_mode: str = "auto",
        boundary_mode: str = "wrap",
        max_mip_level: int | None = None,
    ) -> Tensor:
        if filter_mode == "linear-mipmap-nearest":
            raise StspbrError("nvdiffrast: linear-mipmap-nearest means another level there: use --backend warp")
        if uv.numel() == 0:
            return _nothing(tex, (*uv.shape[:3], tex.shape[-1]))
        if mip is None:
            exact = _exact_halvings(tex.shape[-3], tex.shape[-2])
            max_mip_level = exact if max_mip_level is None else min(exact, max_mip_level)
            if filter_mode in ("auto", "linear-mipmap-linear") and max_mip_level and not tex.requires_grad:
                mip = mips(tex, max_mip_level, boundary_mode == "cube")
        elif not mip:  # it refuses an empty list
            mip, max_mip_level = None, 0
        else:
            mip = [level.contiguous() for level in mip]
        da, bias = (None if t is None else t.contiguous() for t in (uv_da, mip_level_bias))
        return dr.texture(tex.contiguous(), uv.contiguous(), da, bias, mip, filter_mode, boundary_mode, max_mip_level)

    return RasterBackend("nvdiffrast", rasterize, interpolate, antialias, texture)


def _exact_halvings(height: int, width: int) -> int:
    """Levels of a mip chain until it is 1×1 or a side greater than 1 is odd."""
    count = 0
    while (height > 1 or width > 1) and not any(side > 1 and side % 2 for side in (height, width)):
        height, width, count = max(1, height // 2), max(1, width // 2), count + 1
    return count


def _nothing(source: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros that depend on ``source`` as a result does, for the backward pass."""
    return source.new_zeros(shape) + 0.0 * source.sum()
