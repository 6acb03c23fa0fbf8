"""Everything on disk: files, the run folder, its records and their schemas."""
