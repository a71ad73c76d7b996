"""What a person runs by hand; nothing imports it."""
