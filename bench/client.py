"""How much the etcd client costs above bare grpc.aio: closed loops of puts and gets against three members.

``python bench/client.py --etcd PATH`` starts three members on free ports of
127.0.0.1 and ends them.  Each round runs the bare loop (multicallables called
directly, as many channels, the same options), the seam (``GrpcRpc.unary``) and
the whole register client (op in, op out) one after another, in turning order;
the figures are medians over the rounds, of throughput and of each one's ratio
to the bare loop *of the same round*, since absolute times are those of the
machine and its neighbours.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from splitvote.harness.etcd.bindings.register import RegisterBinding
from splitvote.harness.etcd.capabilities import EtcdHealth
from splitvote.harness.etcd.connection import ConnectionOptions, Connections, GrpcRpc
from splitvote.harness.etcd.methods import PUT, RANGE
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

TIMEOUT_S = 5.0
READY_BOUND_S = 30.0
KEYS = 100

Loop = Callable[[str, int], Awaitable[object]]
"""One operation of a worker: the kind ("put" or "get") and a counter."""


@contextmanager
def cluster(binary: Path, count: int = 3) -> Iterator[dict[str, str]]:
    """Run members without fsync (the disk is not what is measured); their endpoints by name."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * count)]
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    names = [f"n{number}" for number in range(1, count + 1)]
    clients, peers = dict(zip(names, ports[:count], strict=True)), dict(zip(names, ports[count:], strict=True))
    folder = Path(tempfile.mkdtemp(prefix="splitvote-bench-"))
    children = []
    try:
        for name in names:
            client, peer = f"http://127.0.0.1:{clients[name]}", f"http://127.0.0.1:{peers[name]}"
            command = [str(binary), f"--name={name}", f"--data-dir={folder / name}", "--unsafe-no-fsync"]
            command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
            command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", "--log-level=error"]
            command += ["--initial-cluster=" + ",".join(f"{n}=http://127.0.0.1:{port}" for n, port in peers.items())]
            children.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield {name: f"127.0.0.1:{port}" for name, port in clients.items()}
    finally:
        for child in children:
            child.kill()
            child.wait()
        shutil.rmtree(folder)


