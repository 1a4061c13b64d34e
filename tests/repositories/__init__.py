"""The contract of every repository."""
