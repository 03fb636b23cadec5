"""Disks that can be made to fail: a FUSE file system process for each member, and the harness's side of it.

``wire`` speaks the kernel's protocol, ``files`` passes everything through to a
folder, ``unsynced`` and ``names`` know what a power loss takes from it,
``troubles`` what a broken disk refuses, ``replies`` puts these together,
``mounts`` mounts, ``server`` is the program, ``fuse`` has it run here, and ``steering`` is the capability Disk.
``wal`` and ``damage`` spoil what etcd has written (the capability Damage); they need no FUSE.

All but ``fuse`` and ``steering`` import nothing but the standard library and each other, so that
they run wherever there is a Python.  What a fault means to a cluster, and its
proof, belongs to ``nemesis``.
"""
