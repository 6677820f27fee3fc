"""Command-line options made from a settings model: one option per field, and validation errors as sentences."""

from __future__ import annotations

import difflib
import inspect
import json
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.files import read_small_file

__all__ = ["SettingOption", "options_of", "settings_from", "values_of_file", "values_of_parameters"]

ModelT = TypeVar("ModelT", bound=BaseModel)

_METAVARS: dict[Any, str] = {
    str: "TEXT",
    int: "INTEGER",
    float: "NUMBER",
    date: "DATE",
    datetime: "DATETIME",
    Path: "PATH",
}
_MAX_VALUE = 60


@dataclass(frozen=True)
class SettingOption:
    """A command-line option for a field of the settings.

    Attributes:
        field: name of the field.
        kind: form of the value: "one", "many" (repeatable), "several" (`count` values at once), "pairs" (KEY=VALUE,
            repeatable) or "flag".
        metavar: placeholder of a value in the help.
        choices: allowed values, if they are enumerated.
        default: default as text; empty if there is none to show.
    """

    field: str
    kind: Literal["one", "many", "several", "pairs", "flag"]
    metavar: str
    choices: tuple[str | int, ...]
    count: int
    description: str
    default: str
    required: bool

    @property
    def flag(self) -> str:
        """The option name, such as --min-area."""
        return _flag(self.field)

    @property
    def declaration(self) -> str:
        """The option name, with the negative form of a flag."""
        return f"{self.flag}/--no-{self.flag[2:]}" if self.kind == "flag" else self.flag

    @property
    def meaning(self) -> str:
        """The description, capitalised."""
        return self.description[:1].upper() + self.description[1:]

    @property
    def repeatable(self) -> bool:
        """Whether the option can be given more than once."""
        return self.kind in {"many", "pairs"}

    @property
    def help(self) -> str:
        """Description with default, and whether the option is repeatable or required."""
        notes = ["repeatable"] if self.repeatable else []
        notes += ["required"] if self.required else [f"default: {self.default}"] if self.default else []
        return f"{self.meaning}  [{'; '.join(notes)}]" if notes else self.meaning

    def parameter(self) -> inspect.Parameter:
        """Make a parameter of a command. Its default is None, so that a settings file can supply the value."""
        metavar = None if self.kind == "flag" or self.choices else self.metavar
        option = typer.Option(self.declaration, help=self.help, metavar=metavar, show_default=False)
        return inspect.Parameter(
            self.field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[self._annotation(), option]
        )

    def _annotation(self) -> Any:
        value: Any = Literal[self.choices] if self.choices else str
        if self.kind == "several":
            return tuple[(value,) * self.count]  # type: ignore[misc]  # the type is made at run time
        return {"flag": bool, "one": value, "many": list[value], "pairs": list[value]}[self.kind]


def options_of(model: type[BaseModel]) -> list[SettingOption]:
    """Make an option for each field, in the order of the model.

    >>> class Rain(BaseModel):
    ...     heavy: bool = False
    ...     least_depth: float = 0.5
    >>> [option.declaration for option in options_of(Rain)]
    ['--heavy/--no-heavy', '--least-depth']
    """
    return [_option(name, field) for name, field in model.model_fields.items()]


def values_of_parameters(model: type[BaseModel], given: list[str]) -> dict[str, Any]:
    """Parse settings as workflows give them: NAME=VALUE, where an empty value means the default.

    Lists of values are separated by commas. SETTING_INVALID.

    >>> class Rain(BaseModel):
    ...     heavy: bool = False
    ...     stations: tuple[str, ...] = ()
    >>> values_of_parameters(Rain, ["heavy=", "stations=bonn,koln"])
    {'stations': ['bonn', 'koln']}
    """
    options = {option.field: option for option in options_of(model)}
    values: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        field = name.strip().replace("-", "_")
        if not separator or field not in options:
            raise AcdError(
                ErrorCode.SETTING_INVALID, f"--parameter is {text!r}, but must be NAME=VALUE with the name of a setting"
            )
        if value.strip():
            parts = [part.strip() for part in value.split(",")] if options[field].kind not in ("one", "flag") else value
            values[field] = parts
    return values


def settings_from(
    model: type[ModelT],
    given: Mapping[str, Any],
    file: Path | Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    origin: str = "",
    shown: Callable[[str], str] | None = None,
) -> ModelT:
    """Make settings; precedence is options, settings file, `defaults`, defaults of the model.

    A value of None in `given` means not given. `file` is the settings file, or its values. `defaults` are the values of
    acd.toml, and `origin` is their name in errors. `shown` gives the name of a field in errors, by default that of its
    option. USAGE if a required setting is missing, SETTING_INVALID if a value is invalid, INPUT_MISSING if the file
    does not exist, PROJECT_INVALID if one of the defaults is invalid.
    """
    options = {option.field: option for option in options_of(model)}
    own = {name: _trimmed(options[name], value) for name, value in given.items() if value is not None}
    own = (values_of_file(file) if isinstance(file, Path) else dict(file or {})) | own
    try:
        return model.model_validate({**(defaults or {}), **own})
    except ValidationError as error:
        errors = error.errors()
        inherited = (defaults or {}).keys() - own.keys()
        wrong = [detail for detail in errors if detail["loc"] and detail["loc"][0] in inherited]
        if wrong:
            sentences = dict.fromkeys(_sentence(detail, list(options)).removeprefix("--") for detail in wrong)
            raise AcdError(ErrorCode.PROJECT_INVALID, f"{origin}: {'; '.join(sentences)}") from None
        raise _settings_error(errors, list(options), shown or _flag) from None


