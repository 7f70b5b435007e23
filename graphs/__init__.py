"""The inference graphs: which rooms a request passes, and the HTTP edge they share."""
