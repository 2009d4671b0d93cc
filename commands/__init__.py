"""The commands of `tillgate`, one module a subject. They print and ask; the packages below do the work."""
