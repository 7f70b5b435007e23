"""Text to image: Stable Diffusion, by diffusers."""
