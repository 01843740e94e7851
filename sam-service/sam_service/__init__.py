"""Segment and track objects through videos with SAM 2.1, over REST."""

__version__ = "0.1.0"
