"""Processes that die on purpose, servers that can be killed, and connections that break."""
