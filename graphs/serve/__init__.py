"""Everything that uses Ray Serve's private API."""
