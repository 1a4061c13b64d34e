"""Where media records are kept."""
