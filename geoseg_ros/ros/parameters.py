"""The parameters of the node: one dataclass, from which the declared ROS parameters are made."""

from __future__ import annotations

import difflib
import sys
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from geoseg_ros.errors import InputError
from geoseg_ros.io.messages import MAX_PIXELS, MAX_POINTS
from geoseg_ros.runtime.engines.options import BACKENDS
from geoseg_ros.runtime.engines.spec import PRECISIONS
from geoseg_ros.runtime.pipeline import PipelineConfig
from geoseg_ros.runtime.tracking import TrackingConfig

Parameters = TypeVar("Parameters")

_KINDS = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    tuple[bool, ...]: Parameter.Type.BOOL_ARRAY,
    tuple[int, ...]: Parameter.Type.INTEGER_ARRAY,
    tuple[float, ...]: Parameter.Type.DOUBLE_ARRAY,
    tuple[str, ...]: Parameter.Type.STRING_ARRAY,
}


def _about(text: str, **more: Any) -> dict[str, Any]:
    """Metadata of a field: help; ``range`` (both ends allowed), ``choices``, and ``changeable`` while the node runs."""
    return {"help": text, **more}


@dataclass(frozen=True)
class NodeParameters:
    """All parameters of ``coseg_node``. Those of ``pipeline`` are named ``pipeline.<field>``, and so on.

    What a field means, its range and whether it may change at run time stand in its metadata, which also becomes the
    parameter's descriptor (``ros2 param describe``).
    """

    autostart: bool = field(
        default=True, metadata=_about("come up active by itself, and end if that fails; false: wait for a life cycle manager")
    )
    packs: tuple[str, ...] = field(
        default=(), metadata=_about("concept packs: names of packs that ship with the package, or paths", changeable=True)
    )
    backbone: str = field(default="", metadata=_about("image backbone; empty: the one that the packs were made with"))
    device: str = field(default="auto", metadata=_about("where the networks run", choices=("auto", "cpu", "cuda")))
    backend: str = field(
        default="auto",
        metadata=_about(
            "what runs the image backbone; auto: the best that works here; else that one or, where it does not work, the next",
            choices=BACKENDS,
        ),
    )
    backend_strict: bool = field(
        default=False, metadata=_about("the backend must work: none takes its place, neither at the start nor when it fails later")
    )
    engine_precision: str = field(
        default="fp32",
        metadata=_about("of TensorRT engines; fp16 is faster for large backbones, and moves some masks of geoseg_tiny", choices=PRECISIONS),
    )
    engine_cache: str = field(
        default="", metadata=_about("folder of built engines; empty: geoseg_ros/engines in $XDG_CACHE_HOME or ~/.cache")
    )
    build_only: bool = field(default=False, metadata=_about("open the packs, build the engine that they need, and end"))
    threads: int = field(default=0, metadata=_about("CPU threads of the networks; 0: half of the cores, at least one", range=(0, 256)))
    cloud_source: str = field(
        default="points",
        metadata=_about("clouds from ~/points, or from ~/depth + ~/camera_info (+ ~/color)", choices=("points", "depth", "none")),
    )
    image_transport: str = field(
        default="raw",
        metadata=_about("images from ~/image, or JPEG or PNG from ~/image/compressed", choices=("raw", "compressed", "none")),
    )
    color_max_age: float = field(
        default=0.1,
        metadata=_about("with cloud_source depth: largest difference of stamps of depth and colour, s", range=(0.0, 10.0), changeable=True),
    )
    wanted_labels: tuple[str, ...] = field(
        default=(), metadata=_about("concepts whose points go to ~/points_obstacles, by name; empty: all", changeable=True)
    )
    target_frame: str = field(
        default="",
        metadata=_about("frame of obstacles, objects and tracks (needs tf2_ros), for instance odom; empty: that of the sensor"),
    )
    max_points: int = field(default=MAX_POINTS, metadata=_about("larger clouds are rejected", range=(1, 100_000_000), changeable=True))
    max_image_pixels: int = field(
        default=MAX_PIXELS, metadata=_about("larger images are rejected", range=(1, 1_000_000_000), changeable=True)
    )
    status_period: float = field(default=1.0, metadata=_about("seconds between ~/status and /diagnostics messages", range=(0.1, 60.0)))
    input_timeout: float = field(
        default=2.0, metadata=_about("seconds without input after which a stream is reported", range=(0.1, 3600.0), changeable=True)
    )
    snapshot_dir: str = field(
        default="", metadata=_about("where ~/snapshot writes; empty: geoseg_snapshots in $ROS_HOME or ~/.ros", changeable=True)
    )
    snapshot_keep: int = field(
        default=10, metadata=_about("snapshots kept there; older ones of this node are removed", range=(1, 1000), changeable=True)
    )
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)


@dataclass(frozen=True)
class Spec:
    """One declared parameter. Attributes: dotted name; ROS type; default in the form of ROS; metadata of the field."""

    name: str
    kind: Parameter.Type
    default: Any
    about: dict[str, Any]

    def descriptor(self) -> ParameterDescriptor:
        """What ``ros2 param describe`` shows."""
        choices = self.about.get("choices", ())
        descriptor = ParameterDescriptor(
            description=self.about.get("help", ""),
            additional_constraints=f"one of: {', '.join(choices)}" if choices else "",
            read_only=not self.about.get("changeable", False),
        )
        if self.about.get("range"):
            low, high = self.about["range"]
            if self.kind is Parameter.Type.INTEGER:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
            elif self.kind is Parameter.Type.DOUBLE:
                top = sys.float_info.max  # an open end, since a range of ROS has two
                low, high = max(float(low), -top), min(float(high), top)
                descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
        return descriptor


