"""The machine code (x86-64) that takes the place of the vDSO's clock functions, instruction by instruction.

It asks the kernel, which tells the truth, and adds an offset that is a line in
true time, so that a clock that drifts does so by itself, evenly::

    shown = now + base + (min(now - since, span) * rate >> 32)        all in ns, rate a fraction of 2**32

It is written behind the image of the vDSO in the process's own copy, directly
followed by its data: the place of the active block, then ``BLOCKS`` blocks of
two lines, the wall clock's and the monotonic clock's.  Blocks are written while
they are not active, and made active by one aligned word, so that no thread ever
reads half a change.

Only CLOCK_REALTIME and CLOCK_MONOTONIC and their coarse twins are touched: they
are all that Go, C and Python read time by.  Boot time and raw time keep telling
the truth, since ``since`` is not on their scale.
"""

from __future__ import annotations

import struct
from typing import Any, Final

RATE_ONE: Final = 1 << 32
"""The rate of a clock that runs at twice its speed."""

BLOCKS: Final = 8
"""A thread that was suspended between two of its instructions may still read the block of a few changes ago."""

_LISTING: Final = """
clock_gettime                       (clock in edi, timespec* in rsi)
  b8 e4 00 00 00                    mov eax, 228            the system call of the same name
  0f 05                             syscall
  85 c0                             test eax, eax
  75 76                             jnz .out
  83 ff 06                          cmp edi, 6              other clocks have higher numbers, or negative ones
  77 71                             ja .out
  ba 63 00 00 00                    mov edx, 0b1100011      clocks 0, 1, 5 and 6: real, monotonic, and coarse
  0f a3 fa                          bt edx, edi
  73 67                             jnc .out
  4c 8d 0d bf 00 00 00              lea r9, [rip+blocks]
  4c 8b 05 a8 00 00 00              mov r8, [rip+active]
  4d 01 c8                          add r8, r9
  ba 21 00 00 00                    mov edx, 0b100001       clocks 0 and 5 are the wall's
  0f a3 fa                          bt edx, edi
  72 04                             jc .line
  49 83 c0 20                       add r8, 32              the second line is the monotonic clock's
.line
  4c 69 16 00 ca 9a 3b              imul r10, [rsi], 1000000000
  4c 03 56 08                       add r10, [rsi+8]        now, in ns
  45 31 c9                          xor r9d, r9d
  4c 89 d0                          mov rax, r10
  49 2b 00                          sub rax, [r8]           since
  49 0f 48 c1                       cmovs rax, r9           not before it began
  49 3b 40 18                       cmp rax, [r8+24]        span
  49 0f 4f 40 18                    cmovg rax, [r8+24]
  49 f7 68 10                       imul qword [r8+16]      rate
  48 0f ac d0 20                    shrd rax, rdx, 32
  49 03 40 08                       add rax, [r8+8]         base
  4c 01 d0                          add rax, r10
  49 0f 48 c1                       cmovs rax, r9           time is never negative
  31 d2                             xor edx, edx
  b9 00 ca 9a 3b                    mov ecx, 1000000000
  48 f7 f1                          div rcx
  48 89 06                          mov [rsi], rax
  48 89 56 08                       mov [rsi+8], rdx
  31 c0                             xor eax, eax
.out
  c3                                ret
gettimeofday                        (timeval* in rdi, timezone* in rsi)
  b8 60 00 00 00                    mov eax, 96             the system call of the same name
  0f 05                             syscall
  48 85 ff                          test rdi, rdi
  74 20                             jz .out
  57                                push rdi
  48 89 fe                          mov rsi, rdi
  31 ff                             xor edi, edi
  e8 67 ff ff ff                    call clock_gettime
  5e                                pop rsi
  48 8b 46 08                       mov rax, [rsi+8]        ns, to be us
  31 d2                             xor edx, edx
  b9 e8 03 00 00                    mov ecx, 1000
  48 f7 f1                          div rcx
  48 89 46 08                       mov [rsi+8], rax
  31 c0                             xor eax, eax
.out
  c3                                ret
time                                (time_t* in rdi)
  57                                push rdi
  48 83 ec 10                       sub rsp, 16
  48 89 e6                          mov rsi, rsp
  31 ff                             xor edi, edi
  e8 42 ff ff ff                    call clock_gettime
  48 8b 04 24                       mov rax, [rsp]
  48 83 c4 10                       add rsp, 16
  5f                                pop rdi
  48 85 ff                          test rdi, rdi
  74 03                             jz .out
  48 89 07                          mov [rdi], rax
.out
  c3                                ret
"""


def _assembled(listing: str) -> tuple[bytes, dict[str, int]]:
    """The bytes, and the place of each function."""
    code, places = bytearray(), {}
    for line in listing.splitlines():
        if line.startswith("  "):
            code += bytes.fromhex(line[2:36])
        elif line and not line.startswith("."):
            places[line.split()[0]] = len(code)
    return bytes(code), places


CODE, ENTRIES = _assembled(_LISTING)
"""The code, whose length is a multiple of 16, and where in it each function begins."""

ACTIVE_PLACE: Final = len(CODE)
BLOCKS_PLACE: Final = len(CODE) + 16
BLOCK_BYTES: Final = 64
SIZE_BYTES: Final = BLOCKS_PLACE + BLOCKS * BLOCK_BYTES

_LINE: Final = struct.Struct("<qqqq")


def line(*, since_ns: int, base_ns: int, rate: float, span_ns: int) -> bytes:
    """One clock's line of a block."""
    return _LINE.pack(since_ns, base_ns, round(rate * RATE_ONE), span_ns)


def lines(block: bytes) -> list[dict[str, Any]]:
    """The two lines of a block, as ``line`` takes them."""
    return [
        {"since_ns": since_ns, "base_ns": base_ns, "rate": rate / RATE_ONE, "span_ns": span_ns}
        for since_ns, base_ns, rate, span_ns in _LINE.iter_unpack(block)
    ]


def jump(source: int, target: int) -> bytes:
    """A jump from one address to another, less than 2 GB away."""
    return b"\xe9" + struct.pack("<i", target - (source + 5))
