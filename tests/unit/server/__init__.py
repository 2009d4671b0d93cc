"""The processes around the application."""
