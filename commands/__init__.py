"""The commands of `tillgate`, one module a subject. They print and ask; the work is done by the floors below."""
