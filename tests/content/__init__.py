"""What bytes are, and what is accepted."""
