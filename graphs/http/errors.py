"""Errors of the HTTP edge itself. Status, code and title are documented; a test compares them."""

from deployments.errors import DeploymentError


class MalformedRequest(DeploymentError):
    status = 400
    code = "malformed_request"
    title = "Malformed request"


class InvalidApiKey(DeploymentError):
    status = 401
    code = "invalid_api_key"
    title = "API key needed"


class CrossSiteRequest(DeploymentError):
    status = 403
    code = "cross_site_request"
    title = "Request of another site"


class UnknownHost(DeploymentError):
    status = 403
    code = "unknown_host"
    title = "Host not known"


class OperatorKeyNeeded(DeploymentError):
    status = 403
    code = "operator_key_needed"
    title = "Key of an operator needed"


class NotFound(DeploymentError):
    status = 404
    code = "not_found"
    title = "Not found"


class ModelNotFound(DeploymentError):
    status = 404
    code = "model_not_found"
    title = "No such model"


class MethodNotAllowed(DeploymentError):
    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"


class NotAcceptable(DeploymentError):
    status = 406
    code = "not_acceptable"
    title = "Not acceptable"


class BodyTooSlow(DeploymentError):
    status = 408
    code = "body_too_slow"
    title = "Body too slow"


class AudioTooLarge(DeploymentError):
    status = 413
    code = "audio_too_large"
    title = "Recording too large"


class BodyTooLarge(DeploymentError):
    status = 413
    code = "body_too_large"
    title = "Request too large"


class UnsupportedMediaType(DeploymentError):
    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class RateLimitExceeded(DeploymentError):
    """Its `retry_after_s` is set where it is raised."""

    status = 429
    code = "rate_limit_exceeded"
    title = "Too many requests of this key"


class HeadersTooLarge(DeploymentError):
    status = 431
    code = "headers_too_large"
    title = "Headers too large"
