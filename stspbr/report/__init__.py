"""One self-contained HTML page of a run, or of several side by side: metrics, curves, pictures, a 3D view."""
