"""Variants: bytes derived from the bytes of a record."""
