"""Browsers and Node against the app: run by hand, never part of the tests."""
