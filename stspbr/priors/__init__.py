"""What says how plausible a picture of an object is, given a text: the priors of score distillation."""
