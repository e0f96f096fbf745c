"""``coseg_node``: clouds and images in, labelled clouds, masks and objects out. A managed (life cycle) node."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import expanded
from geoseg_ros.results import LabelSpace
from geoseg_ros.ros.diagnostics import Diagnostics
from geoseg_ros.ros.inputs import Inputs
from geoseg_ros.ros.message_types import missing_interfaces
from geoseg_ros.ros.parameters import declare, follow
from geoseg_ros.ros.publishers import Outputs
from geoseg_ros.ros.services import Control, LearnServices
from geoseg_ros.ros.transforms import Frames
from geoseg_ros.ros.worker import Worker, describe
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.opening import OpenedPipeline, Opening, PipelineOpener
from geoseg_ros.runtime.pipeline import check_packs
from geoseg_ros.runtime.stream_step import result_names, unknown_labels

_OPENING = "opening packs"
HELP = """usage: coseg_node [--ros-args [-p NAME:=VALUE ...] [--params-file FILE] [-r FROM:=TO ...] [-r __ns:=/NAMESPACE]]

Clouds and images in, labelled clouds, masks and objects out. Inputs are ~/points or ~/depth, ~/camera_info, ~/color; ~/image or
~/image/compressed. The parameter packs names what to find. All parameters: docs/parameters.md, config/coseg.yaml, `ros2 param describe`.

  ros2 run geoseg_ros coseg_node --ros-args -p packs:="[mug.pack]" -r ~/points:=/lidar/points -r ~/image:=/camera/image_raw
  ros2 launch geoseg_ros coseg.launch.py --show-args

