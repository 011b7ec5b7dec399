"""Masks as people export them, read as coverage in [0, 1]: the one way for every capture.

What the numbers of a mask mean is decided for all masks of a capture together, separately for each kind of file:

- *alpha*: of images with alpha that is not the same everywhere, whatever their colours; it is coverage as it stands;
- *palette*: the indices of a palette with colours are labels, 0 is the background, and 255 is void beside others;
- *colour*: flat colours on black are labels; an image of the object on black covers what is not black;
- *grey*: integers of 1 to 16 bits, floats, and palettes of greys.

One value beside 0 is the object, whatever the value. Several are labels if they fill areas (each in the interior of
at least 1 % of all that is covered): 2 to 32 values of which one that fills an area lies between 10 % and 90 % of the
largest, or below while none lies above 90 % but the largest itself, or the largest is below half of the full scale; or
values of at most 32 on a scale of 255 and more. All else is soft coverage, divided by the largest value if that is not
the full scale.

Greys of 8 bits that hold 128 and 255 and nothing else beside 0, or in which only these fill areas, have three values:
128 is *unknown*, a pixel of which nobody says whether it shows the object (a hand, a stand, something in front). Such
pixels count nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.choices import FileChoices
from stspbr.formats.mask_numbers import (
    NOISE,
    MaskNumbers,
    MaskSurvey,
    channels_of,
    decode_mask,
    distance_to,
    look_at,
    numbers_of,
    without_noise,
)
from stspbr.notes import Notes, first_few
from stspbr.threads import available_cores

UNKNOWN = 128.0
"""The grey of pixels that are neither object nor background, in masks of 8 bits."""
_MOST_LABELS = 32
_FILLED = 0.01  # share of what is covered that a label fills with its interior
_FLAT = 0.5  # share of what is covered that lies inside of flat colours, if colours are labels
_AT_BORDER, _NEARLY_ALL = 0.6, 0.9  # share of an inverted mask's border that is covered; share of such masks


class MaskReading:
    """What the masks of one capture mean.

    Args:
        files: all of them; those that cannot be read are left to :meth:`read`.
        choices: label and inversion.
        notes: receives what was decided.

    Raises:
        StspbrError: several labels without a choice, or a choice that no mask holds.
    """

    def __init__(self, files: Sequence[Path], choices: FileChoices, notes: Notes | None = None) -> None:
        with ThreadPoolExecutor(available_cores()) as pool:
            looks = [look for look in pool.map(look_at, dict.fromkeys(files)) if look]
        self.choices = choices
        wanted = None if choices.mask_label is None else _labels(choices.mask_label)
        alphas = {code for look in looks if look.alpha is not None for code in look.alpha.counts}
        self._by_alpha = wanted is None and len(alphas) > 1
        groups: dict[tuple[str, float], list[MaskSurvey]] = {}
        for look in looks:
            survey = look.alpha if self._by_alpha and look.alpha is not None else look.own
            groups.setdefault((survey.kind, survey.full), []).append(survey)
        if wanted is None:
            self._rules = {kind: _decided(*kind, group, notes) for kind, group in groups.items()}
        else:
            chosen = {kind: _chosen(wanted, kind[0], group) for kind, group in groups.items()}
            if chosen and not any(found for _, found in chosen.values()):
                raise _absent(str(choices.mask_label), groups)
            self._rules = {kind: rule for kind, (rule, _) in chosen.items()}
        if notes is not None:
            self._note_inversion([survey for group in groups.values() for survey in group], notes)

    def read(self, path: Path) -> np.ndarray:
        """The coverage ``[H, W, 1]`` float32 in [0, 1] of a mask; 1: the object. Where it is unknown it is 0.

        Raises:
            StspbrError: the file is missing, broken or not an image.
        """
        return self.read_both(path)[0]

    def read_both(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """As ``read``, and ``[H, W, 1]`` float32: 1 where the mask is known, 0 where not; None: it is everywhere."""
        stored = numbers_of(decode_mask(path), self._by_alpha)
        rule = self._rules.get((stored.kind, stored.full), _Rule(stored.full))
        coverage = rule.coverage(stored)
        coverage = 1.0 - coverage if self.choices.invert_masks else coverage
        known = None
        if rule.unknown is not None:
            inside = stored.codes != rule.unknown
            coverage = coverage * inside
            known = None if inside.all() else np.ascontiguousarray(inside[..., None], np.float32)
        return np.ascontiguousarray(coverage[..., None], np.float32), known

    def _note_inversion(self, surveys: list[MaskSurvey], notes: Notes) -> None:
        shares = []
        for survey in surveys:
            rule = self._rules[survey.kind, survey.full]
            lines = [MaskNumbers(survey.kind, codes, survey.full, survey.lossy) for codes in survey.borders]
            borders = [rule.coverage(line) > 0.5 for line in lines]
            shares.append(np.concatenate(borders).mean() if all(border.any() for border in borders) else 0.0)
        across = sum(share >= _AT_BORDER for share in shares)
        if self.choices.invert_masks:
            if shares and sum(share < 1 - _AT_BORDER for share in shares) >= _NEARLY_ALL * len(shares):
                notes("with invert_masks nearly every mask covers the borders of its image: leave it out?")
        elif across and across >= _NEARLY_ALL * len(shares) and not all(survey.uniform for survey in surveys):
            notes(
                f"{across} of {len(shares)} masks cover all four borders of their images: if they are white where the "
                "object is not, give --invert-masks"
            )


@dataclass(frozen=True)
class _Rule:
    """From a mask's numbers to coverage: the codes in ``labels``, or else the part of ``top``."""

    top: float
    labels: tuple[float, ...] | None = None
    others: tuple[float, ...] = (0.0,)  # colours that a lossy mask may hold instead
    unknown: float | None = None  # the code of pixels that are neither

    def coverage(self, stored: MaskNumbers) -> np.ndarray:
        codes = stored.codes
        if stored.kind == "colour":
            if self.labels is not None:
                if stored.lossy:
                    return distance_to(codes, self.labels) < distance_to(codes, self.others)
                return distance_to(codes, self.labels) == 0
            codes = channels_of(codes).max(axis=-1)
        elif self.labels is not None:
            return np.isin(codes, self.labels)
        return np.clip(without_noise(codes, stored) / np.float32(self.top), 0.0, 1.0)


