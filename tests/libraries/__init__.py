"""Tricks that libraries do not promise. A test fails when one of them has no effect any more."""
