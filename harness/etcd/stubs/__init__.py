"""Generated message types of etcd's v3 API: ``python harness/etcd/proto/generate.py`` (``make stubs``) writes all but this file.

Nothing here is written by hand.  Code names methods through
``splitvote.harness.etcd.methods``, which pairs each path with its types.
"""
