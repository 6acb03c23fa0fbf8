"""What was asked, resolved and verified, as one plan whose hash is the identity of a run."""
