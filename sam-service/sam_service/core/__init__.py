"""The tracking engine. The only package that imports torch."""
