"""Values and decisions without side effects: no clock, disk, network or log. What reads or writes belongs elsewhere."""
