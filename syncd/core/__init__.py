"""Values and decisions without side effects. Code that uses a clock, the disk or the network belongs elsewhere."""
