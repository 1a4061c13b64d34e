"""README.md and the pages of docs/: whether they agree with the code and with each other."""
