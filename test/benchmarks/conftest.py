"""One thread and a generator for every test here."""

from support.torch_fixtures import generator, one_thread  # noqa: F401
