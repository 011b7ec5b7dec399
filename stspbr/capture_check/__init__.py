"""What a capture is worth before anything is trained on it: findings, coverage, sheet, page."""
