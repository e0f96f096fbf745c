"""Labelled clouds and images to rerun: into a file, or to a viewer on this machine."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from geoseg_ros.display.boxes import title
from geoseg_ros.display.frame import LabelledCloud, LabelledImage
from geoseg_ros.display.pictures import label_colours
from geoseg_ros.display.viewpoint import axes_of
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import atomic_path
from geoseg_ros.results import LabelSpace

_TIMELINE = "stamp"
_POINT = 2.5  # diameter in pixels
_JPEG_QUALITY = 85


def import_rerun() -> Any:
    """The module ``rerun``.

    Raises:
        InputError: not installed, or something else of this name is.
    """
    try:
        import rerun
    except ImportError as error:
        raise InputError(f"this needs rerun: pip install rerun-sdk ({error}); --screenshot works without") from None
    if not hasattr(rerun, "RecordingStream"):
        raise InputError(f"this needs rerun 0.24 or newer (package rerun-sdk), found {getattr(rerun, '__version__', 'another module')}")
    return rerun


class RerunStream:
    """Sends scenes to rerun; a context manager.

    The cloud is ``world/points``, its boxes are ``world/objects``, the image with its labels is ``image``; all lie on the timeline
    ``stamp``, the time of the input.

    Args:
        file: an .rrd file to write; it appears when the stream is closed.
        url: of a running viewer, instead of a file.

    Raises:
        InputError: rerun is not installed. GeosegError: it failed.
    """

    def __init__(self, file: str | os.PathLike[str] | None = None, url: str | None = None) -> None:
        self._rerun = import_rerun()
        self._optical: bool | None = None
        self._labels = LabelSpace(())
        self._stream: Any = self._rerun.RecordingStream("geoseg_ros")
        try:
            with ExitStack() as stack:
                target = None if file is None else stack.enter_context(atomic_path(file))
                stack.callback(self._stream.disconnect)  # writes what is left, before the file is renamed
                if target is None:
                    self._stream.connect_grpc(url, default_blueprint=self._blueprint())
                else:
                    self._stream.save(target, default_blueprint=self._blueprint())
                self._stack = stack.pop_all()
        except RuntimeError as error:
            raise GeosegError(f"rerun: {' '.join(str(error).split())}") from None

    def __enter__(self) -> RerunStream:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)

    def _blueprint(self) -> Any:
        import rerun.blueprint as layout

        views = (layout.Spatial3DView(origin="world", name="cloud"), layout.Spatial2DView(origin="image", name="image"))
        return layout.Blueprint(layout.Horizontal(*views, column_shares=[3, 2]), collapse_panels=True)

    def labels(self, labels: LabelSpace) -> None:
        """The names and colours from now on."""
        rows = [(0, "none"), *enumerate(labels.names, 1)]
        palette = labels.palette().tolist()
        self._stream.log("/", self._rerun.AnnotationContext([(i, name, palette[i]) for i, name in rows]), static=True)
        self._labels = labels

    def add(self, item: LabelledCloud | LabelledImage) -> None:
        """Send a cloud with its boxes, or an image. Labels come before."""
        self._stream.set_time(_TIMELINE, timestamp=np.datetime64(item.stamp_ns, "ns"))
        if isinstance(item, LabelledCloud):
            self._cloud(item)
        else:
            picture = self._rerun.Image(item.picture).compress(jpeg_quality=_JPEG_QUALITY)
            self._stream.log("image", picture)

    def flush(self) -> None:
        """Wait until everything is on its way.

        Raises:
            GeosegError: the viewer is gone.
        """
        try:
            self._stream.flush()
        except RuntimeError as error:
            raise GeosegError(f"rerun: {' '.join(str(error).split())}") from None

    def _cloud(self, item: LabelledCloud) -> None:
        rerun, palette = self._rerun, self._labels.palette()
        valid = item.cloud.valid()
        optical = axes_of(item.cloud).optical
        if valid.any() and optical != self._optical:
            self._optical = optical
            axes = rerun.ViewCoordinates.RDF if optical else rerun.ViewCoordinates.RIGHT_HAND_Z_UP
            self._stream.log("world", axes, static=True)
        colours = label_colours(item.cloud, item.label, palette)[valid]
        points = rerun.Points3D(
            item.cloud.xyz[valid], colors=colours, class_ids=item.label[valid].astype(np.uint16), radii=rerun.Radius.ui_points(_POINT / 2)
        )
        self._stream.log("world/points", points)
        turns = Rotation.from_matrix([entry.rotation for entry in item.objects]).as_quat() if item.objects else np.zeros((0, 4))
        boxes = rerun.Boxes3D(
            centers=np.array([entry.center for entry in item.objects]).reshape(-1, 3),
            sizes=np.array([entry.size for entry in item.objects]).reshape(-1, 3),
            quaternions=turns,
            colors=palette[[entry.label for entry in item.objects]].reshape(-1, 3),
            labels=[title(entry) for entry in item.objects],
        )
        self._stream.log("world/objects", boxes)
