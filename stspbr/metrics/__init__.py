"""How far a result is from the truth: materials and geometry in 3D, images, and sheets to look at."""
