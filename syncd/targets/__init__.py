"""Targets: what a mirror is kept in step with. A target translates and never decides."""
