"""Logs, as the engine sees them: FIFOs are made and held (`fifos`); the pump is told what to move where (`sink`)."""

from reconciler.adapters.logs.sink import PumpSink

__all__ = ["PumpSink"]
