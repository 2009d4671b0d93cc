"""The project's own rules: style, types, floors, docs."""
