"""Queues: how much waits in them. One module per kind of queue, and the threads (meters.py) that ask.

Drivers share limits.py (a call ends in time), connections.py (one that is kept) and readings.py (what is a number).
`registry.driver_for` is the door: what it gives raises nothing but QueueReadFailed, and shows no secret.
docs/writing-a-driver.md shows how the next one is made.
"""
