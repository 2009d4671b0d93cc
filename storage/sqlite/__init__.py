"""What SQLite does its own way: one writer for the file, group commit, locks between processes."""
