"""SAM 2.1 (Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024)."""
