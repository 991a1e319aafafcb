"""Which driver asks which kind of trigger: our own by import when one is wanted, others by entry point.

A driver whose client library is not installed, or a plug-in that is broken, is a QueueReadFailed(DriverMissing) with
what to do about it, and harms no other.
"""

import importlib
from typing import Any

from reconciler.adapters.queues.opening import ReadFile, SafeDriver
from reconciler.model.queues import QueueReadFailed
from reconciler.model.triggers import BUILT_IN, unknown_type
from reconciler.ports import QueueDriver

GROUP = "reconciler.queues"
"""The entry points of plug-ins: `"acme.io/sqs" = "acme_sqs:DRIVER"`."""

_EXTRAS = {"psycopg": "postgres", "pymysql": "mysql"}


def driver_for(kind: str, read_file: ReadFile | None = None) -> QueueDriver:
    """The driver of a kind of trigger, fit for unattended use. Raises QueueReadFailed(DriverMissing).

    `read_file` reads what keys that end in FromFile name, and raises OSError.
    """
    return SafeDriver(module_of(kind).DRIVER if kind in BUILT_IN else _plug_in(kind), read_file)


def module_of(kind: str) -> Any:
    """The module of one of our own. Raises QueueReadFailed(DriverMissing) when its library is not installed."""
    try:
        return importlib.import_module(f"reconciler.adapters.queues.{kind}")
    except ModuleNotFoundError as missing:
        extra = _EXTRAS.get((missing.name or "").partition(".")[0])
        if extra is None:
            raise
        message = f"{kind} needs the library {missing.name}: pip install 'reconciler[{extra}]'"
        raise QueueReadFailed("DriverMissing", message) from None


def _plug_in(kind: str) -> QueueDriver:
    if unknown := unknown_type(kind):
        raise QueueReadFailed("DriverMissing", unknown)
    importlib.invalidate_caches()  # it may have been installed since
    from importlib.metadata import entry_points  # for plug-ins only: it brings zipfile, csv and more

    point = next((point for point in entry_points(group=GROUP) if point.name == kind), None)
    if point is None:
        raise QueueReadFailed("DriverMissing", f"no installed package has the entry point {kind} in {GROUP}")
    origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    try:
        driver = point.load()
    except (Exception, SystemExit) as error:
        message = f"the plug-in {origin} for {kind} cannot be loaded: {type(error).__name__}: {error}"
        raise QueueReadFailed("DriverMissing", message) from None
    if not callable(getattr(driver, "open", None)):
        message = f"the plug-in {origin} for {kind} is no driver: {point.value} has no open()"
        raise QueueReadFailed("DriverMissing", message)
    found: QueueDriver = driver
    return found
