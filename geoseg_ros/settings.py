"""One idiom for settings: frozen dataclasses whose fields carry help, unit, range or choices, and whether they may change at run time.

    @dataclass(frozen=True)
    class PlaneConfig(Settings):
        min_extent: float = setting(0.4, "smallest width of a plane", unit="m", range=(0.0, 100.0))

From such a declaration come the check of every value, the node's ROS parameters with their descriptors, ``config/coseg.yaml``, the table of
parameters in the documentation, and the options of commands that mirror a setting.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, TypeVar

from geoseg_ros.errors import InputError
from geoseg_ros.files import expanded as expanded_home

Config = TypeVar("Config", bound="Settings")

_KEY = "setting"
_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
_TYPES: dict[type, Any] = {bool: bool, int: Integral, float: Real, str: str}


@dataclass(frozen=True)
class Setting:
    """One declared value of a settings class.

    Attributes:
        name: of the field; dotted where settings are nested, such as ``planes.min_extent``.
        kind: ``bool``, ``int``, ``float`` or ``str``; of the items where ``many``.
        many: a tuple of ``kind``.
        length: of that tuple, or None for any.
        optional: None is allowed.
        default: ``dataclasses.MISSING`` where a value must be given.
        help: what it means, one line without unit and range.
        unit: such as ``m``, or empty.
        range: smallest and largest value (of each item), both allowed; ``math.inf`` for an open end; None for what is no number.
        choices: the values allowed, or empty for any.
        live: may change while the node runs.
        path: names files; ``~`` in it is the user's home.
    """

    name: str
    kind: type
    many: bool
    length: int | None
    optional: bool
    default: Any
    help: str
    unit: str
    range: tuple[float, float] | None
    choices: tuple[str, ...]
    live: bool
    path: bool

    @property
    def limits(self) -> str:
        """The range or the choices in words, or an empty string."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.range is None or self.range == (-math.inf, math.inf):
            return ""
        low, high = (str(int(end)) if math.isfinite(end) and end == int(end) else f"{end:g}" for end in self.range)
        if math.isinf(self.range[1]):
            return f"at least {low}"
        return f"at most {high}" if math.isinf(self.range[0]) else f"{low} .. {high}"

    @property
    def text(self) -> str:
        """Help, and in brackets unit, limits and liveness: the comment of a configuration file."""
        facts = [fact for fact in (self.unit, self.limits, "live" if self.live else "") if fact]
        return f"{self.help} [{', '.join(facts)}]" if facts else self.help

    def refusal(self, value: Any) -> str:
        """What was expected instead of ``value``, or an empty string where it is allowed."""
        if self.optional and value is None:
            return ""
        if not self.many:
            return self._item_refusal(value)
        if not isinstance(value, (tuple, list)) or (self.length is not None and len(value) != self.length):
            return f"expected a list{f' of {self.length}' if self.length else ''}, got {value!r}"
        if "" in value:
            return f"expected no empty text in it, got {list(value)!r}"
        return next((reason for reason in map(self._item_refusal, value) if reason), "")

    def _item_refusal(self, value: Any) -> str:
        wrong = not isinstance(value, _TYPES[self.kind]) or (self.kind is not bool and isinstance(value, bool))
        if wrong and not self.choices:
            return f"expected {_WORDS[self.kind]}, got {value!r}"
        if self.choices:
            return "" if value in self.choices else f"expected {self.limits}, got {value!r}"
        if self.range is None or (math.isfinite(value) and self.range[0] <= value <= self.range[1]):
            return ""
        return f"expected {self.limits or 'a finite number'}{self.unit and ' ' + self.unit}, got {value!r}"


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "",
    range: tuple[float, float] | None = None,
    choices: Collection[str] = (),
    live: bool = False,
    path: bool = False,
) -> Any:
    """Declare a field of a settings class; the arguments are the attributes of :class:`Setting`.

    The type comes from the annotation: ``bool``, ``int``, ``float``, ``str``, a ``Literal`` (whose options are the choices), a tuple of one
    of them, or one of these with ``| None``. A number needs a range.
    """
    about = {"help": help, "unit": unit, "range": range, "choices": tuple(choices), "live": live, "path": path}
    return field(default=default, metadata={_KEY: about})


def mirrored(kind: type[Settings], name: str) -> Any:
    """Declare a field that is the setting ``name`` of another class, with its default."""
    entry = next(entry for entry in fields(kind) if entry.name == name)
    return field(default=entry.default, metadata=entry.metadata)


def section(factory: Callable[[], Settings], help: str) -> Any:
    """Declare a field that holds other settings.

    Args:
        factory: gives their defaults, such as the class itself.
        help: what they are about, one line.
    """
    return field(default_factory=factory, metadata={"help": help})


@dataclass(frozen=True)
class Settings:
    """Base of every settings class. Its fields are declared by :func:`setting` and :func:`section` and are checked when it is made.

    Raises:
        InputError: a value of the wrong type, outside its range, or none of the choices; the message begins with the field's name.
    """

    def __post_init__(self) -> None:
        for entry in declared(type(self)).values():
            reason = entry.refusal(getattr(self, entry.name))
            if reason:
                raise InputError(f"{entry.name}: {reason}")


