"""Faster arithmetic on CPUs, exact up to rounding."""
