"""What every HTTP edge shares: uploads, audio decoding, parameters, answers, errors, readiness."""
