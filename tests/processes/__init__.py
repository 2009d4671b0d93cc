"""Real processes: servers, workers, PHP, vendors' clients, kills."""
