"""Digests of secrets, and encryption with the installation's secret."""
