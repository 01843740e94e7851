"""Training of the embedded nano model on procedurally generated video. Not needed to run the service."""
