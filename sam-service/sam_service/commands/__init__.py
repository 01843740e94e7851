"""What the commands do, one module each, and what they share: how they talk to a person and how they end."""
