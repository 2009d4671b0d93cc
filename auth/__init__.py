"""Who asks: API keys, lockout, administrators and their sessions."""
