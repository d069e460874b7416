"""The kinds of target. A target translates between entries and one API, and never decides."""
