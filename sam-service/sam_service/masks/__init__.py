"""Logits become a checked mask, and a mask becomes bytes: PNG, COCO RLE or polygons. No torch, no HTTP, no settings."""
