"""Counted reads."""
