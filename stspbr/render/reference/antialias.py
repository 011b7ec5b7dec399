"""Antialias pair by pair in double precision, with differentiable crossings; gradients are autograd's."""

from __future__ import annotations

import torch

SLACK = 1.0 / 128.0  # pixels, as in the fast kernels: snapped vertices decide coverage


def antialias(color: torch.Tensor, rast: torch.Tensor, clip: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Twin of :func:`stspbr.render.cpu.antialias.antialias`; the result is float64."""
    color, rast, clip = color.double(), rast.detach().double(), clip.double()
    batch, height, width, _ = color.shape
    edges = _faces_at_edges(faces)
    images = []
    for b in range(batch):
        pixels = [[color[b, row, column] for column in range(width)] for row in range(height)]
        out = [list(line) for line in pixels]
        for row in range(height):
            for column in range(width):
                for step in ((0, 1), (1, 0)):
                    p, q = (row, column), (row + step[0], column + step[1])
                    if q[0] >= height or q[1] >= width:
                        continue
                    beta = _crossing(rast[b], clip[b], faces, edges, p, q)
                    if beta is None:
                        continue
                    color_p, color_q = pixels[p[0]][p[1]], pixels[q[0]][q[1]]
                    if beta < 0.5:
                        out[p[0]][p[1]] = out[p[0]][p[1]] + (0.5 - beta) * (color_q - color_p)
                    else:
                        out[q[0]][q[1]] = out[q[0]][q[1]] + (beta - 0.5) * (color_p - color_q)
        images.append(torch.stack([torch.stack(line) for line in out]))
    return torch.stack(images)


def _faces_at_edges(faces):
    edges: dict[frozenset, list[int]] = {}
    for face in faces.tolist():
        for corner in range(3):
            edge = frozenset((face[corner - 2], face[corner - 1]))
            edges.setdefault(edge, []).append(face[corner])
    return edges


def _crossing(rast, clip, faces, edges, p, q):
    """The fraction of the way from pixel ``p`` to ``q`` at the nearer triangle's silhouette, or None."""
    height, width = rast.shape[:2]
    id_p, id_q = int(rast[p][3]), int(rast[q][3])
    if id_p == id_q:
        return None
    nearer_is_p = id_q == 0 or (id_p != 0 and bool(rast[p][2] <= rast[q][2]))
    face = faces[(id_p if nearer_is_p else id_q) - 1].tolist()
    half = torch.tensor([0.5 * width, 0.5 * height]).double()
    # Homogeneous pixel coordinates relative to p's centre: (x, y) = (column, row) · w.
    centre = torch.tensor([p[1] + 0.5, p[0] + 0.5]).double()
    relative = {v: (clip[v, :2] + clip[v, 3]) * half - centre * clip[v, 3] for v in set(face)}
    along = 0 if p[0] == q[0] else 1
    across = 1 - along
    best = None
    for corner in range(3):
        i, j = face[corner - 2], face[corner - 1]
        a, b = relative[i], relative[j]
        if bool(a[across] < 0) == bool(b[across] < 0):
            continue
        t = a[across] / (a[across] - b[across])
        point, w = a + t * (b - a), clip[i, 3] + t * (clip[j, 3] - clip[i, 3])
        if w <= 0:
            continue
        beta = point[along] / w
        if best is None or (beta > best[0] if nearer_is_p else beta < best[0]):
            best = beta, corner
    if best is None:
        return None
    beta, corner = best
    i, j, k = face[corner - 2], face[corner - 1], face[corner]
    line = torch.linalg.cross(clip[i, [0, 1, 3]], clip[j, [0, 1, 3]]).detach()
    steep = bool(abs(line[0]) / half[0] >= abs(line[1]) / half[1])
    if steep != (along == 0) or abs(beta - 0.5) > 0.5 + SLACK:
        return None
    if any(_side(line, clip[k]) * _side(line, clip[o]) < 0 for o in edges[frozenset((i, j))]):
        return None
    return beta + (beta.clamp(0.0, 1.0) - beta).detach()


def _side(line, vertex):
    """−1, 0 or +1; 0 if only rounding would decide."""
    terms = line * vertex[[0, 1, 3]].detach()
    return 0 if abs(terms.sum()) <= 1e-12 * terms.abs().sum() else (1 if terms.sum() > 0 else -1)