async def closed_loop(make: Callable[[int], Loop], *, concurrency: int, seconds: float) -> float:
    """Operations a second of ``concurrency`` workers, each doing puts and gets in turn, one at a time."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    done = 0

    async def worker(number: int) -> None:
        nonlocal done
        operation = make(number)
        for count in itertools.count(number):
            if loop.time() > end_s:
                return
            await operation("put" if count % 2 else "get", count)
            done += 1

    started_s = loop.time()
    await asyncio.gather(*(worker(number) for number in range(concurrency)))
    return done / (loop.time() - started_s)


def bare(
    endpoints: list[str], options: ConnectionOptions
) -> tuple[Callable[[int], Loop], Callable[[], Awaitable[None]]]:
    """The least that a client can do: multicallables on as many channels as the real client has."""
    import grpc.aio

    arguments = options.channel_arguments
    channels = [grpc.aio.insecure_channel(target, arguments) for _ in range(options.channels) for target in endpoints]
    puts = [c.unary_unary(PUT.path, pb.PutRequest.SerializeToString, pb.PutResponse.FromString) for c in channels]
    gets = [c.unary_unary(RANGE.path, pb.RangeRequest.SerializeToString, pb.RangeResponse.FromString) for c in channels]

    def make(number: int) -> Loop:
        put, get = puts[number % len(puts)], gets[number % len(gets)]

        async def operation(kind: str, count: int) -> object:
            key = b"register/%d" % (count % KEYS)
            if kind == "put":
                return await put(pb.PutRequest(key=key, value=b"%d" % count), timeout=TIMEOUT_S)
            return await get(pb.RangeRequest(key=key), timeout=TIMEOUT_S)

        return operation

    async def close() -> None:
        for channel in channels:
            await channel.close(None)

    return make, close


def seam(rpcs: list[GrpcRpc]) -> Callable[[int], Loop]:
    """``GrpcRpc.unary``."""

    def make(number: int) -> Loop:
        rpc = rpcs[number % len(rpcs)]

        async def operation(kind: str, count: int) -> object:
            key = b"register/%d" % (count % KEYS)
            if kind == "put":
                return await rpc.unary(PUT, pb.PutRequest(key=key, value=b"%d" % count), timeout_s=TIMEOUT_S)
            return await rpc.unary(RANGE, pb.RangeRequest(key=key), timeout_s=TIMEOUT_S)

        return operation

    return make


async def register(binding: RegisterBinding, nodes: list[str], concurrency: int) -> Callable[[int], Loop]:
    """The register client, as the runner drives it."""
    clients = [await binding.open(number, nodes[number % len(nodes)]) for number in range(concurrency)]

    def make(number: int) -> Loop:
        client = clients[number]

        async def operation(kind: str, count: int) -> object:
            if kind == "put":
                op = Op(process=number, f="write", key=count % KEYS, value=count)
            else:
                op = Op(process=number, f="read", key=count % KEYS)
            done = await client.invoke(op, lambda event: None)
            assert done.type == "ok", done
            return done

        return operation

    return make


async def measure(
    endpoints: dict[str, str], options: ConnectionOptions, *, concurrency: int, rounds: int, seconds: float
) -> dict[str, float]:
    """Median throughput of the three, and the median ratio of the two to the bare loop."""
    connections = Connections(endpoints, options)
    bare_loop, close_bare = bare(list(endpoints.values()), options)
    binding = RegisterBinding(connections, timeout_s=TIMEOUT_S)
    contenders = [
        ("bare", bare_loop),
        ("seam", seam(list(connections.values()))),
        ("register", await register(binding, list(endpoints), concurrency)),
    ]
    found: dict[str, list[float]] = {name: [] for name, _ in contenders}
    try:
        for turn in range(rounds):
            for name, make in contenders[turn % 3 :] + contenders[: turn % 3]:
                found[name].append(await closed_loop(make, concurrency=concurrency, seconds=seconds))
    finally:
        await connections.close()
        await close_bare()
    slowdown = {
        f"bare/{name}": round(statistics.median(b / o for b, o in zip(found["bare"], found[name], strict=True)), 3)
        for name in ("seam", "register")
    }
    return {f"{name} op/s": round(statistics.median(rates)) for name, rates in found.items()} | slowdown


async def ready(endpoints: dict[str, str]) -> None:
    """Wait until every member answers a linearizable read."""
    connections = Connections(endpoints)
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + READY_BOUND_S
    try:
        while unready := await EtcdHealth(connections).unready(list(endpoints)):
            if loop.time() > deadline_s:
                raise SystemExit(f"the members were not ready within {READY_BOUND_S:g} s: {unready}")
            await asyncio.sleep(0.05)
    finally:
        await connections.close()


async def main(endpoints: dict[str, str], arguments: argparse.Namespace) -> None:
    await ready(endpoints)
    options = ConnectionOptions(channels=arguments.channels)
    for concurrency in arguments.concurrency:
        figures = await measure(
            endpoints, options, concurrency=concurrency, rounds=arguments.rounds, seconds=arguments.seconds
        )
        print(json.dumps({"concurrency": concurrency, "channels": arguments.channels} | figures), flush=True)


if __name__ == "__main__":
    versions = Path(os.environ.get("SPLITVOTE_ETCD_VERSIONS") or ".etcd-versions")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etcd", type=Path, default=versions / "3.5.30" / "etcd", help="the etcd binary")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--channels", type=int, default=ConnectionOptions().channels, help="connections a node")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one loop")
    given = parser.parse_args()
    if not given.etcd.is_file():
        parser.error(f"no etcd at {given.etcd}: give --etcd, or fetch the stock versions with tests/etcd-versions")
    with cluster(given.etcd) as running:
        asyncio.run(main(running, given))
