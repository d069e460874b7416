"""One pass: reconcile, observe, resolve, apply, guard, audit, index. It knows targets only by their protocols."""
