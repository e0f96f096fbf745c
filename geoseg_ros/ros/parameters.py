"""Settings as ROS parameters: declared with descriptors, read once, followed while the node runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.settings import Setting, Settings, list_settings, unknown_setting, with_values

Parameters = TypeVar("Parameters", bound=Settings)

_TYPES = {  # item type -> type of one value, of a list
    bool: (Parameter.Type.BOOL, Parameter.Type.BOOL_ARRAY),
    int: (Parameter.Type.INTEGER, Parameter.Type.INTEGER_ARRAY),
    float: (Parameter.Type.DOUBLE, Parameter.Type.DOUBLE_ARRAY),
    str: (Parameter.Type.STRING, Parameter.Type.STRING_ARRAY),
}


def ros_type(setting: Setting) -> Parameter.Type:
    """The type of the parameter that a setting becomes."""
    return _TYPES[setting.kind][setting.many]


def ros_default(setting: Setting) -> Any:
    """The default as ROS holds it: an empty list has no type there, so [""] stands for it."""
    return (list(setting.default) or [""]) if setting.many else setting.default


def descriptor(setting: Setting) -> ParameterDescriptor:
    """What ``ros2 param describe`` shows of a setting."""
    described = ParameterDescriptor(
        description=f"{setting.help} [{setting.unit}]" if setting.unit else setting.help,
        additional_constraints=setting.limits.replace("one of ", "one of: ", 1) if setting.choices else "",
        read_only=not setting.live,
    )
    if setting.range and not setting.many:
        # a range of ROS has two ends
        low, high = (math.copysign(sys.float_info.max, end) if math.isinf(end) else end for end in setting.range)
        if setting.kind is int:
            described.integer_range = [IntegerRange(from_value=int(max(low, -(2**63))), to_value=int(min(high, 2**63 - 1)), step=0)]
        else:
            described.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    return described


def declare(node: Node, defaults: Parameters) -> Parameters:
    """Declare ``defaults`` as parameters of ``node``.

    Returns:
        The settings with what the user has given.

    Raises:
        InputError: a value of the wrong type, outside its range, or none of the choices.
    """
    values = {}
    for setting in list_settings(defaults):
        try:
            values[setting.name] = node.declare_parameter(setting.name, ros_default(setting), descriptor(setting)).value
        except InvalidParameterTypeException:
            given = getattr(node, "_parameter_overrides", {}).get(setting.name)
            shown = f", got {given.value!r}" if given is not None else ""
            raise InputError(f"parameter {setting.name}: expected {_words(setting)}{shown}") from None
        except InvalidParameterValueException as error:
            raise InputError(f"parameter {setting.name}: {error}") from None
        if values[setting.name] is None and not setting.many:
            raise InputError(f"parameter {setting.name}: expected {_words(setting)}, got nothing")
    try:
        return with_values(defaults, values)
    except InputError as error:
        raise InputError(f"parameter {error}") from None


def refuse_unknown(node: Node, topics: Collection[str] = ()) -> None:
    """Refuse parameters that the node does not have; ROS itself would ignore them. Call this when everything is declared.

    Args:
        node: has declared its parameters and made its topics, which declare ``qos_overrides``.
        topics: resolved names of the topics that will be made later.

    Raises:
        InputError: the user has set such a parameter.
    """
    known = [setting.name for setting in list_settings(NodeParameters())]
    for name in getattr(node, "_parameter_overrides", {}):
        if not node.has_parameter(name) and not any(name.startswith(f"qos_overrides.{topic}.") for topic in topics):
            if name.startswith("qos_overrides."):
                kinds = "history, depth, reliability, durability"
                where = ", ".join(topics) or "of the node"
                right = f"qos_overrides.<topic>.subscription.<policy> (or .publisher.), policies {kinds}, topics {where}"
                raise InputError(f"parameter {name}: unknown; expected {right}")
            raise InputError(f"parameter {name}: {unknown_setting(name, known, 'ros2 param list')}")


def follow(node: Node, current: Parameters, accept: Callable[[Parameters], str], store: Callable[[Parameters], None]) -> None:
    """Keep settings up to date while parameters are set. rclpy checks types, ranges and read-only parameters first.

    Args:
        node: has declared them.
        current: the values now.
        accept: gets the new settings; returns why they are refused, or an empty string.
        store: gets the new settings when they are accepted.
    """
    known = {setting.name for setting in list_settings(current)}

    def changed(parameters: list[Parameter]) -> SetParametersResult:
        nonlocal current
        values = {p.name: p.value for p in parameters if p.name in known}
        if not values:
            return SetParametersResult(successful=True)
        try:
            new = with_values(current, values)
            reason = accept(new)
        except InputError as error:
            reason = str(error)
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        current = new
        store(new)
        return SetParametersResult(successful=True)

    lists = {setting.name for setting in list_settings(current) if setting.many and setting.kind is str}

    def typed(parameters: list[Parameter]) -> list[Parameter]:
        """An empty list has no type: ``ros2 param set NODE packs "[]"`` sends one of booleans."""
        empty = {p.name for p in parameters if p.name in lists and p.type_.name.endswith("_ARRAY") and len(p.value) == 0}
        return [Parameter(p.name, value=[""]) if p.name in empty else p for p in parameters]

    if hasattr(node, "add_pre_set_parameters_callback"):  # not in Humble
        node.add_pre_set_parameters_callback(typed)
    node.add_on_set_parameters_callback(changed)


def _words(setting: Setting) -> str:
    return ros_type(setting).name.lower().replace("_", " ")
