"""Reads that are counted, and what the counts tell."""
