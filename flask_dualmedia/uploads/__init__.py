"""Uploads that take more than one request: resumable ones, and direct ones to a storage."""
