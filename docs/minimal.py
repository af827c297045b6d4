"""DETR for inference in fifty lines, with the weights of the whole project: torch, torchvision and a checkpoint.

    python docs/minimal.py detr-r50-e632da11.pth image.jpg

The names of modules are those of DETR, so its checkpoints load as they are. One image at a time needs no padding and no
mask; dropout does nothing in inference. docs/walkthrough.md explains each line.
"""

import math
import sys

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import functional as F


class Layer(nn.Module):
    """A layer of the encoder or, with `cross`, of the decoder: positions enter queries and keys, never values."""

    def __init__(self, d: int, heads: int, hidden: int, cross: bool = False) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(d, heads, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(d, heads, batch_first=True) if cross else None
        self.linear1, self.linear2 = nn.Linear(d, hidden), nn.Linear(hidden, d)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d) if cross else None

    def forward(self, x: Tensor, pos: Tensor, memory: Tensor | None = None, keys: Tensor | None = None) -> Tensor:
        """(B, N, d) to the same; in a decoder `memory` (B, S, d) are the values, `keys` the same plus positions."""
        x = self.norm1(x + self.self_attn(x + pos, x + pos, x)[0])
        if self.multihead_attn:
            x = self.norm2(x + self.multihead_attn(x + pos, keys, memory)[0])
        return (self.norm3 or self.norm2)(x + self.linear2(self.linear1(x).relu()))


class MinimalDETR(nn.Module):
    """Backbone, encoder, decoder, two heads: one image (1, 3, H, W) to logits (1, Q, C+1) and boxes (1, Q, 4)."""

    def __init__(
        self, backbone: str = "resnet50", d: int = 256, heads: int = 8, layers: int = 6, hidden: int = 2048,
        queries: int = 100, classes: int = 91,
    ) -> None:  # fmt: skip
        super().__init__()
        resnet = getattr(torchvision.models, backbone)(weights=None, norm_layer=FrozenBatchNorm2d)
        channels = resnet.fc.in_features
        body = nn.Sequential()  # all but the pooling and the classifier, under the names they have in DETR
        for name, module in list(resnet.named_children())[:-2]:
            body.add_module(name, module)
        self.backbone = nn.ModuleList([nn.ModuleDict({"body": body})])
        self.input_proj = nn.Conv2d(channels, d, kernel_size=1)
        encoder = nn.ModuleDict({"layers": nn.ModuleList(Layer(d, heads, hidden) for _ in range(layers))})
        decoder = nn.ModuleDict({"layers": nn.ModuleList(Layer(d, heads, hidden, cross=True) for _ in range(layers))})
        decoder["norm"] = nn.LayerNorm(d)
        self.transformer = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        self.query_embed = nn.Embedding(queries, d)
        self.class_embed = nn.Linear(d, classes + 1)
        self.bbox_embed = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(d, n) for n in (d, d, 4))})

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Detect objects; boxes are center x, center y, width and height in 0..1."""
        features = self.input_proj(self.backbone[0]["body"](image))  # (1, d, h, w), a cell for 32 x 32 pixels
        pos = sine_encoding(*features.shape[1:])  # (1, h*w, d)
        memory = features.flatten(2).transpose(1, 2)  # (1, h*w, d)
        for layer in self.transformer["encoder"]["layers"]:
            memory = layer(memory, pos)
        query_pos = self.query_embed.weight[None]  # (1, Q, d)
        x = torch.zeros_like(query_pos)
        for layer in self.transformer["decoder"]["layers"]:
            x = layer(x, query_pos, memory, memory + pos)
        x = self.transformer["decoder"]["norm"](x)
        first, second, last = self.bbox_embed["layers"]
        return self.class_embed(x), last(second(first(x).relu()).relu()).sigmoid()


def sine_encoding(d: int, h: int, w: int) -> Tensor:
    """Positions of h x w cells (1, h*w, d): sines and cosines of y in the first half, of x in the second."""
    wavelength = 10000 ** (torch.arange(0, d // 2, 2) / (d // 2))
    y, x = ((torch.arange(n) + 1) / (n + 1e-6) * 2 * math.pi / wavelength[:, None] for n in (h, w))  # (d/4, n)
    y, x = (torch.stack([a.sin(), a.cos()], dim=1).flatten(0, 1) for a in (y, x))  # (d/2, n)
    y, x = y[:, :, None].expand(-1, h, w), x[:, None, :].expand(-1, h, w)
    return torch.cat([y, x]).flatten(1).T[None]


@torch.no_grad()
def main(checkpoint: str, path: str, threshold: float = 0.7) -> None:
    """Print label, score and box (x0, y0, x1, y1 in pixels) of every object of an image."""
    model = MinimalDETR().eval()
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["model"])
    image = Image.open(path).convert("RGB")
    resized = F.to_tensor(F.resize(image, 800, max_size=1333))
    logits, boxes = model(F.normalize(resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])[None])
    scores, labels = logits[0].softmax(-1)[:, :-1].max(-1)  # the last class is "no object"
    corners = torchvision.ops.box_convert(boxes[0], "cxcywh", "xyxy") * torch.tensor([*image.size, *image.size])
    for i in (scores > threshold).nonzero()[:, 0].tolist():
        print(f"label {labels[i]}  score {scores[i]:.2f}  box {[round(v) for v in corners[i].tolist()]}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
