"""Any ONNX file with dense feature maps as an image backbone (onnxruntime, CPU)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.base import check_images
from geoseg_ros.errors import InputError

# name -> (mean, standard deviation) of RGB 0..255
NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "symmetric": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
PROBE_SIDE = 224  # a multiple of 8, 14, 16 and 32


class OnnxBackbone:
    """An ONNX file with one image input [1, 3, H, W] (or [1, H, W, 3]) and 4-D float outputs of one spatial size.

    The outputs are concatenated. Options, as in ``onnx:FILE?norm=imagenet&outputs=a,b&threads=2``; where one of the first three
    is absent, the metadata entry ``geoseg.<option>`` of the file is used:
        norm: ``raw`` (RGB 0..255, the default), ``unit`` (0..1), ``symmetric`` (-1..1) or ``imagenet`` (0..1, then mean and
            deviation of ImageNet);
        outputs: names of the feature maps to use, comma-separated (default: every 4-D output);
        supervision: description of the labels that the network was trained with (default: unknown);
        threads: threads of one operator (default 2).

    Attributes, beside those of every backbone:
        path: of the file. input_name, output_names: used of it. channels_first: layout of the input, and of the feature maps.
        backend: what runs it. batch: what the file fixes it to, or None. sides: (height, width) that it fixes, each may be None.
        mean, deviation: float32 [3] of the pixels.

    The global vector is the mean token. Raises InputError for an absent file, one that is not ONNX, or one with other inputs or outputs.
    """

    backend = "onnxruntime-cpu"

    def __init__(self, file: str, name: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(f"backbone '{name}': needs the Python package onnxruntime, which is not installed") from error
        self.name = name
        location, _, query = file.partition("?")
        self.path = Path(location)
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file; expected an ONNX image backbone")
        given = dict(parse_qsl(query, keep_blank_values=True))
        unknown = sorted(set(given) - {"norm", "outputs", "supervision", "threads"})
        if unknown:
            raise InputError(f"backbone '{name}': option '{unknown[0]}': expected norm, outputs, supervision or threads")
        threads = given.get("threads", "2")
        if not threads.isdigit() or int(threads) < 1:
            raise InputError(f"backbone '{name}': option threads: expected a number >= 1, got '{threads}'")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = int(threads)
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the processor to others between calls
        try:
            self.session = onnxruntime.InferenceSession(str(self.path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own types, which share no public base class
            raise InputError(f"{self.path}: not a readable ONNX file ({str(error).splitlines()[0]})") from error
        metadata = self.session.get_modelmeta().custom_metadata_map
        options = {k: given.get(k, metadata.get(f"geoseg.{k}", "")) for k in ("norm", "outputs", "supervision")}
        norm = options["norm"] or "raw"
        if norm not in NORMALISATIONS:
            raise InputError(f"backbone '{name}': norm: expected one of {', '.join(NORMALISATIONS)}, got '{norm}'")
        self.mean, self.deviation = (np.array(v, np.float32) for v in NORMALISATIONS[norm])
        self.supervision = options["supervision"] or "unknown"
        self._read_input()
        self._read_outputs([o for o in options["outputs"].split(",") if o])
        digest = hashlib.sha256(self.path.read_bytes())
        digest.update(f"{norm} {self.output_names}".encode())
        self.hash = digest.hexdigest()

    def _read_input(self) -> None:
        inputs = self.session.get_inputs()
        shape = list(inputs[0].shape) if inputs else []
        if len(inputs) != 1 or len(shape) != 4 or inputs[0].type != "tensor(float)" or 3 not in (shape[1], shape[3]):
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise InputError(f"{self.path}: inputs: expected one float image [1, 3, H, W] or [1, H, W, 3], got {found or 'none'}")
        self.input_name = inputs[0].name
        self.channels_first = shape[1] == 3
        self.batch = shape[0] if isinstance(shape[0], int) else None
        height, width = (s if isinstance(s, int) else None for s in (shape[2:] if self.channels_first else shape[1:3]))
        self.sides = (height, width)

    def _read_outputs(self, wanted: list[str]) -> None:
        available = [o.name for o in self.session.get_outputs() if o.shape is not None and len(o.shape) == 4 and o.type == "tensor(float)"]
        absent = [o for o in wanted if o not in available]
        if absent or not available:
            found = ", ".join(available) or "none"
            raise InputError(f"{self.path}: outputs: expected 4-D float feature maps {', '.join(absent)}, got {found}")
        self.output_names = wanted or available
        height, width = (s or PROBE_SIDE for s in self.sides)
        maps = self._run(np.zeros((height, width, 3), np.uint8))
        sizes = {m.shape[:2] for m in maps}
        rows, columns = next(iter(sizes))
        if len(sizes) != 1 or height % rows or width % columns or height // rows != width // columns:
            found = ", ".join(f"{o} {m.shape[0]} x {m.shape[1]}" for o, m in zip(self.output_names, maps, strict=True))
            raise InputError(f"{self.path}: outputs: expected feature maps of one size that divides {height} x {width}, got {found}")
        self.stride = height // rows
        self.dim = sum(m.shape[2] for m in maps)

    def _run(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Feature maps [h, w, C] of one image [H, W, 3]."""
        pixels = ((image.astype(np.float32) - self.mean) / self.deviation)[None]
        if self.channels_first:
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        try:
            maps = self.session.run(self.output_names, {self.input_name: pixels})
        except Exception as error:  # as above
            raise InputError(f"{self.path}: fails on a {image.shape[0]} x {image.shape[1]} image ({str(error).splitlines()[0]})") from error
        return [m[0].transpose(1, 2, 0) if self.channels_first else m[0] for m in maps]

    def tokens(self, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`geoseg_ros.backbones.base.ImageBackbone.tokens`. Images run one by one, as many files have batch 1."""
        check_images(images, self.stride)
        stacked = np.stack([np.concatenate(self._run(image), axis=2) for image in images])
        tokens = torch.from_numpy(stacked)
        return tokens, tokens.mean((1, 2))
