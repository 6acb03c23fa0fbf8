"""Distil a student: the loop, its data, validation, checkpoints and export."""
