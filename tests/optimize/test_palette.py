"""Points of like colour are one group, wherever they are; metal is a group of its own."""

import torch

from stspbr.optimize.palette import palette

COLOURS = torch.tensor([[0.8, 0.7, 0.6], [0.8, 0.1, 0.1], [0.05, 0.05, 0.06]])


def speckled(count=3000, spread=0.05):
    owner = torch.arange(count) % 3
    noise = spread * torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return owner, COLOURS[owner] * noise.exp()


def groups_of(albedo, metallic=None, radius=0.6):
    metallic = torch.zeros(len(albedo), 1) if metallic is None else metallic
    return palette(albedo, metallic, radius, torch.Generator().manual_seed(1))


def test_three_colours_are_found_again():
    owner, albedo = speckled()
    group, colours = groups_of(albedo)
    assert len(colours) == 3
    assert all(len(group[owner == k].unique()) == 1 for k in range(3))
    found = torch.stack([colours[group[owner == k][0]] for k in range(3)])
    torch.testing.assert_close(found, COLOURS, rtol=0.03, atol=0.003)


def test_metal_and_paint_of_one_colour_are_two_groups():
    owner, albedo = speckled()
    metallic = (torch.arange(len(albedo))[:, None] // 3 % 2).float()
    group, colours = groups_of(albedo, metallic)
    assert len(colours) == 6
    assert len(torch.stack([group, metallic[:, 0].long()]).unique(dim=1)[0]) == 6


def test_stray_points_make_no_colours():
    _, albedo = speckled()
    albedo[:3] = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    assert len(groups_of(albedo)[1]) == 3


def test_one_point_is_one_colour():
    group, colours = groups_of(torch.tensor([[0.2, 0.3, 0.4]]))
    assert group.tolist() == [0]
    torch.testing.assert_close(colours, torch.tensor([[0.2, 0.3, 0.4]]))


def test_no_more_groups_than_allowed():
    albedo = torch.rand(5000, 3, generator=torch.Generator().manual_seed(4))
    group, colours = groups_of(albedo, radius=0.05)
    assert len(colours) <= 32 and int(group.max()) < len(colours)
