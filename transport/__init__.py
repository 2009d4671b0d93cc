"""What all faces share of HTTP: raw bodies, multipart forms, and what came of a request that went wrong."""
