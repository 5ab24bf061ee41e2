"""Random hostile input: ``python -m tests.fuzz [TARGET ...] [--cases N] [--seed S]``.

Every target draws a case, feeds it, and holds the answer against a slow twin where there is one. Allowed are the right
answer and an error of ours. Another exception, a wrong number, a case that takes longer than its seconds or more memory
than allowed is a finding, printed with the seed that repeats it.
"""