exit codes: 0 ended by SIGINT or SIGTERM, 1 failed, 2 bad parameters or packs"""


class CosegNode(LifecycleNode):
    """Callbacks store the newest message per stream, one worker thread decodes, segments and publishes.

    ``configure`` opens the packs, ``activate`` subscribes, ``deactivate`` unsubscribes and forgets what waits, ``cleanup`` frees the
    pipeline. With the parameter ``autostart`` the first two happen by themselves as soon as the node is spun. Services and parameters
    wait while a configure is under way; the diagnostics go on.

    Args:
        pipeline_factory: makes the pipeline; called in a thread of its own.
        pack_check: gets new packs, returns the names of their concepts or raises InputError.
        stop: when set, a configure that is under way is given up.
        arguments: of ``rclpy.node.Node``.

    Attributes:
        parameters, inputs, worker, diagnostics: its parts.
        failure: why the last transition failed, or None.
        stillborn: coming up by itself has failed, for the reason in ``failure``.
        built: the parameter ``build_only`` was set, and what it asks for is done.

    Raises:
        InputError: a parameter is unknown, mistyped or out of range.
    """

    def __init__(
        self,
        pipeline_factory: Callable[[NodeParameters], OpenedPipeline] | None = None,
        pack_check: Callable[[Sequence[str]], Sequence[str]] = check_packs,
        stop: threading.Event | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__("coseg_node", **arguments)
        try:
            stop = stop or threading.Event()
            self._start(pipeline_factory or PipelineOpener(stop, self.get_logger().warning), pack_check, stop)
        except BaseException:
            self.destroy_node()
            raise

    def _start(
        self, factory: Callable[[NodeParameters], OpenedPipeline], check: Callable[[Sequence[str]], Sequence[str]], stop: threading.Event
    ) -> None:
        self.parameters = declare(self, NodeParameters())
        self.failure: Exception | None = None
        self.stillborn = self.built = False
        self._factory, self._check, self._stop = factory, check, stop
        self._opening: Opening | None = None
        self._packs_before: tuple[str, ...] = ()
        self._reverting = False
        self._idle = False  # all packs were taken away while the node ran
        frames = Frames(self, self.parameters.target_frame)
        sensors = self.parameters.sensors()
        self._outputs = Outputs(self, result_names(sensors, frames.target))
        self.inputs = Inputs(self, sensors)
        self.mailbox = self.inputs.mailbox
        self.diagnostics = Diagnostics(self, self.mailbox, self.inputs.streams, self.inputs.companions, self.parameters.status_period)
        self.diagnostics.timeout = self.parameters.input_timeout
        self.diagnostics.progress = lambda: getattr(factory, "progress", "")
        self.worker = Worker(self, self.mailbox, lambda: self.parameters, self.inputs.streams, self._outputs, frames)
        Control(self, self.inputs, self._outputs, self.diagnostics, self.worker)
        self._learn = LearnServices(self)
        follow(self, self.parameters, self._refusal, self._store)
        self._service_change_state.callback = self._change_or_refuse(self._service_change_state.callback)
        self._opened = self.create_guard_condition(self._take_new_packs)
        if missing := missing_interfaces():
            self.get_logger().info(missing)
        if not frames.target and sum(stream.kind == "cloud" for stream in self.inputs.streams.values()) > 1:
            self.get_logger().info("no target_frame: obstacles and objects of several clouds are not merged")
        self.worker.start()
        if self.parameters.autostart or self.parameters.build_only:
            # simulated time may stand still
            self._autostart = self.create_timer(0.0, self._come_up, clock=Clock(clock_type=ClockType.STEADY_TIME))
        else:
            self.get_logger().info("unconfigured, waiting for a life cycle manager")

    def stop(self, timeout: float = 30.0) -> None:
        """Let the worker finish its item and end."""
        self._stop.set()
        self._learn.close()
        self.worker.active = False
        self.mailbox.close()
        self.worker.join(timeout)
        if self._opening is not None:
            self._opening.join(timeout)

    # ---- life cycle (executor thread)

    def _come_up(self) -> None:
        self._autostart.cancel()
        if self.diagnostics.state == "unconfigured" and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            if self.parameters.build_only:
                self.built = True
            else:
                self.trigger_activate()
        self.stillborn = self.failure is not None

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Open packs and backbone; the node stays unconfigured when that fails."""
        self.diagnostics.doing = _OPENING
        self._opening = Opening(self._factory, self.parameters, lambda: None)
        self._opening.start()
        try:
            while self._opening.is_alive():
                self.diagnostics.update()
                self._opening.join(min(self.diagnostics.period, 0.2))
                if self._stop.is_set() or not self.context.ok():
                    return TransitionCallbackReturn.FAILURE
            return self._done("inactive", self._take_opened)
        finally:
            self.diagnostics.doing = ""

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Subscribe; the node stays inactive when that fails."""

        def activate() -> None:
            try:
                self.inputs.open()
            except BaseException:
                self.inputs.close()
                raise
            self.worker.active = True

        return self._done("active", activate)

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Unsubscribe; what waits or is in work is not published."""
        return self._done("inactive", self._quiet)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Free packs and backbone."""
        return self._done("unconfigured", self._forget)

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        return self._done("finalized", self._forget)

    def on_error(self, state: Any) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        return self._done("unconfigured", self._forget)

    def _change_or_refuse(self, change: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """A request for a transition that the state does not have, as of a manager beside autostart, must not end the node.

        rclpy refuses it itself since Kilted; before, it lets the error out of the executor.
        """

        def change_or_refuse(request: Any, response: Any) -> Any:
            try:
                return change(request, response)
            except RuntimeError as error:  # RCLError
                wanted = request.transition.label or request.transition.id
                self.get_logger().error(f"no transition {wanted} in state {self.diagnostics.state}: {describe(error)}")
                response.success = False
                return response

        return change_or_refuse

    def _done(self, state: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        """Do the work of a transition. Any error is one line in the log, and leaves the node in the state it was in."""
        try:
            work()
        except Exception as error:
            line = describe(error)
            self.failure = error.with_traceback(None)  # which would keep all that was being opened
            self.diagnostics.trouble = line
            self.get_logger().error(line)
            return TransitionCallbackReturn.FAILURE
        self.failure, self.diagnostics.trouble = None, ""
        self.diagnostics.state = state
        return TransitionCallbackReturn.SUCCESS

    def _quiet(self) -> None:
        self.worker.active = False
        self.inputs.close()

    def _unload(self) -> None:
        """All packs were taken away: free the pipeline, and wait for others."""
        self._idle = True
        self.diagnostics.pipeline = None
        self.worker.drop()
        self._outputs.publish_labels(LabelSpace(()))
        self.get_logger().info("no packs: idle until the parameter packs names some")

    def _forget(self) -> None:
        self._learn.close()
        self._idle = False
        self._quiet()
        self.diagnostics.pipeline = None
        self.worker.drop()

    # ---- packs and parameters (executor thread)

    def _take_opened(self) -> None:
        """Use the pipeline that has been opened, or raise why there is none."""
        assert self._opening is not None
        opening, self._opening = self._opening, None
        opening.join()
        if opening.failure is not None:
            raise opening.failure
        pipeline = opening.pipeline
        assert pipeline is not None
        if unknown := unknown_labels(self.parameters.wanted_labels, pipeline.labels.names):
            raise InputError(f"parameter {unknown}")
        pipeline.config = self.parameters.pipeline  # a threshold may have been changed meanwhile
        self._idle = False
        self.worker.use(pipeline)
        self.diagnostics.pipeline = pipeline
        names = ", ".join(f"{i} {name}" for i, name in enumerate(pipeline.labels.names, 1))
        if parts := getattr(pipeline, "part_names", ()):
            names += f"; parts {', '.join(f'{part} of {target}' for target, part in parts)}"
        reason = getattr(pipeline, "backend_reason", pipeline.backend)
        self.get_logger().info(f"ready: {names or 'no concept'}; backbone {pipeline.backbone_name} on {reason}")

    def _take_new_packs(self) -> None:
        """Packs were changed while the node runs, and have been opened."""
        if self._opening is None or not self._opening.finished:
            return
        self.diagnostics.doing = ""
        if self.worker.pipeline is None and not self._idle:
            self._opening = None  # cleaned up meanwhile; a configure opens them
            return
        failure = ""
        try:
            self._take_opened()
        except Exception as error:
            failure = f"packs: {describe(error)}; the old ones stay"
            self.get_logger().error(failure)
            self._reverting = True
            self.set_parameters([Parameter("packs", value=list(self._packs_before) or [""])])
            self._reverting = False
        self._learn.opened(failure)

    def load_pack(self, path: str) -> bool:
        """Look for what a pack describes, beside the packs that are loaded; where it is one of them, it is opened again.

        Returns:
            False: others are being opened, ask again when they are.

        Raises:
            InputError: it cannot be used.
        """
        if self._opening is not None:
            return False
        packs = self.parameters.packs
        if self.worker.pipeline is not None and path in map(expanded, packs):
            self._check(packs)
            self._packs_before = packs
            self._open(self.parameters)
        else:
            taken = self.set_parameters([Parameter("packs", value=[*(p for p in packs if expanded(p) != path), path])])[0]
            if not taken.successful:
                raise InputError(taken.reason)
        return True

    def _refusal(self, parameters: NodeParameters) -> str:
        """Why new parameters cannot be taken, or an empty string."""
        pipeline = self.worker.pipeline
        if self._reverting or (pipeline is None and not self._idle):
            return ""  # looked at when the packs are opened
        if parameters.packs == self.parameters.packs:
            return "" if pipeline is None else unknown_labels(parameters.wanted_labels, pipeline.labels.names)
        if self._opening is not None:
            return "packs: others are being opened, try again later"
        if not parameters.packs:
            return ""  # the node idles until it gets others
        try:
            return unknown_labels(parameters.wanted_labels, self._check(parameters.packs))
        except InputError as error:
            return f"packs: {describe(error)}"

    def _store(self, parameters: NodeParameters) -> None:
        before, self.parameters = self.parameters, parameters
        self.diagnostics.timeout = parameters.input_timeout
        pipeline = self.worker.pipeline
        if pipeline is None and not self._idle:
            return
        if pipeline is not None and before.packs and not parameters.packs and not self._reverting:
            self._unload()
            return
        if pipeline is not None:
            pipeline.config = parameters.pipeline  # read once per item; what may be changed decides only, and is part of no reference
        if parameters.packs == before.packs or self._reverting:
            return
        if not parameters.packs:
            return
        self._packs_before = before.packs
        self._open(parameters)

    def _open(self, parameters: NodeParameters) -> None:
        """Open packs while the node runs."""
        self.diagnostics.doing = _OPENING
        self._opening = Opening(self._factory, parameters, self._opened.trigger)
        self._opening.start()


def main(args: Sequence[str] | None = None, pipeline_factory: Callable[[NodeParameters], OpenedPipeline] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns 0 after these, 1 when it failed, 2 for bad parameters or packs."""
    given = sys.argv[1:] if args is None else list(args)
    if {"-h", "--help"} & set(given):
        print(HELP)
        return 0
    node, executor, code, stop = None, None, 0, threading.Event()
    log = rclpy.logging.get_logger("coseg_node")
    # handlers of our own: ROS's would take the context away while something is being published
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
        node = CosegNode(pipeline_factory, stop=stop)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stop.is_set() and not node.stillborn and not node.built:
            executor.spin_once(timeout_sec=0.2)
        if node.stillborn:
            code = 2 if isinstance(node.failure, InputError) else 1
    except ExternalShutdownException:
        pass
    except (InputError, ParameterException, NameValidationException) as error:
        log.fatal(" ".join(str(error).split()))
        code = 2
    except (GeosegError, OSError, RuntimeError) as error:  # RCLError, for one, is a RuntimeError
        log.fatal(describe(error))
        code = 1
    finally:
        # a second signal (ros2 launch sends one to the whole process group) must not break the clean-up, nor the end of the interpreter,
        # which takes handlers away
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if node is not None:
            node.stop()
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
