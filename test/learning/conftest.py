"""One thread for every test here."""

from support.torch_fixtures import one_thread  # noqa: F401
