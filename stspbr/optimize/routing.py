"""Which loss drives which parameter group, and the backward pass that implements it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from stspbr.errors import StspbrError

STRICT_A = frozenset({"geometry", "appearance", "light", "joint", "response", "cameras"})
"""The groups that colour, mask and shape losses drive."""
STRICT_B = frozenset({"reflectance"})
"""The group that the reflectance losses drive."""


@dataclass
class Term:
    """One weighted loss term.

    Attributes:
        name: in the log.
        value: scalar, including the weight.
        drives: the groups that it drives under strict routing.
        parts: for a composite, its entries by name, detached and without weights.
        closed: it depends on no other group anyway, so it may share the backward pass of a term that drives more.
    """

    name: str
    value: Tensor
    drives: frozenset[str]
    parts: dict[str, Tensor] = field(default_factory=dict)
    closed: bool = False


def scaled(terms: list[Term], weight: float) -> list[Term]:
    """The terms of a part of the batch times its weight in the whole; the same list for weight 1."""
    if weight == 1.0:
        return terms
    return [
        replace(term, value=term.value * weight, parts={name: part * weight for name, part in term.parts.items()})
        for term in terms
    ]


def logged_values(terms: list[Term]) -> dict[str, Tensor]:
    """Every term and every part of a composite (``A/logl1``) by name, detached."""
    values = {}
    for term in terms:
        values.update({f"{term.name}/{name}": value for name, value in term.parts.items()})
        values[term.name] = term.value.detach()
    return values


def check_finite(terms: list[Term], step: int) -> None:
    """Check all terms of a step.

    Raises:
        StspbrError: a term is not finite; names the step and the first such term.
    """
    values = logged_values(terms)
    finite = torch.isfinite(torch.stack([value.float() for value in values.values()])).tolist()
    for name, good in zip(values, finite, strict=True):
        if not good:
            raise StspbrError(
                f"step {step}: the loss term {name} is not finite; lower the learning rates "
                "or look for NaN or extreme pixels in the capture"
            )


def backpropagate(terms: list[Term], groups: dict[str, list[Tensor]], routing: Literal["strict", "shared"]) -> None:
    """Set ``.grad`` of every parameter from one forward pass.

    With ``strict`` each term reaches only the groups it drives: the terms that drive the same groups are summed and
    differentiated by those groups' parameters alone, so autograd never enters the others' graphs; closed terms join
    the first pass that covers them. With ``shared`` every term reaches everything it depends on (the prototype's
    behaviour). Parameters that no term reaches get ``grad = None``, so the optimiser skips them.
    """
    for parameters in groups.values():
        for parameter in parameters:
            parameter.grad = None
    packs = [(terms, frozenset(groups))] if routing == "shared" else _packs(terms)
    driven = [(pack, [p for name, ps in groups.items() if name in d for p in ps]) for pack, d in packs]
    totals = [
        (torch.stack([term.value for term in pack]).sum(), parameters) for pack, parameters in driven if parameters
    ]
    totals = [(total, parameters) for total, parameters in totals if total.requires_grad]
    for position, (total, parameters) in enumerate(totals):
        wanted = [p for p in parameters if p.requires_grad]
        if not wanted:
            continue
        keep = position + 1 < len(totals)
        gradients = torch.autograd.grad(total, wanted, retain_graph=keep, allow_unused=True)
        for parameter, gradient in zip(wanted, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _packs(terms: list[Term]) -> list[tuple[list[Term], frozenset[str]]]:
    """The terms of each backward pass and the groups it drives."""
    packs: dict[frozenset[str], list[Term]] = {term.drives: [] for term in terms if not term.closed}
    for term in terms:
        home = next((d for d in packs if term.drives <= d), term.drives) if term.closed else term.drives
        packs.setdefault(home, []).append(term)
    return [(pack, drives) for drives, pack in packs.items()]
