"""Queues: drivers that say how much waits, and the threads that ask them."""
