"""What this process and its user look like to the kernel: memory, descriptors, pipes, and who ends with whom."""

import fcntl
import os
import resource

FULL_PIPE_BYTES = 64 * 1024
CONTAINER_INITS = ("catatonit", "docker-init", "dumb-init", "podman-init", "tini")  # they end with what they started
_SOFT_LIMIT = "/proc/sys/fs/pipe-user-pages-soft"


def figures() -> dict[str, int]:
    """What this process has: memory in use, descriptors, and how the kernel ranks it, from -20 to 19."""
    with open("/proc/self/statm", "rb") as statm:
        pages = int(statm.read().split()[1])
    return {
        "residentBytes": pages * resource.getpagesize(),
        "openFiles": len(os.listdir("/proc/self/fd")),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def new_pipe_bytes() -> int | None:
    """What a pipe made now would hold. None: none could be made.

    A user without privileges (root of a container is one) gets small ones once all their pipes together are over a
    limit; so the answer is also about pipes that others of this user made.
    """
    try:
        ends = os.pipe()
    except OSError:
        return None
    try:
        return fcntl.fcntl(ends[0], fcntl.F_GETPIPE_SZ)
    finally:
        for fd in ends:
            os.close(fd)


def pipe_warning(pipe_bytes: int | None) -> str:
    """What to know and do when pipes have become small; empty while they are not."""
    if pipe_bytes is None or pipe_bytes >= FULL_PIPE_BYTES:
        return ""
    try:
        with open(_SOFT_LIMIT, encoding="ascii") as file:
            pages = int(file.read())
    except (OSError, ValueError):
        limit = _SOFT_LIMIT
    else:
        limit = f"fs.pipe-user-pages-soft = {pages}, {pages * resource.getpagesize() // FULL_PIPE_BYTES} full pipes"
    return (
        f"new log pipes hold {pipe_bytes // 1024} KiB instead of {FULL_PIPE_BYTES // 1024}: this user is over the"
        f" kernel's limit ({limit}); a process waits sooner for its output to be taken. Raise it with sysctl"
    )


def ends_all(keeper_pid: int) -> bool:
    """Whether all processes end with the keeper: in a container it is pid 1, or an init is that waits for it."""
    if keeper_pid == 1:
        return True
    try:
        with open(f"/proc/{keeper_pid}/stat", encoding="ascii", errors="replace") as file:
            parent = int(file.read().rpartition(")")[2].split()[1])
        with open("/proc/1/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
    except (OSError, ValueError, IndexError):
        return False
    return parent == 1 and name in CONTAINER_INITS
