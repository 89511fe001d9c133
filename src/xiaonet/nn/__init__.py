"""The network: the student, its INT8 form, its files and its teachers."""
