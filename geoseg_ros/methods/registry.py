"""The methods by name, and the settings that the live node has for each. The one place that knows all methods."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from geoseg_ros.errors import InputError
from geoseg_ros.methods.base import Method, PartMethod
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.parts.config import PartsConfig

__all__ = [
    "LIVE_SETTINGS", "PART_METHODS", "SCENE_METHODS", "CosegConfig", "PartsConfig", "method_names", "open_method", "open_part_method",
]  # fmt: skip

GROUP = "geoseg.methods"
LIVE_SETTINGS = {"contrast": "coseg"}
"""Field of the pipeline's configuration with the settings of a method; methods of other packages have none."""
BUILT_IN = {
    "contrast": "geoseg_ros.methods.contrast.method:ContrastMethod",
    "geofree": "geoseg_ros.methods.geofree.method:GeoFreeMethod",
    "pointdc": "geoseg_ros.methods.pointdc.method:PointDCMethod",
    "hicl": "geoseg_ros.methods.hicl.method:HICLMethod",
}

SCENE_METHODS = ("pointdc", "hicl")
"""The package's own methods that learn the classes of a place (``geoseg discover``), not a target."""

PART_METHODS = {"parts": "geoseg_ros.methods.parts.method:PartsMethod"}
"""Methods that find marked parts of objects that another method has found; their packs are loaded beside a concept pack."""


def open_part_method(name: str) -> PartMethod:
    """The part method of this name. Raises InputError where there is none."""
    if name not in PART_METHODS:
        raise InputError(f"method {name[:80]!r}: expected one of {', '.join(PART_METHODS)}")
    module, _, attribute = PART_METHODS[name].partition(":")
    method: PartMethod = getattr(import_module(module), attribute)()
    return method


def method_names() -> list[str]:
    """Names of the methods that can be opened here, the package's own first."""
    return [*BUILT_IN, *sorted({entry.name for entry in entry_points(group=GROUP)} - set(BUILT_IN))]


def open_method(name: str) -> Method:
    """The method of this name: built in, or an entry point of an installed package in the group ``geoseg.methods``.

    Raises:
        InputError: there is none, or the entry point is no :class:`~geoseg_ros.methods.base.Method`.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        method: Method = getattr(import_module(module), attribute)()
        return method
    entries = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not entries:
        raise InputError(f"method {name[:80]!r}: expected one of {', '.join(method_names())}")
    try:
        found = entries[0].load()()
    except Exception as error:  # somebody else's code
        raise InputError(f"method {name[:80]!r}: cannot be opened: {type(error).__name__}: {error}") from error
    if not isinstance(found, Method):
        raise InputError(f"method {name[:80]!r}: expected a geoseg_ros.methods.base.Method, got {type(found).__name__}")
    return found
