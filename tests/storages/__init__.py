"""The contract of every storage."""
