"""The ways in that take more than one request."""
