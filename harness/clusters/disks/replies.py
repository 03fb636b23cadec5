"""What the kernel's requests ask of the files, done, and put into replies."""

from __future__ import annotations

import errno
from collections.abc import Callable

from splitvote.harness.clusters.disks import wire
from splitvote.harness.clusters.disks.files import Files
from splitvote.harness.clusters.disks.troubles import Trouble
from splitvote.harness.clusters.disks.wire import Opcode, Request


class Replies:
    """Answers requests about the files, as far as ``trouble`` lets them through."""

    def __init__(self, files: Files) -> None:
        self.trouble = Trouble()
        self._files = files
        self._doing: dict[int, Callable[[Request], bytes]] = {
            Opcode.INIT: lambda request: wire.greeting(request.body),
            Opcode.LOOKUP: self._look_up,
            Opcode.GETATTR: lambda request: wire.attributes_reply(files.attributes(request.node)),
            Opcode.SETATTR: lambda request: wire.attributes_reply(
                files.change(request.node, wire.change(request.body))
            ),
            Opcode.MKDIR: self._make_directory,
            Opcode.CREATE: self._create,
            Opcode.UNLINK: self._remove,
            Opcode.RMDIR: self._remove,
            Opcode.RENAME: self._rename,
            Opcode.OPEN: lambda request: wire.opened(files.open(request.node, self.flags(request))),
            Opcode.READ: lambda request: files.read(*wire.piece(request.body)),
            Opcode.WRITE: self._write,
            Opcode.RELEASE: self._release,
            Opcode.RELEASEDIR: self._release,
            Opcode.FLUSH: lambda request: b"",
            Opcode.DESTROY: lambda request: b"",
            Opcode.FSYNC: self._sync,
            Opcode.FSYNCDIR: self._sync,
            Opcode.OPENDIR: lambda request: wire.opened(files.open_directory(request.node)),
            Opcode.READDIR: self._read_directory,
            Opcode.STATFS: lambda request: wire.file_system(files.space(), is_full=self.trouble.fault == "full"),
        }

    @staticmethod
    def flags(request: Request) -> int:
        """The flags that OPEN opens with; 0 for others."""
        return wire.two_words(request.body)[0] if request.opcode == Opcode.OPEN else 0

    def reply(self, request: Request) -> bytes | None:
        """The reply to a request, with the files changed as it asks; None for one that wants none."""
        if request.opcode in (Opcode.FORGET, Opcode.BATCH_FORGET):
            for node, lookups in wire.forgotten(request):
                self._files.forget(node, lookups)
        if request.opcode in wire.UNANSWERED:
            return None
        doing = self._doing.get(request.opcode)
        if doing is None:
            return wire.refusal(request.unique, errno.ENOSYS)
        error = self.trouble.refusal(request.opcode, self.flags(request))
        if error is not None:
            return wire.refusal(request.unique, error)
        try:
            return wire.reply(request.unique, doing(request))
        except OSError as failure:
            return wire.refusal(request.unique, failure.errno or errno.EIO)
        except KeyError:  # a node or a handle that we do not know
            return wire.refusal(request.unique, errno.ESTALE)

    def _look_up(self, request: Request) -> bytes:
        return wire.entry(*self._files.look_up(request.node, wire.name(request.body)))

    def _make_directory(self, request: Request) -> bytes:
        name = wire.name(request.body, at=wire.MKDIR_BYTES)
        return wire.entry(*self._files.make_directory(request.node, name, wire.two_words(request.body)[0]))

    def _create(self, request: Request) -> bytes:
        flags, mode = wire.two_words(request.body)
        name = wire.name(request.body, at=wire.CREATE_BYTES)
        node, found, handle = self._files.create(request.node, name, flags, mode & 0o7777)
        return wire.entry(node, found) + wire.opened(handle)

    def _remove(self, request: Request) -> bytes:
        self._files.remove(request.node, wire.name(request.body))
        return b""

    def _rename(self, request: Request) -> bytes:
        directory, old, new = wire.renaming(request.body)
        self._files.rename(request.node, old, directory, new)
        return b""

    def _write(self, request: Request) -> bytes:
        handle, offset, _ = wire.piece(request.body)
        return wire.written(self._files.write(handle, offset, wire.content(request.body)))

    def _release(self, request: Request) -> bytes:
        self._files.release(wire.handle(request.body))
        return b""

    def _sync(self, request: Request) -> bytes:
        self._files.sync(wire.handle(request.body))
        return b""

    def _read_directory(self, request: Request) -> bytes:
        handle, offset, room_bytes = wire.piece(request.body)
        return wire.directory(self._files.listing(handle, offset), room_bytes)
