"""What a person asks: how it stands, why, whether it is so, how long it takes."""
