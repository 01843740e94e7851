"""A video file becomes numbered frames: sniffed, probed, decoded in the background, stored once as JPEG.

OpenCV, with the FFmpeg that it bundles, is the only decoder. No torch, no HTTP, no settings.
"""
