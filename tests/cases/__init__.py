"""The cases of fixtures/ and what belongs to them, through the application."""
