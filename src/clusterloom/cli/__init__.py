"""The command line, a file for each command: its arguments, and what it does with the library."""
