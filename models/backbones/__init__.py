"""Networks that can be a backbone, by family: torchvision's, and those of timm."""
