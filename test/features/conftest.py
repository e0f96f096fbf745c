"""One thread for every test here."""

from torch_fixtures import one_thread  # noqa: F401
