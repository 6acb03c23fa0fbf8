"""Networks and their files: the diffusion model, students, feature extractors, images and noise."""
