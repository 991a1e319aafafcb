"""Pure decisions: the same input gives the same output. Nothing here reads a clock, a file or a socket."""
