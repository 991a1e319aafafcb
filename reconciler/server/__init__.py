"""Ways in: the HTTP API on the Unix socket. Servers read status and write desired state; they touch no process."""
