"""One pass: observe, plan, brake, apply, record."""
