"""Models, a folder for each family. `registry.py` is the only module that imports a family."""
