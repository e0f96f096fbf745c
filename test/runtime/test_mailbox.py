"""The mailbox and the statistics of the live node."""

import math
import threading
import time

import pytest

from geoseg_ros.runtime.mailbox import Mailbox, StreamCounts
from geoseg_ros.runtime.stream_state import Latency, Rate


def test_newest_item_wins():
    box = Mailbox(["cloud", "image"])
    for item in range(5):
        box.put("cloud", item)
    assert box.take() == ("cloud", 4)
    assert box.counts()["cloud"] == StreamCounts(received=5, dropped=4)
    box.finish("cloud", True)
    box.put("cloud", 5)
    assert box.take() == ("cloud", 5)
    box.finish("cloud", False)
    assert box.counts() == {"cloud": StreamCounts(received=6, processed=1, dropped=4, rejected=1), "image": StreamCounts()}


def test_streams_take_turns():
    box = Mailbox(["cloud", "image", "other"])
    order = []
    for i in range(12):
        for stream in ("cloud", "image", "other"):  # every stream always has something waiting
            box.put(stream, i)
        order.append(box.take()[0])
    assert order == ["cloud", "image", "other"] * 4


def test_a_slow_stream_is_not_starved_by_a_busy_one():
    box = Mailbox(["busy", "slow"])
    box.put("slow", 0)
    turns = 0
    while True:
        box.put("busy", turns)
        turns += 1
        if box.take()[0] == "slow":
            break
    assert turns <= 2


def test_waiting():
    box = Mailbox(["cloud"])
    start = time.monotonic()
    assert box.take(timeout=0.05) is None
    assert time.monotonic() - start >= 0.04
    threading.Timer(0.05, box.put, ("cloud", "late")).start()
    assert box.take(timeout=5.0) == ("cloud", "late")


def test_close_wakes_the_worker_and_refuses_items():
    box = Mailbox(["cloud"])
    taken = []
    worker = threading.Thread(target=lambda: taken.append(box.take()))
    worker.start()
    box.close()
    worker.join(5.0)
    assert not worker.is_alive() and taken == [None]
    box.put("cloud", 1)
    assert box.take() is None and box.counts()["cloud"].received == 0


def test_unknown_stream_is_an_error():
    with pytest.raises(KeyError):
        Mailbox(["cloud"]).put("clouds", 1)


def test_nothing_is_lost_or_reordered_under_load():
    box = Mailbox(["a", "b"])
    taken = {"a": [], "b": []}

    def work():
        while (got := box.take()) is not None:
            taken[got[0]].append(got[1])
            box.finish(got[0], True)

    worker = threading.Thread(target=work)
    worker.start()

    def feed(stream):
        for i in range(3000):
            box.put(stream, i)

    feeders = [threading.Thread(target=feed, args=(s,)) for s in ("a", "b", "a", "b")]
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join()
    deadline = time.monotonic() + 5.0
    while any(c.received != c.processed + c.dropped for c in box.counts().values()) and time.monotonic() < deadline:
        time.sleep(0.01)
    box.close()
    worker.join(5.0)
    for stream, counts in box.counts().items():
        assert counts.received == 6000 == counts.processed + counts.dropped
        assert counts.processed == len(taken[stream]) > 0


def test_latency_percentiles_of_the_window():
    latency = Latency(window=100)
    assert all(math.isnan(v) for v in latency.percentiles(50, 95))
    for i in range(300):
        latency.add(i / 1000)
    median, high = latency.percentiles(50, 95)
    assert median == pytest.approx(0.2495) and high == pytest.approx(0.29405)


def test_rate_and_age():
    now = [100.0]
    rate = Rate(seconds=5.0, clock=lambda: now[0])
    assert not rate.started() and rate.hertz() == 0.0
    now[0] += 2.0
    assert rate.age() == 2.0
    for _ in range(100):
        now[0] += 0.1
        rate.add()
    assert rate.started() and rate.hertz() == pytest.approx(10.0, abs=0.3)
    now[0] += 10.0
    assert rate.hertz() == 0.0 and rate.age() == pytest.approx(10.0)


def test_clearing_counts_what_waits_as_dropped():
    mailbox = Mailbox(("cloud", "image"))
    for name, item in (("cloud", 1), ("cloud", 2), ("image", 3)):
        mailbox.put(name, item)
    assert mailbox.take() == ("cloud", 2)
    mailbox.clear()
    mailbox.finish("cloud", True)
    assert mailbox.take(0.01) is None
    counts = mailbox.counts()
    assert (counts["cloud"].received, counts["cloud"].processed, counts["cloud"].dropped) == (2, 1, 1)
    assert (counts["image"].received, counts["image"].dropped) == (1, 1)
    mailbox.put("image", 4)
    assert mailbox.take() == ("image", 4), "it goes on"