@dataclass
class _Group:
    """The surveys of one kind together."""

    counts: Counter[float] = field(default_factory=Counter)
    inside: Counter[float] = field(default_factory=Counter)

    @classmethod
    def of(cls, surveys: Sequence[MaskSurvey]) -> _Group:
        out = cls()
        for survey in surveys:
            out.counts.update(survey.counts)
            out.inside.update(survey.inside)
        return out

    def filling(self) -> list[float]:
        """The values beside 0 that fill areas."""
        covered = sum(count for code, count in self.inside.items() if code)
        return sorted(code for code, count in self.inside.items() if code and count >= _FILLED * covered)


def _decided(kind: str, full: float, surveys: list[MaskSurvey], notes: Notes | None) -> _Rule:
    group, values = _Group.of(surveys), _held(surveys)[0]
    names = [survey.name for survey in surveys]
    if kind == "colour":
        return _colour_rule(group, surveys, notes)
    if kind == "palette" and len(values) > 1 and 255.0 in values:
        values.remove(255.0)
        _each(notes, names, "label 255 of a palette is void and counts as the background")
    if kind == "grey" and full == 255 and [UNKNOWN, 255.0] in (values, group.filling()):
        _each(notes, names, "three values: grey 128 is unknown, neither object nor background")
        return _Rule(full, unknown=UNKNOWN)
    if len(values) == 1:
        if values[0] != full and kind != "palette":
            _each(notes, names, f"the values 0 and {values[0]:g} (of {full:g}) are read as coverage 0 and 1")
        return _Rule(full, tuple(values))
    if len(values) > 1 and (kind == "palette" or kind == "grey" and _are_labels(values, group.filling(), full)):
        raise _several(values, names, f"{values[0]:g}")
    top = max(values, default=full)
    if kind == "grey" and top != full:
        _each(notes, names, f"soft masks of 0 to {top:g}, not {full:g}: divided by {top:g}")
        return _Rule(top)
    return _Rule(full)


def _are_labels(values: list[float], filling: list[float], full: float) -> bool:
    if not 1 < len(values) <= _MOST_LABELS:
        return False
    if full >= 255 and values[-1] <= _MOST_LABELS:
        return True
    top = values[-1]
    least = 0.1 * top if any(0.9 * top < value < top for value in values) else 0.0  # noise is at both ends
    between = any(least <= value <= 0.9 * top for value in filling)
    return len(filling) > 1 and (between or top < full / 2)


