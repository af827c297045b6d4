"""Research switches, one small file each, all off by default: plain DETR neither imports nor tests for them."""
