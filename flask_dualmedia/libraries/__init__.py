"""Uses of libraries beyond what they document, with a file for each library.

Every trick has a test in ``tests/libraries/``, which fails when its library changes.
"""
