"""Doing what depends on a cloud alone once, however many methods, seeds and sets ask for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from geoseg_ros.geometry.cloud import Cloud

Result = TypeVar("Result")


class PerCloud(Generic[Result]):
    """``make`` of a cloud, remembered as long as the cloud object lives."""

    def __init__(self, make: Callable[[Cloud], Result]) -> None:
        self._make = make
        self._known: dict[int, Result] = {}

    def __call__(self, cloud: Cloud) -> Result:
        key = id(cloud)
        if key not in self._known:
            self._known[key] = self._make(cloud)
            weakref.finalize(cloud, self._known.pop, key)
        return self._known[key]
