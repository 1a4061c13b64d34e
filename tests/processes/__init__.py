"""Forks, threads, servers, and the end of an app."""
