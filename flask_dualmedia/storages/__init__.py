"""Where the bytes of media are kept."""
