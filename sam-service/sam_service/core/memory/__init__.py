"""What the tracker remembers: the memory bank, the selection of memories for a frame, and memories on disk."""
