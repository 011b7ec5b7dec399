"""Warp kernels of mip chains: halving, spreading a gradient, and the levels and texels of a sample."""

from __future__ import annotations

import warp as wp

from stspbr.warp_runtime import warp_function, warp_kernel

MAX_LEVELS = 16  # of 32768 texels a side

Addresses = wp.types.vector(length=MAX_LEVELS, dtype=wp.uint64)
Offsets = wp.types.vector(length=MAX_LEVELS, dtype=wp.int64)
Sizes = wp.types.vector(length=MAX_LEVELS, dtype=wp.int32)


@wp.struct
class Chain:
    """Mip levels that lie anywhere on the device, handed to a kernel by value.

    Attributes:
        addresses: of the first float32 of each level ``[textures, (6,) height, width, channels]``.
        starts: of each level in a flat buffer of all of them.
        heights, widths: of the levels; of a cube map's faces.
        top: number of the last level.
        textures: 1, or one per image.
        per_image: samples of an image.
        channels: of a texel.
    """

    addresses: Addresses
    starts: Offsets
    heights: Sizes
    widths: Sizes
    top: wp.int32
    textures: wp.int32
    per_image: wp.int32
    channels: wp.int32


@warp_function
def bracket(level: wp.array[wp.float32], sample: wp.int32, top: wp.int32):
    """Lower and upper mip level, and the fraction between them; equal levels where the level is clamped (or NaN)."""
    lower, upper = wp.int32(0), wp.int32(0)
    fraction = wp.float32(0.0)
    if level.shape[0] > 0:
        wanted = level[sample]
        if wanted >= wp.float32(top) and wanted > 0.0:
            lower = top
            upper = top
        elif wanted > 0.0:
            lower = wp.int32(wanted)
            upper = lower + 1
            fraction = wanted - wp.float32(lower)
    return lower, upper, fraction


@warp_function
def texels_of(chain: Chain, level: wp.int32, faces: wp.int32):
    """A level as a flat array; ``faces`` is 6 for cube maps, else 1."""
    count = chain.textures * faces * chain.heights[level] * chain.widths[level] * chain.channels
    return wp.array(ptr=chain.addresses[level], shape=(count,), dtype=wp.float32)


@warp_function
def image_of(chain: Chain, sample: wp.int32):
    return wp.where(chain.textures > 1, sample // chain.per_image, 0)


@warp_kernel
def halve(tex: wp.array4d[wp.float32], out: wp.array4d[wp.float32]):
    """Each texel the mean of 2×2 texels, or of 2×1 where one side is 1."""
    image, i, j, k = wp.tid()
    tall, wide = tex.shape[1] // out.shape[1], tex.shape[2] // out.shape[2]
    total = wp.float32(0.0)
    for di in range(tall):
        for dj in range(wide):
            total += tex[image, i * tall + di, j * wide + dj, k]
    out[image, i, j, k] = total / wp.float32(tall * wide)


@warp_kernel
def spread(grad_out: wp.array4d[wp.float32], grad: wp.array4d[wp.float32]):
    """The transpose of ``halve``, added to ``grad``."""
    image, i, j, k = wp.tid()
    tall, wide = grad.shape[1] // grad_out.shape[1], grad.shape[2] // grad_out.shape[2]
    grad[image, i, j, k] = grad[image, i, j, k] + grad_out[image, i // tall, j // wide, k] / wp.float32(tall * wide)