def _option(name: str, field: FieldInfo) -> SettingOption:
    kind, scalar, count = _shape(field.annotation)
    choices = get_args(scalar) if get_origin(scalar) is Literal else ()
    if kind != "flag" and not choices and scalar not in _METAVARS:
        raise TypeError(f"the setting {name} has a type without a command-line form: {field.annotation}")
    return SettingOption(
        field=name,
        kind=kind,
        metavar="KEY=VALUE" if kind == "pairs" else "|".join(map(str, choices)) or _METAVARS.get(scalar, ""),
        choices=choices,
        count=count,
        description=field.description or "",
        default="" if field.is_required() else _default_text(field.get_default(call_default_factory=True)),
        required=field.is_required(),
    )


def _shape(annotation: Any) -> tuple[Literal["one", "many", "several", "pairs", "flag"], Any, int]:
    """The form of a field's values, the type of one value, and the number of values."""
    core = _core(annotation)
    origin, arguments = get_origin(core), get_args(core)
    if core is bool:
        return "flag", bool, 1
    if origin is dict:
        return "pairs", str, 1
    if origin is tuple and Ellipsis not in arguments:
        return "several", _core(arguments[0]), len(arguments)
    if origin in {list, tuple, set, frozenset}:
        return "many", _core(arguments[0]), 1
    return "one", core, 1


def _core(annotation: Any) -> Any:
    """Strip Annotated and None from a type."""
    if get_origin(annotation) is Annotated:
        return _core(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        others = [argument for argument in get_args(annotation) if argument is not types.NoneType]
        return _core(others[0]) if len(others) == 1 else annotation
    return annotation


def _default_text(value: Any) -> str:
    if value is None or value == "" or value == () or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, (list, tuple)):
        return " ".join(_default_text(item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return value.isoformat() if isinstance(value, date) else str(value)


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _trimmed(option: SettingOption, value: Any) -> Any:
    if option.kind == "pairs":
        return dict(_pair(option, text) for text in value)
    if isinstance(value, (list, tuple)):
        return [item.strip() if isinstance(item, str) else item for item in value]
    return value.strip() if isinstance(value, str) else value


def _pair(option: SettingOption, text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise AcdError(ErrorCode.SETTING_INVALID, f"{option.flag} is {text!r}, but must be KEY=VALUE")
    return key.strip(), value.strip()


def values_of_file(file: Path) -> dict[str, Any]:
    """Read the values of a settings file. INPUT_MISSING, SETTING_INVALID."""
    try:
        text = read_small_file(file).decode()
        values = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise AcdError(
            ErrorCode.INPUT_MISSING, f"{file} cannot be read: {error.strerror}", "Check the path after --settings."
        ) from error
    except ValueError as error:  # JSON, TOML and Unicode errors alike
        kind = "TOML" if file.suffix == ".toml" else "JSON"
        raise AcdError(ErrorCode.SETTING_INVALID, f"{file} is not {kind}: {error}") from error
    if not isinstance(values, dict):
        raise AcdError(ErrorCode.SETTING_INVALID, f"{file} does not contain a table of settings")
    return {name.replace("-", "_"): value for name, value in values.items()}


def _settings_error(errors: list[ErrorDetails], fields: list[str], shown: Callable[[str], str]) -> AcdError:
    missing = [shown(str(error["loc"][0])) for error in errors if error["type"] == "missing" and len(error["loc"]) == 1]
    if len(missing) == len(errors):
        them = "it" if len(missing) == 1 else "them"
        fix = f"Give {them} on the command line, in a --settings file or in acd.toml."
        return AcdError(ErrorCode.USAGE, f"{' and '.join(missing)} must be given", fix)
    sentences = dict.fromkeys(_sentence(error, fields, shown) for error in errors)
    return AcdError(ErrorCode.SETTING_INVALID, "; ".join(sentences))


def _sentence(error: ErrorDetails, fields: list[str], shown: Callable[[str], str] = _flag) -> str:
    """Describe a validation error, naming the setting."""
    rule = error["msg"].removeprefix("Value error, ").rstrip(".")
    if not error["loc"]:
        return rule
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, fields, n=1)
        return f"there is no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if error["type"] == "missing":
        return f"{shown(name)} must be given"
    if error["type"] == "value_error":
        return f"{shown(name)}: {rule}"
    value = str(error["input"])
    value = value if len(value) <= _MAX_VALUE else f"{value[:_MAX_VALUE]}..."
    if rule.startswith("Input should"):
        rule = f"and {rule.removeprefix('Input ').partition(', unable')[0]}"
    return f"{shown(name)} is {value}, {rule}"
