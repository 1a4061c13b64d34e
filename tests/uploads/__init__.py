"""Uploads that take more than one request."""
