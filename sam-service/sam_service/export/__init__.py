"""A finished session becomes files that other tools open."""
