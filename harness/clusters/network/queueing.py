"""What the queues of a namespace's interface are told, so that its links get their shape: pure text, for tc.

Each link that was ever shaped has a class of HTB for its rate, into which its
packets are put by their destination; within it netem, where the kernel has it,
does the rest, else a short queue.  A link that is healed keeps its class,
without a limit: what was held is sent at once, where to take the queue away
would lose it, and TCP would wait for seconds before it tried again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from splitvote.harness.cluster import LinkShape

INTERFACE: Final = "eth0"
"""What interfaces are called where we name them."""

HANDLE: Final = "5711:"
"""By which our queues are told from others', which are not touched."""

NETEM_SHAPES: Final = ("delay", "jitter", "duplicate", "reorder", "corrupt")
"""What takes netem."""

PACKET_BYTES: Final = 1514
_LEAST_QUEUE_BYTES: Final = 3 * PACKET_BYTES
_QUEUE_S: Final = 0.5
"""How long a queue may get at the link's rate; TCP fills any, and a longer one would outlast the fault."""

_NETEM_LIMIT: Final = 10_000


def root(interface: str) -> list[str]:
    """For an interface of which no link was shaped yet; fails where somebody has queues of their own."""
    return [f"qdisc add dev {interface} root handle {HANDLE} htb default 0"]


def no_root(interface: str) -> list[str]:
    """For an interface whose links were shaped, and are to be shaped anew."""
    return [f"qdisc del dev {interface} root"]


def link(interface: str, number: int, address: str) -> list[str]:
    """For a link that was not shaped yet; its class is ``number``."""
    return [
        _class(interface, number, LinkShape()),
        f"filter add dev {interface} parent {HANDLE} protocol ip prio 1 "
        f"u32 match ip dst {address}/32 flowid {HANDLE}{number:x}",
    ]


def shape(interface: str, number: int, wanted: LinkShape, *, has_netem: bool) -> list[str]:
    """Give the link of this class its shape; its loss is the packet filter's."""
    queue = _netem(wanted) if has_netem else f"bfifo limit {_queue_bytes(wanted)}"
    place = f"dev {interface} parent {HANDLE}{number:x} handle {number:x}0:"
    return [_class(interface, number, wanted), f"qdisc replace {place} {queue}"]


def _class(interface: str, number: int, wanted: LinkShape) -> str:
    rate = f"{max(1, round(wanted.rate_bytes_s))}bps" if wanted.rate_bytes_s else "10gbit"
    burst = PACKET_BYTES if wanted.rate_bytes_s else 1 << 20
    limit = f"htb rate {rate} ceil {rate} burst {burst} cburst {burst} quantum {PACKET_BYTES}"
    return f"class replace dev {interface} parent {HANDLE} classid {HANDLE}{number:x} {limit}"


def _queue_bytes(wanted: LinkShape) -> int:
    return max(_LEAST_QUEUE_BYTES, round(wanted.rate_bytes_s * _QUEUE_S)) if wanted.rate_bytes_s else 1 << 20


def _netem(wanted: LinkShape) -> str:
    words = [f"netem limit {_NETEM_LIMIT}"]
    if wanted.delay_ms or wanted.jitter_ms:
        jitter = f" {wanted.jitter_ms:g}ms" if wanted.jitter_ms else ""
        words.append(f"delay {wanted.delay_ms:g}ms{jitter}")
    shares = {"duplicate": wanted.duplicate, "reorder": wanted.reorder, "corrupt": wanted.corrupt}
    return " ".join([*words, *(f"{name} {100 * share:g}%" for name, share in shares.items() if share)])


def script(lines: Sequence[str]) -> tuple[list[str], str]:
    """One run of tc."""
    return ["tc", "-batch", "-"], "\n".join(lines) + "\n"


def numbers(names: Sequence[str]) -> Mapping[str, int]:
    """The class of each destination."""
    return {name: number for number, name in enumerate(names, 1)}
