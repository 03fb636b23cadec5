"""What tc is told of a link's shape; that the kernel does so is seen in test_netns."""

from __future__ import annotations

from splitvote.harness.cluster import LinkShape
from splitvote.harness.clusters.network import queueing


def test_a_rate_limits_the_class_and_keeps_its_queue_short() -> None:
    limit, queue = queueing.shape("eth0", 3, LinkShape(rate_bytes_s=4000), has_netem=False)
    assert "classid 5711:3 htb rate 4000bps ceil 4000bps burst 1514" in limit
    assert queue.endswith("parent 5711:3 handle 30: bfifo limit 4542")


def test_a_healed_link_keeps_its_class_without_a_limit() -> None:
    """Its queue is sent, not thrown away."""
    limit, queue = queueing.shape("eth0", 3, LinkShape(), has_netem=False)
    assert "rate 10gbit" in limit
    assert "bfifo" in queue


def test_where_there_is_netem_it_does_what_rates_do_not() -> None:
    shape = LinkShape(delay_ms=40, jitter_ms=8, duplicate=0.05, reorder=0.1, corrupt=0.001, rate_bytes_s=9000, loss=0.2)
    limit, queue = queueing.shape("eth0", 10, shape, has_netem=True)
    assert "classid 5711:a htb rate 9000bps" in limit
    assert queue == (
        "qdisc replace dev eth0 parent 5711:a handle a0: "
        "netem limit 10000 delay 40ms 8ms duplicate 5% reorder 10% corrupt 0.1%"
    )
    assert queueing.shape("eth0", 10, LinkShape(), has_netem=True)[1].endswith("netem limit 10000")


def test_a_link_is_told_apart_by_its_destination() -> None:
    limit, classifier = queueing.link("eth0", 2, "198.18.0.12")
    assert "classid 5711:2" in limit
    assert "match ip dst 198.18.0.12/32 flowid 5711:2" in classifier


def test_queues_are_told_from_those_of_others_by_their_handle() -> None:
    """Whoever takes them away must not take away what somebody else has on that interface."""
    assert queueing.root("lan0") == [f"qdisc add dev lan0 root handle {queueing.HANDLE} htb default 0"]
    assert queueing.HANDLE not in ("1:", "0:")
