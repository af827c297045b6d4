"""The set loss: match queries to objects, then classification, box and GIoU losses (section 3.1 of the DETR paper).

Losses have the original's names and arguments, so that a subclass may override one, or add its own in `get_loss`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from util.chunks import in_chunks
from util.dist.distributed import reduce_mean
from util.profiling import annotate
from util.targets import Target, object_count

from .layer_losses import LayerGroup, box_losses, count_errors, cross_entropies, groups_of
from .mask_losses import mask_losses, on_canvas
from .matcher import HungarianMatcher, Match, Outputs
from .matches import BatchMatches, match_batch
from .postprocess import canvas_of


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the sum that is trained on: every loss times its weight; those without a weight are only logged."""
    return cast(Tensor, sum(value * weights[name] for name, value in losses.items() if name in weights))


class SetCriterion(nn.Module):
    """DETR's loss for the last decoder layer and, under names ending in `_0`, `_1`, ..., for the layers before it.

    Args:
        num_classes: C; label C means "no object".
        matcher: pairs queries with objects, anew for every decoder layer: anything that, called with outputs and
            targets, returns for each image the indices of queries and of their objects.
        weight_dict: weight of each loss in the total, by name; losses without one are only logged.
        eos_coef: weight of the no-object class, which most queries belong to.
        losses: what is computed, of `labels`, `boxes`, `cardinality`, `masks` and what a subclass adds in `get_loss`.
        mask_chunk: compute the losses of at most so many masks at a time; 0: no limit.
    """

    empty_weight: Tensor

    def __init__(
        self,
        num_classes: int,
        matcher: nn.Module,
        weight_dict: dict[str, float],
        eos_coef: float,
        losses: Sequence[str] = ("labels", "boxes", "cardinality"),
        *,
        mask_chunk: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.weight_dict = weight_dict
        self.eos_coef = eos_coef
        self.losses = list(losses)
        self.mask_chunk = mask_chunk
        # (C+1,): most of the Q queries see nothing, and their share would drown the objects'.
        weight = torch.ones(num_classes + 1)
        weight[-1] = eos_coef
        self.register_buffer("empty_weight", weight)

    def forward(
        self,
        outputs: Outputs,
        targets: Sequence[Target],
        *,
        num_boxes: Tensor | float | None = None,
        class_weight: float | None = None,
    ) -> dict[str, Tensor]:
        """Compute all losses and logged quantities, each a scalar.

        Args:
            outputs: `pred_logits` (B, Q, C+1), `pred_boxes` (B, Q, 4), `aux_outputs`, a list of the same, and, from
                a model with a mask head, `pred_masks` (B, Q, h, w) and `canvas`, the padded images' (H, W).
            targets: for each image `labels` (T,), `boxes` (T, 4) cxcywh in 0..1, `masks` (T, H, W) if asked for; where
                `num_objects` says that only the first so many are real, the rest counts for nothing.
            num_boxes: the divisor of box losses: the objects of these targets by default, with several processes
                their mean over the processes, so that every object of the whole batch weighs the same.
            class_weight: the divisor of the classification loss: `class_weight` of these targets by default, but of
                all of them where this is a part of a batch. A subclass's `loss_labels` gets it if it takes it.

        Returns:
            `loss_ce`, `loss_bbox`, `loss_giou`, `class_error`, `cardinality_error`, and `..._i` for auxiliary layer i;
            with `masks` `loss_mask` and `loss_dice`, for the last layer only.
        """
        if num_boxes is None:
            num_boxes = boxes_of_all_processes(targets, outputs["pred_boxes"])
        layers = self.layers_of(outputs)
        with annotate("matcher"):
            # Every layer is matched anew: its predictions are its own.
            pairs = self._match(list(layers.values()), targets)
        matches = match_batch(pairs, targets, outputs["pred_logits"])
        return self.losses_of(layers, targets, matches, num_boxes, class_weight=class_weight)

    def losses_of(
        self,
        layers: Mapping[str, Outputs],
        targets: Sequence[Target],
        matches: Sequence[BatchMatches],
        num_boxes: Tensor | float,
        *,
        class_weight: Tensor | float | None = None,
        losses: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Compute losses of layers by the suffix of their names, all of `self.losses` by default; as `forward`."""
        kinds = self.losses if losses is None else losses
        ours = [kind for kind in kinds if self._is_ours(kind)]
        values: dict[tuple[str, str], dict[str, Tensor]] = {}  # by suffix and kind
        for suffixes, group in groups_of(layers, matches) if ours else ():
            for kind in ours:
                of_layers = self._of_group(kind, group, num_boxes, class_weight)
                values |= {(suffix, kind): found for suffix, found in zip(suffixes, of_layers)}
        for (suffix, layer), of_layer in zip(layers.items(), matches):
            if "labels" in ours and not suffix:  # logged for the last layer only
                values[suffix, "labels"]["class_error"] = self._class_error(layer, of_layer)
            for kind in kinds:
                # The mask head sees the last layer only.
                if kind not in ours and not (suffix and kind == "masks"):
                    options = self._options_of_labels(class_weight, log=not suffix) if kind == "labels" else {}
                    values[suffix, kind] = self.get_loss(kind, layer, targets, of_layer, num_boxes, **options)
        # `loss_ce`, `loss_ce_0`, ...: the names that `weight_dict` and DETR's log files have.
        ordered = [(suffix, values.get((suffix, kind), {})) for suffix in layers for kind in kinds]
        return {name + suffix: value for suffix, found in ordered for name, value in found.items()}

    def layers_of(self, outputs: Outputs) -> dict[str, Outputs]:
        """Predictions by the suffix of their losses: the last layer's without one, auxiliary layer i's `_i`."""
        return {"": outputs} | {f"_{i}": layer for i, layer in enumerate(outputs.get("aux_outputs", []))}

    def get_loss(
        self,
        loss: str,
        outputs: Outputs,
        targets: Sequence[Target],
        indices: Sequence[Match],
        num_boxes: Tensor | float,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Compute the losses of one kind, as named in `losses`. Raises ValueError for a kind that is not known."""
        kinds = {
            "labels": self.loss_labels,
            "cardinality": self.loss_cardinality,
            "boxes": self.loss_boxes,
            "masks": self.loss_masks,
        }
        if loss not in kinds:
            raise ValueError(f"losses: {loss} is none of {', '.join(kinds)}; a new kind needs a get_loss of its own")
        return kinds[loss](outputs, targets, indices, num_boxes, **kwargs)

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum that is trained on."""
        return weighted_sum(losses, self.weight_dict)

    def class_weight(self, targets: Sequence[Target], queries: int) -> float:
        """Sum of the class weights of all queries of these images: 1 where matched, `eos_coef` elsewhere."""
        # The same for every layer, whatever it matches: the assignment is one-to-one, so its size is known beforehand.
        matched = sum(min(object_count(t), queries) for t in targets)
        # An object's weight is 1 whatever its class; the other B * Q - N queries have the weight of "no object".
        return matched + self.eos_coef * (len(targets) * queries - matched)

    def loss_labels(
        self,
        outputs: Outputs,
        targets: Sequence[Target],
        indices: Sequence[Match],
        num_boxes: Tensor | float,
        log: bool = True,
        *,
        class_weight: Tensor | float | None = None,
    ) -> dict[str, Tensor]:
        """Cross entropy over all B * Q queries: matched ones should say their object's label, others "no object".

        The weighted mean divides by the sum of the weights, not by the number of objects. `log` adds `class_error`.
        """
        matches = matches_of_batch(indices, targets, outputs["pred_logits"])
        (losses,) = self._of_group("labels", LayerGroup.of([outputs], [matches]), num_boxes, class_weight)
        return losses | ({"class_error": self._class_error(outputs, matches)} if log else {})

    def loss_cardinality(
        self, outputs: Outputs, targets: Sequence[Target], indices: Sequence[Match], num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Error in the number of objects that are predicted; logged only."""
        matches = matches_of_batch(indices, targets, outputs["pred_logits"])
        return self._of_group("cardinality", LayerGroup.of([outputs], [matches]), num_boxes)[0]

    def loss_boxes(
        self, outputs: Outputs, targets: Sequence[Target], indices: Sequence[Match], num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """L1 (on cxcywh) and 1 - GIoU between matched queries and their objects (N, 4), summed, over `num_boxes`."""
        matches = matches_of_batch(indices, targets, outputs["pred_logits"])
        return self._of_group("boxes", LayerGroup.of([outputs], [matches]), num_boxes)[0]

    def loss_masks(
        self, outputs: Outputs, targets: Sequence[Target], indices: Sequence[Match], num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Focal and dice loss between masks of matched queries and of objects (N, H, W), summed, over `num_boxes`."""
        with annotate("loss_masks"):
            matches = matches_of_batch(indices, targets, outputs["pred_logits"])
            # (N, H, W) truth at full size, (N, H/4, W/4) predictions of just the matched queries.
            masks = on_canvas(targets, canvas_of(outputs))[matches.object]
            predicted = outputs["pred_masks"][matches.image, matches.query]
            # At full size two maps for every pair: --mask_chunk bounds how many live at a time.
            losses = in_chunks(mask_losses, predicted, masks, chunk=self.mask_chunk)  # (N, 2)
            focal, dice = losses.sum(0) / num_boxes
            return {"loss_mask": focal, "loss_dice": dice}

    # ---- several layers at once

    def label_losses(
        self, group: LayerGroup, num_boxes: Tensor | float, class_weight: Tensor | float | None
    ) -> list[Tensor]:
        """Classification loss of each layer; a variant's own takes its place."""
        return cross_entropies(group, group.classes(self.num_classes), self.empty_weight, class_weight)

    def label_logits(self, logits: Tensor) -> Tensor:
        """Logits (..., C+1) of which the largest is a query's answer."""
        return logits

    def says_object(self, logits: Tensor) -> Tensor:
        """Tell which queries (...) predict an object by their logits (..., C+1)."""
        # The last of C+1 is "no object": all other answers count as an object, however unsure.
        return logits.argmax(-1) != logits.shape[-1] - 1

    def _is_ours(self, kind: str) -> bool:
        """True for losses that nobody has overridden, so that all layers may have them computed at once."""
        methods = ("get_loss", f"loss_{kind}")
        return methods[1] in OWN_METHODS and all(
            getattr(getattr(self, name), "__func__", None) is OWN_METHODS[name] for name in methods
        )

    def _of_group(
        self, kind: str, group: LayerGroup, num_boxes: Tensor | float, class_weight: Tensor | float | None = None
    ) -> list[dict[str, Tensor]]:
        """Losses of one kind for each layer of a group."""
        with annotate(f"loss_{kind}"):
            if kind == "labels":
                return [{"loss_ce": loss} for loss in self.label_losses(group, num_boxes, class_weight)]
            if kind == "cardinality":
                return [{"cardinality_error": error} for error in count_errors(group, self.says_object)]
            return box_losses(group, num_boxes)

    def _class_error(self, outputs: Outputs, matches: BatchMatches) -> Tensor:
        logits = self.label_logits(outputs["pred_logits"][matches.image, matches.query])
        return class_error(logits, matches.batch.labels[matches.object])

    def _options_of_labels(self, class_weight: Tensor | float | None, *, log: bool) -> dict[str, Any]:
        """Arguments of `loss_labels` that are not its defaults; a subclass has to know the original's only."""
        options: dict[str, Any] = {} if log else {"log": False}
        if class_weight is not None:
            parameters = inspect.signature(self.loss_labels).parameters.values()
            # DETR's `loss_labels` does not know the argument: only a signature that takes it gets it.
            # Losses of a subclass mostly divide by `num_boxes`, which is that of the whole batch.
            if any(p.name == "class_weight" or p.kind is p.VAR_KEYWORD for p in parameters):
                options["class_weight"] = class_weight
        return options

    def _match(self, layers: Sequence[Outputs], targets: Sequence[Target]) -> Sequence[Sequence[Match]]:
        """Matches of each layer: by one cost computation for all where the matcher is ours, else one by one."""
        if isinstance(self.matcher, HungarianMatcher) and type(self.matcher).forward is HungarianMatcher.forward:
            # One transfer to the host for all L layers instead of one each.
            return self.matcher.match_layers(layers, targets)
        return [self.matcher({k: v for k, v in o.items() if k != "aux_outputs"}, targets) for o in layers]

    def _get_src_permutation_idx(self, indices: Sequence[Match]) -> tuple[Tensor, Tensor]:
        """Index (N,) of the image and of the query of each matched pair, for losses of subclasses."""
        if isinstance(indices, BatchMatches):
            return indices.image, indices.query
        return _image_of_each(indices), torch.cat([queries for queries, _ in indices])

    def _get_tgt_permutation_idx(self, indices: Sequence[Match]) -> tuple[Tensor, Tensor]:
        """Index (N,) of the image, and of the object in it, of each matched pair, for losses of subclasses."""
        return _image_of_each(indices), torch.cat([objects for _, objects in indices])


def matches_of_batch(indices: Sequence[Match], targets: Sequence[Target], like: Tensor) -> BatchMatches:
    """Matches as `forward` hands them on; made from a plain list where a loss is called by somebody else."""
    return indices if isinstance(indices, BatchMatches) else match_batch([indices], targets, like)[0]


def _image_of_each(indices: Sequence[Match]) -> Tensor:
    return torch.cat([torch.full_like(queries, i) for i, (queries, _) in enumerate(indices)])


def boxes_of_all_processes(targets: Sequence[Target], like: Tensor) -> Tensor:
    """Objects of the targets, at least 1; with several processes their mean over these, on the device of `like`."""
    # DETR's num_boxes: the mean over processes, because DDP averages gradients afterwards, and 1 where no image has
    # objects, since a loss of 0 / 0 would be NaN.
    objects = like.new_tensor(float(sum(map(object_count, targets))))
    return reduce_mean(objects).clamp(min=1)


@torch.no_grad()
def class_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Per cent of matched queries (N, C+1) whose most likely class is not their object's; 100 without objects."""
    if labels.numel() == 0:
        return logits.new_tensor(100.0)
    return 100 * (logits.argmax(-1) != labels).float().mean()


#: Of `SetCriterion`: what a subclass, or somebody who replaces a method, may have others of.
OWN_METHODS: dict[str, Callable] = {
    name: getattr(SetCriterion, name) for name in ("get_loss", "loss_labels", "loss_cardinality", "loss_boxes")
}
