"""The .proto files of etcd's v3 API, and ``generate.py``, which makes ``splitvote.harness.etcd.stubs`` from them."""
