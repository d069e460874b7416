"""The generator of the reference: pages, man pages and completions from the program itself.

`python -m generate` writes them; `tests/unit/test_generated.py` checks that they are fresh.
"""
