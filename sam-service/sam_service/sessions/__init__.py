"""What a session is: its life cycle, its prompts, its store and its use cases. Knows no HTTP and no torch."""
