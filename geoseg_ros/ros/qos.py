"""Quality of service of the topics. Every profile can be changed by ``qos_overrides.<topic>...`` parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError


class Watch(Protocol):
    """What a subscription reports: how many messages were sent so far but did not arrive; how many publishers cannot be heard."""

    def lose(self, total: int) -> None: ...

    def mismatch(self, total: int) -> None: ...


def input_qos() -> QoSProfile:
    """Best effort, which matches every publisher; depth 1, because only the newest message is of use."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def output_qos() -> QoSProfile:
    """Reliable, which matches every subscriber and lets large messages through; depth 1."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)


def latched_qos() -> QoSProfile:
    """Reliable and kept for subscribers that come later."""
    profile = output_qos()
    profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile


def overridable(reliability: bool = True) -> QoSOverridingOptions:
    """History, depth, durability and, where asked for, reliability may be set by parameters (read when the topic is created)."""
    kinds = QoSPolicyKind
    return QoSOverridingOptions((kinds.HISTORY, kinds.DEPTH, kinds.DURABILITY, *((kinds.RELIABILITY,) if reliability else ())))


def reliability_is_given(node: Node, topic: str) -> bool:
    """Whether the user has set the reliability of an input. ``topic`` is resolved."""
    return f"qos_overrides.{topic}.subscription.reliability" in getattr(node, "_parameter_overrides", {})


def offered_reliable(node: Node, topic: str) -> bool | None:
    """Whether all publishers of a topic offer reliable delivery; None where there is none."""
    found = node.get_publishers_info_by_topic(topic)
    return all(info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in found) if found else None


def subscribe_latched(node: Node, kind: Any, topic: str, callback: Callable[[Any], None]) -> Any:
    """Subscribe what was sent once and kept, beside a subscription that takes what is sent from now on."""
    quiet = SubscriptionEventCallbacks(use_default_callbacks=False)  # that most publishers do not keep anything is no news
    return node.create_subscription(kind, topic, callback, latched_qos(), event_callbacks=quiet)


def subscribe(
    node: Node, kind: Any, topic: str, callback: Callable[[Any], None], watch: Watch | None = None, reliable: bool = False
) -> Any:
    """Subscribe an input. ``watch`` hears what the middleware notices about it; what the user has set beats ``reliable``."""
    profile = input_qos()
    if reliable:
        profile.reliability = ReliabilityPolicy.RELIABLE
    options = overridable(reliability_is_given(node, node.resolve_topic_name(topic)))
    arguments: dict[str, Any] = {"qos_overriding_options": options}
    if watch is not None:
        try:
            events = SubscriptionEventCallbacks(
                message_lost=lambda event: watch.lose(event.total_count),
                incompatible_qos=lambda event: watch.mismatch(event.total_count),
            )
            return node.create_subscription(kind, topic, callback, profile, event_callbacks=events, **arguments)
        except UnsupportedEventTypeError:
            pass
    return node.create_subscription(kind, topic, callback, profile, **arguments)