def specs(defaults: Any, prefix: str = "") -> list[Spec]:
    """The parameters of a dataclass instance; a field that is a dataclass itself becomes ``field.subfield``."""
    hints = typing.get_type_hints(type(defaults))
    found: list[Spec] = []
    for entry in fields(defaults):
        value, name, about = getattr(defaults, entry.name), prefix + entry.name, dict(entry.metadata)
        if is_dataclass(value):
            found += specs(value, f"{name}.")
            continue
        kind = hints[entry.name]
        if typing.get_origin(kind) is typing.Literal:
            kind, about["choices"] = str, typing.get_args(kind)
        if kind not in _KINDS:
            raise TypeError(f"{type(defaults).__name__}.{entry.name}: {kind} cannot be a ROS parameter")
        # an empty list has no type in ROS parameters, so [""] stands for it
        found.append(Spec(name, _KINDS[kind], (list(value) or [""]) if isinstance(value, tuple) else value, about))
    return found


def build(defaults: Parameters, values: dict[str, Any], prefix: str = "") -> Parameters:
    """A dataclass like ``defaults`` with the dotted ``values`` in it.

    Raises:
        InputError: the dataclass refuses a value.
    """
    given: dict[str, Any] = {}
    for entry in fields(defaults):  # type: ignore[arg-type]
        value, name = getattr(defaults, entry.name), prefix + entry.name
        if is_dataclass(value):
            given[entry.name] = build(value, values, f"{name}.")
        elif name in values:
            # an empty list in a YAML file arrives as None
            given[entry.name] = tuple(v for v in values[name] or () if v != "") if isinstance(value, tuple) else values[name]
        else:
            given[entry.name] = value
    try:
        return type(defaults)(**given)
    except (ValueError, TypeError) as error:
        raise InputError(f"parameters: {error}") from None


def declare(node: Node, defaults: Parameters) -> Parameters:
    """Declare the fields of ``defaults`` as parameters of ``node`` and return what the user set.

    Raises:
        InputError: a value of the wrong type, out of range, or none of the choices.
    """
    values = {}
    for spec in specs(defaults):
        try:
            values[spec.name] = node.declare_parameter(spec.name, spec.default, spec.descriptor()).value
        except InvalidParameterTypeException:
            given = getattr(node, "_parameter_overrides", {}).get(spec.name)
            shown = f", got {given.value!r}" if given is not None else ""
            raise InputError(f"parameter {spec.name}: expected {_words(spec.kind)}{shown}") from None
        except InvalidParameterValueException as error:
            raise InputError(f"parameter {spec.name}: {error}") from None
        reason = _refusal(spec, values[spec.name])
        if reason:
            raise InputError(f"parameter {spec.name}: {reason}")
    return build(defaults, values)


def refuse_unknown(node: Node, topics: Collection[str] = ()) -> None:
    """Call when everything is declared (topics too: they declare ``qos_overrides``).

    Args:
        topics: resolved names of those that will be declared later.

    Raises:
        InputError: the user set a parameter that the node does not have. ROS itself would ignore it.
    """
    known = [spec.name for spec in specs(NodeParameters())]
    for name in getattr(node, "_parameter_overrides", {}):
        if not node.has_parameter(name) and not any(name.startswith(f"qos_overrides.{topic}.") for topic in topics):
            close = difflib.get_close_matches(name, known, 1)
            raise InputError(f"parameter {name}: unknown{f', did you mean {close[0]}?' if close else '; see ros2 param list'}")


def follow(node: Node, current: Parameters, accept: Callable[[Parameters], str], store: Callable[[Parameters], None]) -> None:
    """Keep a dataclass up to date while parameters are set. Types, ranges and read-only are checked by rclpy before.

    Args:
        current: the values now.
        accept: gets the new values, returns a reason to refuse them or "".
        store: gets the new values when they are accepted.
    """
    table = {spec.name: spec for spec in specs(current)}
    state = {"current": current}

    def changed(parameters: list[Parameter]) -> SetParametersResult:
        values = {p.name: p.value for p in parameters if p.name in table}
        if not values:
            return SetParametersResult(successful=True)
        reasons = [f"{name}: {reason}" for name, value in values.items() if (reason := _refusal(table[name], value))]
        if not reasons:
            try:
                new = build(state["current"], values)
                reasons = [reason for reason in (accept(new),) if reason]
            except InputError as error:
                reasons = [str(error)]
        if reasons:
            return SetParametersResult(successful=False, reason="; ".join(reasons))
        state["current"] = new
        store(new)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(changed)


def _refusal(spec: Spec, value: Any) -> str:
    """Why ``value`` is refused, or an empty string."""
    if value is None and not isinstance(spec.default, list):
        return f"expected {_words(spec.kind)}, got nothing"
    choices = spec.about.get("choices", ())
    return f"expected one of {', '.join(choices)}, got {value!r}" if choices and value not in choices else ""


def _words(kind: Parameter.Type) -> str:
    return kind.name.lower().replace("_", " ")
