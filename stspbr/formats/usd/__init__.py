"""USD in and out."""
