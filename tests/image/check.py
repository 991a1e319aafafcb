"""`make image`: build both images, start containers as docs/containers.md says, and see that each sentence of it holds.

ENGINE (docker, or podman where there is no docker), BUILD and RUN_OPTIONS (for the engine's `build` and `run`):
make image ENGINE="podman --cgroup-manager cgroupfs" RUN_OPTIONS="--network host". It needs the engine, and a registry
for the image that ours are built on. Ends with 1 at the first sentence that does not hold.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = shlex.split(os.environ.get("ENGINE") or ("docker" if shutil.which("docker") else "podman"))
BUILD, RUN = (shlex.split(os.environ.get(name) or "") for name in ("BUILD", "RUN_OPTIONS"))
IMAGE, UNPRIVILEGED = "reconciler-check", "reconciler-check:user"
PATIENCE_SECONDS = 60.0
STRANGER = "54321"  # a user without an entry in passwd
PROGRAM = """
apiVersion: reconciler/v1
kind: Program
metadata: {name: web}
spec: {command: [sh, -c, 'echo hello; exec sleep 1000'], replicas: 3, minReady: 0s}
"""


def main() -> int:
    if shutil.which(ENGINE[0]) is None:
        print(f"{ENGINE[0]} is not installed: name an engine with ENGINE=", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="reconciler-image-") as folder:
        os.chmod(folder, 0o755)  # other users of the container read it
        manifests = Path(folder, "manifests")
        manifests.mkdir(mode=0o755)
        (manifests / "web.yaml").write_text(PROGRAM)
        build(IMAGE)
        build(UNPRIVILEGED, "--target", "unprivileged")
        life_of_root(manifests)
        for options in ([], ["--read-only"], ["--cap-drop", "all", "--security-opt", "no-new-privileges"]):
            without_root(manifests, options)
    print("all of it holds")
    return 0


# --- what holds -------------------------------------------------------------------------------------------------------


def build(name: str, *options: str) -> None:
    began = time.monotonic()
    engine("build", *BUILD, *options, "-t", name, str(ROOT), patience=900)
    print(f"{name}: built in {time.monotonic() - began:.0f} s", flush=True)


def life_of_root(manifests: Path) -> None:
    """Started, asked, killed, started again, stopped."""
    with container(IMAGE, manifests, volume := f"reconciler-check-{os.getpid()}") as name:
        eventually(lambda: ready(name) == 3, "three processes run")
        said("pid 1 is the keeper", "reconciler.keeper" in inside(name, "cat", "/proc/1/cmdline"))
        said("its health is good", engine("exec", name, "reconciler", "status", "--daemon") != "")
        said("logs are in the volume", inside(name, "reconciler", "logs", "web").splitlines() == ["hello"] * 3)
        engine("kill", "-s", "KILL", name)
        eventually(lambda: state(name)["Running"] is False, "it is dead")
        engine("start", name)
        eventually(lambda: ready(name) == 3, "three processes run after it was killed")
        exits = [row["lastExit"]["outcome"] for row in processes(name)]
        said(f"exits that nobody saw are Unknown ({', '.join(exits)})", exits == ["Unknown"] * 3)
        stopped_with_0(name)
    engine("volume", "rm", volume)


def without_root(manifests: Path, options: list[str]) -> None:
    """As a user of no name, with what an orchestrator may ask for; output goes to the container's own."""
    words = ["-f", "/etc/reconciler/manifests", "--logs", "stdout", "--logs-format", "json"]
    print(f"as user {STRANGER} {' '.join(options)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="reconciler-image-") as volume:
        os.chown(volume, int(STRANGER), -1)
        with container(UNPRIVILEGED, manifests, volume, *options, "--user", STRANGER, words=words) as name:
            eventually(lambda: ready(name) == 3, "three processes run")
            said("nobody is root", inside(name, "id", "-u").strip() == STRANGER)
            lines = [json.loads(line) for line in engine("logs", name).splitlines() if line.startswith("{")]
            printed = sorted((line["program"], line["replica"], line["message"]) for line in lines)
            said("its output is theirs", printed == [("web", number, "hello") for number in range(3)])
            stopped_with_0(name)


def stopped_with_0(name: str) -> None:
    engine("stop", "-t", "30", name, patience=60)
    said("stopped, it ends with 0", state(name)["ExitCode"] == 0)


# --- the engine -------------------------------------------------------------------------------------------------------


def engine(*words: str, patience: float = PATIENCE_SECONDS) -> str:
    """What the engine answers. Ends all when it refuses."""
    done = subprocess.run([*ENGINE, *words], capture_output=True, text=True, timeout=patience, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join([*ENGINE, *words])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def container(image: str, manifests: Path, volume: str, *options: str, words: list[str] | None = None) -> Iterator[str]:
    """A container of this image that runs, and is gone afterwards."""
    name = f"reconciler-check-{os.getpid()}"
    mounts = ["-v", f"{manifests}:/etc/reconciler/manifests:ro", "-v", f"{volume}:/var/lib/reconciler"]
    engine("run", "-d", "--name", name, *RUN, *options, *mounts, image, *(words or []))
    try:
        yield name
    finally:
        engine("rm", "-f", name)


def inside(name: str, *command: str) -> str:
    return engine("exec", name, *command)


def processes(name: str) -> list[dict[str, dict[str, str]]]:
    answer = json.loads(inside(name, "reconciler", "get", "processes", "-o", "json"))
    rows: list[dict[str, dict[str, str]]] = answer["items"]
    return rows


def ready(name: str) -> int:
    """How many processes are ready; while nobody answers yet, none."""
    try:
        return sum(bool(row.get("ready")) for row in processes(name))
    except SystemExit:
        return 0


def state(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(engine("inspect", name))[0]["State"]
    return found


# --- what is said -----------------------------------------------------------------------------------------------------


def said(sentence: str, holds: bool) -> None:
    print(f"  {'holds' if holds else 'DOES NOT HOLD'}: {sentence}", flush=True)
    if not holds:
        raise SystemExit(1)


def eventually(holds: Callable[[], bool], sentence: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > until:
            said(sentence, holds=False)
        time.sleep(0.2)
    said(sentence, holds=True)


if __name__ == "__main__":
    sys.exit(main())
