"""What keeps two databases and the bytes in step."""
