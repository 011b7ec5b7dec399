"""`stspbr doctor`: what this machine has and lacks, and how to get what it lacks."""
