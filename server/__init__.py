"""What runs around the application: maintenance."""
