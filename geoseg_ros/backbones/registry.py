"""Opening of image backbones by name; a backbone is imported when it is opened."""

from __future__ import annotations

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.errors import InputError


def open_backbone(spec: str, device: str = "cpu") -> ImageBackbone:
    """Open the backbone that ``spec`` names.

    Args:
        spec: one of
            ``geoseg_base``, ``geoseg_tiny``: the weights that ship with the package;
            ``geoseg_base:FILE``, ``geoseg_tiny:FILE``: others, made by ``tools/make_geoseg_base.py`` and ``geoseg distill``;
            ``onnx:FILE``: any ONNX file with 4-D feature maps, options after ``?`` (see :mod:`geoseg_ros.backbones.onnx`);
            ``dino_vits8``, ``dino_vitb8``, ``dinov2_vits14``, or ``hub:MODEL_OR_FOLDER`` (see :mod:`geoseg_ros.backbones.hub`).
        device: torch device. ONNX files run on the CPU whatever it is.

    Raises:
        InputError: unknown spec, absent or wrong file, missing optional package.
    """
    kind, _, rest = spec.partition(":")
    if kind == "geoseg_base":
        from geoseg_ros.backbones import efficientnet

        return efficientnet.BaseBackbone(rest or efficientnet.SHIPPED, spec, device)
    if kind == "geoseg_tiny":
        from geoseg_ros.backbones import tiny

        return tiny.TinyBackbone(rest or tiny.SHIPPED, spec, device)
    if kind == "onnx" and rest:
        from geoseg_ros.backbones.onnx import OnnxBackbone

        return OnnxBackbone(rest, spec)
    from geoseg_ros.backbones import hub

    if spec in hub.ALIASES:
        return hub.HubBackbone(hub.ALIASES[spec], spec, device)
    if kind == "hub" and rest:
        return hub.HubBackbone(rest, spec, device)
    shipped = ("geoseg_base", "geoseg_tiny")
    known = ", ".join([*shipped, *hub.ALIASES, *(f"{name}:FILE" for name in shipped), "onnx:FILE", "hub:MODEL_OR_FOLDER"])
    raise InputError(f"backbone '{spec}': expected one of {known}")
