"""Train or evaluate DETR with Detectron2.

python d2/train_net.py --config-file d2/configs/detr_256_6_6_torchvision.yaml --num-gpus 8
python d2/train_net.py --config-file d2/configs/detr_256_6_6_torchvision.yaml --eval-only MODEL.WEIGHTS converted.pth
"""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import build_detection_train_loader
from detectron2.engine import DefaultTrainer, default_argument_parser, default_setup, launch
from detectron2.evaluation import COCOEvaluator, verify_results
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm

from d2.detr import DetrDatasetMapper, add_detr_config
from util.errors import UserError


class Trainer(DefaultTrainer):
    """Detectron2's trainer with DETR's augmentation and optimizer, and COCO's evaluation."""

    @classmethod
    def build_evaluator(cls, cfg: Any, dataset_name: str, output_folder: str | None = None) -> Any:
        """COCO's evaluation; its results are written to `inference` in the run's folder, or to `output_folder`."""
        return COCOEvaluator(dataset_name, output_dir=output_folder or os.path.join(cfg.OUTPUT_DIR, "inference"))

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        """Batches for training; of another model than DETR with Detectron2's own augmentation."""
        is_detr = cfg.MODEL.META_ARCHITECTURE == "Detr"
        return build_detection_train_loader(cfg, mapper=DetrDatasetMapper(cfg, True) if is_detr else None)

    @classmethod
    def build_optimizer(cls, cfg: Any, model: torch.nn.Module) -> torch.optim.Optimizer:
        """AdamW (or SGD) with a rate of its own for the backbone; CLIP_TYPE "full_model" clips the whole gradient."""
        solver = cfg.SOLVER
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        # By whether "backbone" is in the name.
        rates = {True: solver.BASE_LR * solver.BACKBONE_MULTIPLIER, False: solver.BASE_LR}
        groups = [
            {"params": [p for name, p in trained if ("backbone" in name) is inside], "lr": rate}
            for inside, rate in rates.items()
        ]
        groups = [group for group in groups if group["params"]]  # a frozen detector has no backbone to train
        if solver.OPTIMIZER == "ADAMW":
            optimizer: Any = torch.optim.AdamW(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
        elif solver.OPTIMIZER == "SGD":
            options = {"momentum": solver.MOMENTUM, "weight_decay": solver.WEIGHT_DECAY}
            optimizer = torch.optim.SGD(groups, lr=solver.BASE_LR, **options)
        else:
            raise UserError(f"SOLVER.OPTIMIZER {solver.OPTIMIZER}: choose ADAMW or SGD")
        clip = solver.CLIP_GRADIENTS
        # DETR's own type is unknown to Detectron2, which would refuse it.
        if clip.CLIP_TYPE != "full_model":
            return maybe_add_gradient_clipping(cfg, optimizer)
        if clip.ENABLED and clip.CLIP_VALUE > 0:
            parameters = [p for _, p in trained]

            def clip_all(*_: Any) -> None:
                torch.nn.utils.clip_grad_norm_(parameters, clip.CLIP_VALUE, clip.NORM_TYPE)

            # Detectron2 itself clips each parameter alone; DETR the norm of all together.
            optimizer.register_step_pre_hook(clip_all)
        return optimizer


def setup(args: Any) -> Any:
    """Return the settings: Detectron2's and DETR's, changed by the config file and the command line."""
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def main(args: Any) -> Any:
    """Train, or with `--eval-only` evaluate; returns the results."""
    cfg = setup(args)
    if not args.eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    model = Trainer.build_model(cfg)
    DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    places = {"num_machines": args.num_machines, "machine_rank": args.machine_rank, "dist_url": args.dist_url}
    try:
        launch(main, args.num_gpus, **places, args=(args,))
    except UserError as error:
        print(f"train_net.py: error: {error.line()}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
