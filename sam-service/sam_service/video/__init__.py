"""A video file, or a collection of pictures, becomes numbered frames.

It is sniffed, probed, decoded in the background, and its frames are stored once as JPEG. PyAV, with the FFmpeg that it bundles,
decodes videos, and Pillow pictures, both in processes of their own; the service itself loads only
OpenCV. No torch, no HTTP, no settings.
"""
