"""Bytes of media: their types, names and sizes, and the rules for accepting them."""
