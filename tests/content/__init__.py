"""Content: its type, and whether it is accepted."""
