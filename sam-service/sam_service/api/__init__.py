"""HTTP: FastAPI and nothing else. Reads requests, calls the use cases, writes answers."""
