"""What all protocols share of HTTP: raw bodies, multipart forms, rate limits and unexpected errors."""
