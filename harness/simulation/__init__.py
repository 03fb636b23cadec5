"""A deterministic etcd: the same seed gives the same cluster, fault for fault and byte for byte.

What lives here: raft, the server around it, the store with its services, the
network and disks between them, and ``SimulatedCluster``, which offers them as
any cluster's capabilities.  Nothing here opens a socket or reads a clock; time
is the running loop's (``splitvote.harness.clock``).
"""
