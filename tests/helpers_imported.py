"""What the tests of importing share: the size of the made-up records."""

LONG, CAP, N = "long-to-short", 40, 3
TASKS = ["abacus_easy", "abacus_medium"]
