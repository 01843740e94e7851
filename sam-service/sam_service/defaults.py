"""Where the service is unless somebody says otherwise. Imports nothing, so that the command line can show its help at once."""

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8002
DEFAULT_URL = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"


def url_of(host: str, port: int) -> str:
    """The address under which this machine reaches a service that listens on `host`; an IPv6 address gets its brackets."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
