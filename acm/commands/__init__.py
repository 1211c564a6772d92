"""The commands of the command line, one function each.

A command imports what it needs when it runs, so `--help` is quick.
"""
