"""Media in the processes of an app: forks, threads, and the end."""
