"""An executor that spins in a thread of its own."""

import threading
from contextlib import contextmanager


@contextmanager
def spinning(executor):
    """Spin an executor while the block runs."""
    running = True

    def spin():
        while running:
            executor.spin_once(timeout_sec=0.1)

    spinner = threading.Thread(target=spin)
    spinner.start()
    try:
        yield
    finally:
        running = False
        spinner.join()
