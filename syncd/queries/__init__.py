"""Answers to questions of a person: status, explain, verify, pull, search. Nothing here changes the remote."""