def _colour_rule(group: _Group, surveys: list[MaskSurvey], notes: Notes | None) -> _Rule:
    names, lossy = [survey.name for survey in surveys], any(survey.lossy for survey in surveys)
    flat = _merged(group.inside) if lossy else {code: group.inside[code] for code in group.filling()}
    codes, counts = np.array(list(group.counts)), np.array(list(group.counts.values()))
    counts = np.where(channels_of(codes).max(axis=-1) > (NOISE if lossy else 0), counts, 0)
    if 1 < len(flat) <= _MOST_LABELS and sum(flat.values()) >= _FLAT * counts.sum():
        shown = [f"#{int(code):06x}" for code in flat]
        raise _several(shown, names, shown[0])
    if len(flat) == 1:
        (colour,) = flat
        top = float(channels_of(colour).max())
        shade = np.outer(channels_of(codes).max(axis=-1) / top, channels_of(colour))
        shades = np.abs(channels_of(codes) - shade).max(axis=-1) <= 2 * NOISE
        if counts[shades].sum() >= _NEARLY_ALL * counts.sum():
            _each(notes, names, f"the colour #{int(colour):06x} on black is the object")
            return _Rule(top)
    _each(notes, names, "a mask in many colours is read as the object on black: what is not black is the object")
    return _Rule(float(NOISE if lossy else 1))


def _merged(inside: Counter[float]) -> dict[float, int]:
    """The flat colours of JPEGs: what is near a more frequent colour is that colour."""
    out: dict[float, int] = {}
    for code, count in inside.most_common(4096):
        if channels_of(code).max() <= 2 * NOISE:
            continue
        near = next((kept for kept in out if distance_to(np.array([code]), (kept,))[0] <= 3 * NOISE), code)
        out[near] = out.get(near, 0) + count
    total = sum(out.values())
    return {code: count for code, count in out.items() if count >= _FILLED * total}


def _chosen(wanted: tuple[float, ...], kind: str, surveys: Sequence[MaskSurvey]) -> tuple[_Rule, bool]:
    """The rule of chosen labels (no numbers: all), and whether there are any."""
    values, lossy = _held(surveys)
    if kind == "colour":
        if not wanted:
            return _Rule(float(NOISE if lossy else 1)), bool(values)
        found = bool((distance_to(np.array(values), wanted) <= (2 * NOISE if lossy else 0)).any())
        flat = np.array([*_merged(_Group.of(surveys).inside)] if lossy else [])
        others = flat[distance_to(flat, wanted) > 3 * NOISE]
        return _Rule(1.0, wanted, (0.0, *others.tolist())), found
    greys = tuple(float(int(code) & 255) for code in wanted if code > 255 and not np.ptp(channels_of(code)))
    labels = (*wanted, *greys) or tuple(values)  # an image with one grey label is a grey image
    return _Rule(1.0, labels), bool(set(labels) & set(values))


def _held(surveys: Sequence[MaskSurvey]) -> tuple[list[float], bool]:
    """The values beside 0, and whether a file is lossy."""
    return sorted(code for code in _Group.of(surveys).counts if code), any(survey.lossy for survey in surveys)


def _absent(text: str, groups: Mapping[tuple[str, float], Sequence[MaskSurvey]]) -> StspbrError:
    """The error that no mask has the label ``text``."""
    held = []
    for (kind, _), surveys in groups.items():
        held += [f"#{int(code):06x}" if kind == "colour" else f"{code:g}" for code in _held(surveys)[0]]
    names = [survey.name for surveys in groups.values() for survey in surveys]
    shown = ", ".join(held[:10]) + (", …" if len(held) > 10 else "")
    remedy = f"choose one of {shown}" if shown else "there is nothing but 0"
    return StspbrError(f"mask_label={text} is in no mask of {first_few(names, 'files')}: {remedy}")


def _several(values: Sequence[float | str], names: list[str], example: str) -> StspbrError:
    shown = ", ".join(value if isinstance(value, str) else f"{value:g}" for value in values[:10])
    more = f" and {len(values) - 10} more" if len(values) > 10 else ""
    return StspbrError(
        f"the masks hold several labels, {shown}{more} in {first_few(names, 'files')}: choose the object's, "
        f"e.g. --mask-label {example}, or several with commas, or all"
    )


def _labels(text: str) -> tuple[float, ...]:
    """The codes of ``mask_label``; empty: all."""
    if text.strip().lower() == "all":
        return ()
    try:
        return tuple(
            float(int(part[1:], 16) if part.startswith("#") else int(part)) for part in text.replace(" ", "").split(",")
        )
    except ValueError:
        raise StspbrError(f"mask_label={text}: give numbers or colours, e.g. 1, or 1,2, or #00ff00, or all") from None


def _each(notes: Notes | None, names: Sequence[str], text: str) -> None:
    for name in names if notes is not None else ():
        notes(text, name)  # type: ignore[misc]
