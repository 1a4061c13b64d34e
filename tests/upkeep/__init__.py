"""Check, repair, transfer, move, and what runs by itself."""
