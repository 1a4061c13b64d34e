"""Commands and threads that keep media in order: drains, transfers, moves, checks and chores."""
