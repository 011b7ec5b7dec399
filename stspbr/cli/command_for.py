"""Commands whose options come from a settings model: types, choices, ranges, defaults and help are declared there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from stspbr.cli.options import COMMON
from stspbr.threads import prepare_process

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Function = Callable[..., None]


def settings_command(
    app: typer.Typer, name: str, *, base: type[TyperCommand] = TyperCommand, help: str | None = None, **choices: Any
) -> Callable[[Function], Function]:
    """Add a function to ``app`` as the command ``name``, its parameter ``settings`` replaced by a model's options.

    The model is read, and pydantic imported, only when the command is invoked or its help is shown.

    Args:
        name: the whole one, e.g. ``"capture photos"``.
        base: what kind of command it is.
        choices: see :func:`command_for`; ``context_settings`` is Typer's.
    """
    context_settings = choices.pop("context_settings", None)

    def register(function: Function) -> Function:
        class Generated(base):  # type: ignore[misc, valid-type]
            def __init__(self, **declared: Any) -> None:
                super().__init__(**declared)
                del self.params, self.callback  # made when they are asked for

            def __getattr__(self, attribute: str) -> Any:
                if attribute not in ("params", "callback"):
                    raise AttributeError(attribute)
                made = typer.Typer(add_completion=False, rich_markup_mode=None)
                made.command()(command_for(function, name, **choices))
                command = typer.main.get_command(made)
                self.params, self.callback = command.params, command.callback
                return getattr(self, attribute)

        declared = {"help": help or function.__doc__, "context_settings": context_settings}
        app.command(name.split()[-1], cls=Generated, **declared)(lambda: None)
        return function

    return register


def command_for(
    function: Function,
    name: str,
    *,
    positional: Sequence[str] = (),
    nested: Sequence[str] = (),
    without: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    kind: str | None = None,
    common: Sequence[str] = (),
) -> Function:
    """``function(..., settings: SomeSettings, **options)`` as a function of plain options, which Typer reads.

    Its other parameters stay as they are. The fields of the model become options, nested models and ``kind`` do not.

    Args:
        name: of the command, for errors.
        positional: fields that are arguments.
        nested: dotted keys that are options, too, by their last part.
        without: fields that are not options.
        aliases: a second option name by field.
        kind: the value of ``kind`` if the model has several.
        common: names in ``COMMON`` that ``function`` takes as ``**options``; ``overrides`` (``--set``) is used here.
    """
    from stspbr import settings as models

    hints = get_type_hints(function, localns=vars(models), include_extras=True)
    fields: dict[str, tuple[str, FieldInfo, inspect.Parameter]] = {}
    for key, field, default in models.every_setting(hints["settings"]):
        if key in nested or not ("." in key or key in without or key == "kind"):
            option = key.rpartition(".")[2]
            names = [_flag(option), (aliases or {}).get(key)]
            fields[option] = key, field, _parameter(option, field, default, None if key in positional else names)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "settings":
            parameters += [made for _, _, made in fields.values()]
        elif parameter.kind is parameter.VAR_KEYWORD:
            parameters += [_keyword(option, *COMMON[option]) for option in common]
        else:
            parameters.append(_keyword(parameter.name, hints[parameter.name], parameter.default))

    def command(**values: Any) -> None:
        base: dict[str, Any] = {} if kind is None else {"kind": kind}
        typed = {}
        for option, (key, field, made) in fields.items():
            text = values.pop(option)
            if text is not None and text != made.default:
                value = _value(field, text)
                for part in reversed(key.split(".")):
                    value = {part: value}
                base = models.merged(base, value)
                typed[key] = f"{option.upper() if key in positional else _flag(option)} {text}"
        settings = models.settings_for(hints["settings"], values.pop("overrides", None) or [], base, name, typed)
        prepare_process()
        function(**values, settings=settings)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _parameter(name: str, field: FieldInfo, default: Any, names: Sequence[str | None] | None) -> inspect.Parameter:
    """Typer's parameter of a field: an option of these ``names``, or an argument."""
    from stspbr.settings.table import default_text, range_text, type_text

    kind, bounds = type_text(field.annotation), range_text(field)
    help = f"{field.description}{f' ({bounds})' if bounds else ''}"
    if field.annotation is bool:
        return _keyword(name, Annotated[bool, typer.Option(help=help)], default)
    info: Any = typer.Argument(metavar=name.upper(), help=help)
    if names is not None:
        info = typer.Option(*filter(None, names), metavar=kind, help=help)
    annotation: Any = (list[str] if kind.startswith("text,") else str) | None
    shown: Any = ",".join(map(str, default)) if isinstance(default, tuple) else default_text(default)
    if field.is_required() or default in (None, []):
        shown = inspect.Parameter.empty if field.is_required() else None
    return _keyword(name, Annotated[annotation, info], shown)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _value(field: FieldInfo, text: Any) -> Any:
    """What was typed as the field's model takes it: numbers as numbers, ``1,2,3`` as a list."""
    from stspbr.settings.parsing import parse_value
    from stspbr.settings.table import type_text

    kind = type_text(field.annotation)
    if not isinstance(text, str) or kind == "text":
        return text
    return [parse_value(part) for part in text.split(",")] if kind.startswith("N,") else parse_value(text)
