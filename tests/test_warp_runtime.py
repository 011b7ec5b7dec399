"""Launches of Warp kernels on torch tensors, what they refuse, and where compiled kernels are kept."""

from __future__ import annotations

import sys

import pytest
import torch

from stspbr import warp_runtime
from stspbr.errors import StspbrError

needs_warp = pytest.mark.skipif(warp_runtime.why_no_warp() is not None, reason=f"{warp_runtime.why_no_warp()}")

SOURCE = """
from __future__ import annotations

import warp as wp

from stspbr.warp_runtime import warp_function, warp_kernel


@warp_function
def twice(x: wp.float32):
    return x + x


@warp_kernel
def combine(
    values: wp.array2d[wp.float32], points: wp.array[wp.vec3], ids: wp.array[wp.int64], factor: wp.float32,
    out: wp.array2d[wp.float32],
):
    i, j = wp.tid()
    out[i, j] = twice(values[i, j]) * factor + points[i][2] + wp.float32(ids[j])
"""


@pytest.fixture(scope="module")
def combine(tmp_path_factory):
    """A kernel of a module on disk: Warp reads its source."""
    pytest.importorskip("warp")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "combining_kernels.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    try:
        import combining_kernels
    finally:
        sys.path.remove(str(folder))
    return combining_kernels.combine


def inputs():
    g = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, generator=g), torch.rand(4, 3, generator=g), torch.tensor([2, 3, 5])


@needs_warp
def test_a_kernel_reads_and_writes_tensors_in_place(combine):
    values, points, ids = inputs()
    wide = torch.zeros(4, 6)
    turned = values.t().contiguous().t().requires_grad_()  # other strides, and a leaf of a graph
    warp_runtime.launch(combine, (4, 3), turned, points, ids, 1.5, wide[:, ::2])
    expected = values * 3 + points[:, 2:] + ids
    torch.testing.assert_close(wide[:, ::2], expected)
    assert not wide[:, 1::2].any() and turned.grad is None


@needs_warp
def test_no_threads_and_empty_arrays(combine):
    _, _, ids = inputs()
    nothing = torch.empty(0, 3)
    warp_runtime.launch(combine, (0, 3), nothing, nothing, ids, 1.0, nothing)


@needs_warp
def test_arguments_that_do_not_fit_are_refused(combine):
    values, points, ids = inputs()
    out = torch.empty_like(values)
    for arguments, message in (
        ((values, points, ids, 1.0), "takes 5 arguments, not 4"),
        ((values[0], points, ids, 1.0, out), r"combine: values must have 2 dimensions, not \[3\]"),
        ((values, points[:, :2], ids, 1.0, out), "combine: points"),
        ((values.double(), points, ids, 1.0, out), "combine: values"),
        ((values, points, ids.int(), 1.0, out), "combine: ids"),
        ((values, points, ids, 1.0, out.to("meta")), "out is on meta"),
        ((values, points, ids, values, out), "factor is no array"),
    ):
        with pytest.raises(ValueError, match=message):
            warp_runtime.launch(combine, (4, 3), *arguments)


@needs_warp
def test_kernels_are_kept_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("WARP_CACHE_PATH", raising=False)
    wp = warp_runtime.load_warp()
    monkeypatch.setattr(wp.config, "kernel_cache_dir", None)
    warp_runtime.load_warp.__wrapped__()
    assert wp.config.kernel_cache_dir == str(tmp_path / "stspbr" / "warp")


def test_without_warp_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(warp_runtime, "why_no_warp", lambda: "warp-lang is not installed")
    with pytest.raises(StspbrError, match=r"warp-lang: pip install 'stspbr\[cuda\]'"):
        warp_runtime.load_warp.__wrapped__()
    monkeypatch.setattr(warp_runtime, "why_no_warp", lambda: "warp-lang cannot be imported: no GLIBC")
    with pytest.raises(StspbrError, match="no GLIBC"):
        warp_runtime.load_warp.__wrapped__()
