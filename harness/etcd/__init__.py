"""etcd as the system under test: RPC seam, stubs, error table, capabilities over RPC, and bindings of workloads.

Import the modules themselves; they are loaded only when a run needs them,
since protobuf and gRPC come with them.  How members are started belongs to
``harness/clusters``, what a workload does to ``workloads``, how a history is
judged to ``checkers``.
"""
