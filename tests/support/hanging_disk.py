"""A file system that stops answering when it is told to: FUSE, served by a process of its own that can be stopped.

Spoken over /dev/fuse as the kernel speaks it, so nothing has to be installed. It keeps what is written in memory, and
nothing is cached: each look at it asks the server. While that is stopped, whoever touches it waits, as with a network
file system whose server is away. It needs root and /dev/fuse.
"""

import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
IN_HEADER = struct.Struct("<IIQQIIIHH")
OUT_HEADER = struct.Struct("<IiQ")
OPENED = struct.pack("<QII", 0, 1, 0)  # 1: nothing is cached, or the kernel would answer instead of us
LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, UNLINK, RENAME, OPEN, READ, WRITE, STATFS, RELEASE = (
    1, 2, 3, 4, 9, 10, 12, 14, 15, 16, 17, 18,
)  # fmt: skip
INIT, OPENDIR, READDIR, RELEASEDIR, CREATE, INTERRUPT, BATCH_FORGET, RENAME2 = 26, 27, 28, 29, 35, 36, 42, 45
SILENT = (FORGET, INTERRUPT, BATCH_FORGET)


def is_there() -> bool:
    """Whether this machine has it at all."""
    return os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)


class Node:
    """A file or a directory."""

    def __init__(self, number: int, mode: int) -> None:
        self.number, self.mode = number, mode
        self.content = bytearray()
        self.entries: dict[str, Node] = {}
        self.changed_ns = time.time_ns()

    def attributes(self) -> bytes:
        seconds, rest = divmod(self.changed_ns, 10**9)
        size = len(self.content)
        return ATTRIBUTES.pack(
            self.number, size, (size + 511) // 512, *(seconds,) * 3, *(rest,) * 3, self.mode, 1, 0, 0, 0, 4096, 0
        )

    def entry(self) -> bytes:
        return struct.pack("<QQQQII", self.number, 0, 0, 0, 0, 0) + self.attributes()


class Server:
    """Answers the kernel's questions."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.root = Node(1, stat.S_IFDIR | 0o755)
        self._nodes = {1: self.root}

    def serve(self) -> None:
        while True:
            try:
                request = os.read(self._fd, 1 << 20)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return  # unmounted
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                raise
            _, what, unique, number, *_ = IN_HEADER.unpack_from(request)
            if what in SILENT:
                continue
            try:
                answer, failure = self._answer(what, self._nodes[number or 1], request[IN_HEADER.size :]), 0
            except OSError as error:
                answer, failure = b"", -(error.errno or errno.EIO)
            os.write(self._fd, OUT_HEADER.pack(OUT_HEADER.size + len(answer), failure, unique) + answer)

    def _answer(self, what: int, node: Node, body: bytes) -> bytes:
        if what == INIT:
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 10, 1 << 17, 1, 0, 0, 0)
        if what == LOOKUP:
            return self._named(node, body).entry()
        if what in (GETATTR, SETATTR):
            if what == SETATTR and struct.unpack_from("<I", body)[0] & 1:
                node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(struct.unpack_from("<I", body, 68)[0])
            if what == SETATTR and struct.unpack_from("<I", body)[0] & 8:
                size = struct.unpack_from("<Q", body, 16)[0]
                node.content[size:] = bytes(max(0, size - len(node.content)))
            return struct.pack("<QII", 0, 0, 0) + node.attributes()
        if what in (OPEN, OPENDIR):
            return OPENED
        if what == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(node.content[offset : offset + size])
        if what == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            node.content[offset : offset + size] = body[40 : 40 + size]
            node.changed_ns = time.time_ns()
            return struct.pack("<II", size, 0)
        if what == READDIR:
            return self._listing(node, struct.unpack_from("<QQ", body)[1])
        if what == STATFS:
            return struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 20, 1 << 20, 1000, 1000, 4096, 255, 4096, 0)
        if what in (RELEASE, RELEASEDIR):
            return b""
        return self._change(what, node, body)

    def _change(self, what: int, node: Node, body: bytes) -> bytes:
        if what == CREATE:
            mode = struct.unpack_from("<II", body)[1]
            return self._new(node, body[16:], mode).entry() + OPENED
        if what == MKDIR:
            return self._new(node, body[8:], stat.S_IFDIR | struct.unpack_from("<I", body)[0]).entry()
        if what == UNLINK:
            node.entries.pop(_name(body), None)
            return b""
        if what in (RENAME, RENAME2):
            there = self._nodes[struct.unpack_from("<Q", body)[0]]
            old, new = body[8 if what == RENAME else 16 :].split(b"\0")[:2]
            there.entries[new.decode()] = node.entries.pop(old.decode())
            return b""
        raise OSError(errno.ENOSYS, "not here")

    def _named(self, folder: Node, body: bytes) -> Node:
        if _name(body) not in folder.entries:
            raise OSError(errno.ENOENT, "no such file")
        return folder.entries[_name(body)]

    def _new(self, folder: Node, body: bytes, mode: int) -> Node:
        node = Node(len(self._nodes) + 1, mode)
        self._nodes[node.number] = folder.entries[_name(body)] = node
        return node

    def _listing(self, node: Node, offset: int) -> bytes:
        found = b""
        for place, (name, entry) in enumerate(node.entries.items(), 1):
            if place > offset:
                text = name.encode()
                record = struct.pack("<QQII", entry.number, place, len(text), entry.mode >> 12) + text
                found += record + bytes(-len(record) % 8)
        return found[:4096]


def _name(body: bytes) -> str:
    return body.split(b"\0", 1)[0].decode()


class HangingDisk:
    """One that is mounted."""

    def __init__(self, path: Path, server: "subprocess.Popen[bytes]") -> None:
        self.path = path
        self._server = server

    def hang(self) -> None:
        """From now on nobody gets an answer."""
        self._server.send_signal(signal.SIGSTOP)

    def answer(self) -> None:
        """All questions are answered, late."""
        self._server.send_signal(signal.SIGCONT)

    def give_up(self) -> None:
        """The server is gone, and whoever waits is told so: "Transport endpoint is not connected"."""
        self._server.kill()
        self._server.wait()


@contextmanager
def hanging_disk(path: Path) -> Iterator[HangingDisk]:
    """Mount one, and let nobody wait for it at the end."""
    path.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"mounted\n"
        disk = HangingDisk(path, server)
        try:
            yield disk
        finally:
            disk.give_up()
            subprocess.run(["umount", "--lazy", path], check=False)


def main(path: str) -> None:
    """Mount and serve, until it is unmounted."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"hanging", os.fsencode(path), b"fuse.hanging", 0, options) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    Server(fd).serve()


if __name__ == "__main__":
    main(sys.argv[1])
