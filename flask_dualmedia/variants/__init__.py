"""Variants: what is made from an original for whoever looks at it.

This file stays empty. The child of the jail imports modules of this package, and nothing else of
the project.
"""
