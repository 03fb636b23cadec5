"""The generated stubs: as the .proto files say, quiet to import, and complete in the table of methods."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from splitvote.harness.etcd.methods import METHODS
from splitvote.harness.etcd.stubs import election_pb2, lock_pb2, rpc_pb2

FILES = (rpc_pb2, lock_pb2, election_pb2)
STUBS = Path(rpc_pb2.__file__).parent


def test_every_method_of_every_service_is_in_the_table_with_its_types() -> None:
    declared = {
        f"/{service.full_name}/{method.name}": (method.input_type.full_name, method.output_type.full_name)
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    table = {
        path: (method.request.DESCRIPTOR.full_name, method.answer.DESCRIPTOR.full_name)  # type: ignore[attr-defined]
        for path, method in METHODS.items()
    }
    assert table == declared
    assert "/etcdserverpb.KV/Range" in table
    assert "/v3lockpb.Lock/Lock" in table
    assert "/v3electionpb.Election/Campaign" in table


@pytest.mark.parametrize("module", ["rpc_pb2", "lock_pb2", "election_pb2"])
def test_each_module_imports_alone_without_a_warning(module: str) -> None:
    command = [sys.executable, "-W", "error", "-c", f"import splitvote.harness.etcd.stubs.{module}"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""


def test_the_seam_and_the_bindings_do_not_load_grpc() -> None:
    """The simulation needs none of gRPC, which takes long to load."""
    code = (
        "import sys; import splitvote.harness.etcd.bindings.register, splitvote.harness.etcd.capabilities, "
        "splitvote.harness.etcd.connection; sys.exit('grpc' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_generating_anew_gives_the_committed_stubs(tmp_path: Path) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("no grpcio-tools: the extra dev brings them")
    from splitvote.harness.etcd.proto.generate import generate

    written = generate(tmp_path)
    assert sorted(path.name for path in written) == sorted(path.name for path in STUBS.glob("*_pb2.py*"))
    for path in written:
        made, committed = path.read_text(), (STUBS / path.name).read_text()
        if path.suffix == ".py" and _protobuf_version(made) != _protobuf_version(committed):
            pytest.skip(f"the stubs are of protobuf {_protobuf_version(committed)}, the tools of another")
        assert made == committed, f"{path.name} is not what `make stubs` makes"


def _protobuf_version(stub: str) -> str:
    found = re.search(r"Protobuf Python Version: (\S+)", stub)
    assert found is not None
    return found[1]


def test_field_numbers_are_etcds() -> None:
    """A few that are easily got wrong: where numbers jump, and where names do not say the order."""
    compare = rpc_pb2.Compare.DESCRIPTOR.fields_by_name
    assert compare["range_end"].number == 64
    watch = rpc_pb2.WatchResponse.DESCRIPTOR.fields_by_name
    assert (watch["fragment"].number, watch["events"].number) == (7, 11)
    time_to_live = rpc_pb2.LeaseTimeToLiveResponse.DESCRIPTOR.fields_by_name
    assert (time_to_live["grantedTTL"].number, time_to_live["keys"].number) == (4, 5)
    assert election_pb2.LeaderKey.DESCRIPTOR.fields_by_name["rev"].number == 3
