"""The command `reconciler`, also `python -m reconciler`: refuses where it cannot work, then hands over.

Kept to what every Python 3 can read, so that an old one gets an answer instead of a syntax error.
"""

import sys


def main():  # type: () -> None
    """Run the command line and end the interpreter with its exit code."""
    problem = unfit(sys.platform, sys.version_info[:2])
    if problem:
        sys.stderr.write("error: " + problem + "\n")
        sys.exit(1)
    from reconciler.cli.main import run

    sys.exit(run())


def unfit(platform, version):  # type: (str, tuple[int, ...]) -> str
    """Why this machine will not do; empty when it will."""
    if not platform.startswith("linux"):
        return (
            "reconciler runs on Linux only (this is " + platform + "):"
            " it is built on pidfds, /proc and subreapers; try it in a Linux container"
        )
    if version < (3, 11):
        return "reconciler needs Python 3.11 or newer, this is " + ".".join(str(part) for part in version)
    return ""


if __name__ == "__main__":
    main()
