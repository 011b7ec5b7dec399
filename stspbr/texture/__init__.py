"""From a surface to images on it: clean-up, UV unwrapping, texel maps, dilation, levels of detail."""
