"""The fake objects of the tests of ``geoseg train``, ``coseg`` and ``bank``, and how a command is run."""

from geoseg_ros.cli.main import main

CLOUD_THINGS = (("red", "green", "cyan"), ("red", "yellow"), ("red", "cyan", "yellow"))


def run(capsys, *arguments):
    """Exit code, standard output, standard error."""
    code = main([str(a) for a in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err
