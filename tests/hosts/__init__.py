"""Hosts of other people's make, each with a suite of its own, which passes with and without media
in the house."""
