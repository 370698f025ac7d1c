"""What a check found, for people and for machines; one file a format, each with a function ``render``."""
