"""The commands of the command line, one function each.

What a command needs is imported when it runs: `--help` is quick.
"""