_DECLARED: dict[type, Mapping[str, Setting]] = {}


def declared(kind: type[Settings]) -> Mapping[str, Setting]:
    """The settings that a class itself declares, by field name, without those of its sections.

    Raises:
        TypeError: an annotation that no setting can have, or a number without a range. This is an error of the program.
    """
    if kind in _DECLARED:
        return _DECLARED[kind]
    hints, found = typing.get_type_hints(kind), {}
    for entry in fields(kind):
        if _KEY not in entry.metadata:
            continue
        where, about = f"{kind.__name__}.{entry.name}", dict(entry.metadata[_KEY])
        item, many, length, optional = _annotation(hints[entry.name])
        if typing.get_origin(item) is typing.Literal:
            item, about["choices"] = str, typing.get_args(item)
        if item not in _TYPES:
            raise TypeError(f"{where}: {hints[entry.name]} cannot be a setting")
        if item in (int, float) and about["range"] is None:
            raise TypeError(f"{where}: a number needs a range")
        found[entry.name] = Setting(entry.name, item, many, length, optional, entry.default, **about)
    return _DECLARED.setdefault(kind, types.MappingProxyType(found))


def _annotation(hint: Any) -> tuple[Any, bool, int | None, bool]:
    """Item type, whether it is a tuple, the tuple's length if fixed, whether None is allowed."""
    optional = typing.get_origin(hint) in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint)
    if optional:
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if typing.get_origin(hint) is not tuple:
        return hint, False, None, optional
    items = typing.get_args(hint)
    return items[0], True, None if Ellipsis in items else len(items), optional


def list_settings(config: Settings, prefix: str = "") -> list[Setting]:
    """Every setting of ``config`` and of its sections with dotted names, in the order of declaration; defaults are the values in it.

    Raises:
        TypeError: a field is neither a setting nor a section.
    """
    found: list[Setting] = []
    for entry in fields(config):
        value = getattr(config, entry.name)
        if isinstance(value, Settings):
            found += list_settings(value, f"{prefix}{entry.name}.")
        elif entry.name in declared(type(config)):
            found.append(replace(declared(type(config))[entry.name], name=prefix + entry.name, default=value))
        else:
            raise TypeError(f"{type(config).__name__}.{entry.name} is not declared by setting() or section()")
    return found


def list_sections(config: Settings, prefix: str = "") -> dict[str, str]:
    """Dotted name -> help of every section of ``config``, in the order of declaration."""
    found: dict[str, str] = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if isinstance(value, Settings):
            found |= {prefix + entry.name: entry.metadata.get("help", ""), **list_sections(value, f"{prefix}{entry.name}.")}
    return found


def with_values(config: Config, values: Mapping[str, Any], prefix: str = "") -> Config:
    """Settings like ``config`` with other values.

    Args:
        values: name -> value; the names of nested settings are dotted, or a section's name has a mapping of its own (as ``asdict`` and YAML
            give them). Lists become tuples; None for a list, and a list of one empty text, are an empty list, because neither ROS nor YAML
            can say of that what it is a list of. Empty paths are left out.
        prefix: what stands before the names in messages.

    Raises:
        InputError: an unknown name, or a value that is not allowed; the message begins with the dotted name.
    """
    given: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        first, _, rest = str(name).partition(".")
        inside = isinstance(getattr(config, first, None), Settings)
        if inside and rest:
            nested.setdefault(first, {})[rest] = value
        elif inside and isinstance(value, Mapping):
            nested.setdefault(first, {}).update(value)
        elif not inside and not rest and first in declared(type(config)):
            given[first] = _plain(declared(type(config))[first], value)
        else:
            known = [entry.name for entry in list_settings(config, prefix)]
            raise InputError(f"{prefix}{name}: {unknown_setting(f'{prefix}{name}', known)}")
    for name, inner in nested.items():
        given[name] = with_values(getattr(config, name), inner, f"{prefix}{name}.")
    try:
        return replace(config, **given)
    except InputError as error:
        raise InputError(f"{prefix}{error}") from None


def _plain(entry: Setting, value: Any) -> Any:
    def expanded(item: Any) -> Any:
        return expanded_home(item) if entry.path and isinstance(item, str) else item

    if entry.many and not (value is None and entry.optional) and (value is None or isinstance(value, (tuple, list))):
        items = [] if value is None or list(value) == [""] else value
        return tuple(expanded(item) for item in items if not (entry.path and item == ""))
    return expanded(value)


def unknown_setting(name: str, known: Collection[str], where: str = "") -> str:
    """What to say of a ``name`` that is none of the ``known`` ones, which ``where`` lists."""
    close = difflib.get_close_matches(name, known, 1)
    return f"unknown, did you mean {close[0]}?" if close else f"unknown{where and '; see ' + where}"
