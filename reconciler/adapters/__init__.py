"""Effects. Each module implements a port and knows no sibling."""
