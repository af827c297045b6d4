"""A backbone that stays as it is in the first epochs, for --freeze_backbone."""

from torch import nn

from building import without_wrapper
from util.dist.distributed import get_world_size


class FrozenStart:
    """Keeps the backbone's weights and statistics unchanged in the first `epochs` epochs.

    An optimizer leaves alone what has no gradient, by weight decay, too; its groups are those of any other run. A
    single process computes no gradient for the backbone meanwhile, so that a step is shorter. Several do and drop it:
    DistributedDataParallel waits for the gradients of all that trained when it was built.
    """

    def __init__(self, model: nn.Module, epochs: int) -> None:
        named = without_wrapper(model).named_modules()
        # `backbone` of a DETR, `detr.backbone` under a mask head.
        backbones = [module for name, module in named if name.rpartition(".")[2] == "backbone"] if epochs else []
        self.parameters = [p for module in backbones for p in module.parameters() if p.requires_grad]
        self.epochs = epochs
        self.frozen = False
        for module in backbones:
            module.register_forward_pre_hook(self._keep_statistics)

    def begin(self, epoch: int) -> None:
        """Freeze the backbone or let it train, as is right for an epoch."""
        self.frozen = epoch < self.epochs
        # DistributedDataParallel has registered hooks on the parameters that trained when it was built; one whose
        # gradient never comes would make every process wait, so there only `drop_gradients` freezes.
        if get_world_size() == 1:
            for parameter in self.parameters:
                parameter.requires_grad_(not self.frozen)

    def drop_gradients(self) -> None:
        """Leave no gradient of a frozen backbone to the optimizer, nor to the norm that is clipped."""
        if self.frozen:
            for parameter in self.parameters:
                # None, not zeros: AdamW skips a parameter without a gradient, and would decay one whose gradient is 0.
                parameter.grad = None

    def _keep_statistics(self, backbone: nn.Module, _inputs: object) -> None:
        # Batch norms in training mode would go on averaging, without any gradient.
        if self.frozen:
            for module in backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
