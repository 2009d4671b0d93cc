"""Tests of the modules of legacy_api."""
