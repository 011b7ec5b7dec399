"""SSIM and MS-SSIM of batches of tensors: torchmetrics as the judge of values, finite differences of gradients."""

from __future__ import annotations

import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.metrics.similarity import ms_ssim, ms_ssim_octaves, ssim_windows


def images(height: int, width: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, noise = torch.rand(2, 2, height, width, 3, generator=generator, dtype=torch.float64)
    return 0.7 * first + 0.3 * noise, first


@pytest.mark.parametrize(("height", "width", "octaves"), [(180, 177, 5), (90, 95, 4), (50, 44, 3), (12, 30, 1)])
def test_octave_by_octave_as_torchmetrics(height, width, octaves):
    ssim = pytest.importorskip("torchmetrics.functional.image").structural_similarity_index_measure
    x, y = (image.permute(0, 3, 1, 2) for image in images(height, width))
    assert ms_ssim_octaves(height, width) == octaves
    weights = torch.tensor([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:octaves], dtype=torch.float64)
    weights = weights if octaves == 5 else weights / weights.sum()
    expected = torch.ones(2, dtype=torch.float64)
    for octave in range(octaves):
        whole, contrast = ssim(x, y, data_range=1.0, reduction="none", return_contrast_sensitivity=True)
        expected *= (whole if octave == octaves - 1 else contrast) ** weights[octave]
        x, y = torch.nn.functional.avg_pool2d(x, 2), torch.nn.functional.avg_pool2d(y, 2)
    found = ms_ssim(*images(height, width))
    assert torch.allclose(found, expected, rtol=1e-12)
    single = ms_ssim(*(image.float() for image in images(height, width)))
    assert torch.allclose(single.double(), expected, rtol=1e-4)


def test_octaves_by_size():
    assert [ms_ssim_octaves(size, 400) for size in (11, 21, 22, 44, 88, 175, 176, 1024)] == [1, 1, 2, 3, 4, 4, 5, 5]
    with pytest.raises(StspbrError, match="at least 11x11 pixels, not 400x10"):
        ms_ssim_octaves(10, 400)


def test_each_image_has_its_own_mask():
    x, y = images(64, 80)
    mask = torch.zeros(2, 64, 80, 1, dtype=torch.float64)
    mask[0, :30], mask[1, :, 50:] = 1.0, 0.5
    alone = [ms_ssim(x[k : k + 1], y[k : k + 1], mask=mask[k : k + 1]) for k in range(2)]
    assert torch.allclose(ms_ssim(x, y, mask=mask), torch.cat(alone), rtol=1e-12)
    with pytest.raises(StspbrError, match="the mask is empty in octave 1"):
        ms_ssim(x, y, mask=0 * mask)


def test_gradients_against_finite_differences():
    x, y = images(26, 23)
    assert torch.autograd.gradcheck(lambda image: ms_ssim(image, y, floor=1e-6), x.requires_grad_(), fast_mode=True)
    same = y.clone().requires_grad_()
    ms_ssim(same, y).sum().backward()
    assert same.grad.abs().max() < 1e-6  # the maximum


def test_flat_images_differ_in_luminance_only():
    a, b = torch.full((1, 1, 20, 20), 0.25), torch.full((1, 1, 20, 20), 0.5)
    similarity, contrast = ssim_windows(a, b)
    assert torch.allclose(contrast, torch.ones(()), atol=1e-4)
    assert torch.allclose(similarity, torch.tensor((0.25 + 1e-4) / (0.3125 + 1e-4)), atol=1e-4)
