"""What the video networks of SAM 2's kind share: their driver, memory attention and memory tokens. No family of its own."""
