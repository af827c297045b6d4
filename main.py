"""Train or evaluate a DETR detector.

    python main.py --dataset_file shapes --backbone resnet18 --backbone_weights none ...   no data needed
    python main.py --data_path DIR --output_dir runs/coco                                  COCO's layout
    python main.py --dataset_file custom --data_path DIR --output_dir runs/mine            your own data
    python main.py --data_path DIR --eval --resume runs/coco/best.pth                      evaluate, or a published file
    torchrun --nproc_per_node=8 main.py --data_path DIR --output_dir runs/coco             eight GPUs

`python main.py --help` lists the flags; names and defaults are those of the original DETR.
"""

import argparse
import datetime
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

# Before torch starts its threads: waiting ones spin for a moment, then sleep. Where a loader's worker or another program
# shares the cores, spinning without end makes a step on the CPU many times slower; sleeping at once costs an idle
# machine a fifth of its speed, for small models wait often and briefly.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "50000")

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import datasets
from datasets.check.preflight import check_before_training
from datasets.coco_eval import CocoEvaluator
from datasets.loader import make_loader, make_sampler, set_epoch
from engine import evaluate, train_one_epoch
from flags import check_flags, check_model_flags, get_args_parser, given_flags
from models import build_model, follow_checkpoint
from models.checkpoint_config import refuse_other_architecture
from models.fast.compiled import Compiled
from util.dist.device import pick_device, seed_everything, use_deterministic_algorithms
from util.dist.distributed import Launch, init_distributed, is_main_process, print_once, shutdown
from util.dist.launch import let_rank_0_speak
from util.dist.precision import Precision, pick_precision, use_tf32
from util.draw.sheets import draw_evaluation
from util.errors import UserError
from util.flags import FlagParser
from util.metrics import Progress
from util.profiling import annotate
from util.profiling.from_flags import build_phases, ends_with_its_window, report_costs, report_timing
from util.runs.accumulate import windows_of
from util.runs.checkpoint import find_resume, init_from, load_checkpoint, load_frozen, load_model
from util.runs.plain import to_plain
from util.runs.run_folder import RunFolder, restore_training, write_predictions
from util.runs.run_info import write_run_info
from util.runs.schedule import build_lr_scheduler

#: Measures the machine's ceilings for --count_costs; a program to run, for the roofline scripts stand alone.
CEILINGS = Path(__file__).parent / "roofline-on-nvidia-gpus" / "custom-scripts" / "ceilings.py"


def main(args: argparse.Namespace) -> None:
    """Build everything the flags ask for, then evaluate or train. Raises UserError for what the user can mend."""
    check_flags(args)
    args.device = str(pick_device(args.device))
    precision = pick_precision(args.amp, torch.device(args.device))
    if args.tf32:
        use_tf32(torch.device(args.device))
    if args.deterministic:
        use_deterministic_algorithms()
    launch = init_distributed(device=args.device, dist_url=args.dist_url, world_size=args.world_size)
    seed_everything(args.seed, rank=launch.rank)

    checkpoint_path = find_resume(args.resume, args.output_dir) or args.init_from
    checkpoint = load_checkpoint(checkpoint_path) if checkpoint_path else None
    if checkpoint is not None and not args.init_from:
        fit_flags(args, checkpoint, checkpoint_path)
    check_model_flags(args)
    frozen = load_checkpoint(args.frozen_weights) if args.frozen_weights else None
    if frozen is not None:
        refuse_other_architecture(frozen, args.frozen_weights, flags=vars(args))

    if args.dataset_file != "shapes":
        print_once(datasets.layout_from_flags(args).describe())
    dataset_train = None if args.eval else build_split("train", args)
    if dataset_train is not None:  # the class count is the training set's, and the validation set is checked against it
        args.num_classes = args.num_classes or datasets.unwrap(dataset_train).num_classes
    dataset_val = build_split("val", args)
    info = datasets.unwrap(dataset_val if args.eval else dataset_train)
    args.num_classes = args.num_classes or info.num_classes
    describe_data(dataset_train, dataset_val, info, args)
    if args.check and not args.eval:
        for line in check_before_training({"train": dataset_train, "val": dataset_val}):
            print_once(line)

    if checkpoint is not None or frozen is not None or launch.rank > 0:
        args.backbone_weights = "none"  # a checkpoint brings them; other ranks get those of rank 0
    model, criterion, postprocessors = build_model(args, is_thing_map=getattr(info, "is_thing", None))
    print_once(f"number of params: {count_trainable(model)}")
    if frozen is not None:
        print_once(load_frozen(model.detr, frozen, args.frozen_weights))
    if args.init_from:
        print_once(describe_init(*init_from(model, checkpoint), path=args.init_from))
        checkpoint = None
    elif checkpoint is not None:
        load_model(model, checkpoint, checkpoint_path)

    if args.output_dir and not args.eval and not ends_with_its_window(args) and is_main_process():
        write_run_info(args.output_dir, args)
    compiled = Compiled(model.detr if args.masks else model) if args.compile else None
    model = wrap_model(model, launch)
    loader_val = build_loader(dataset_val, args, launch, train=False, training_set=dataset_train)
    base_ds = datasets.get_coco_api_from_dataset(dataset_val)

    def evaluate_now() -> tuple[dict, CocoEvaluator]:
        results = evaluate(
            model,
            criterion,
            postprocessors,
            loader_val,
            base_ds,
            torch.device(args.device),
            args.output_dir,
            print_freq=args.print_freq,
            precision=precision,
        )
        if compiled is not None and (news := compiled.news()):
            print_once(news)
        return results

    if args.eval:
        if checkpoint is None:
            print_once("note: --eval without --resume measures a model that has not been trained")
        evaluator = evaluate_now()[1]
        if args.output_dir and is_main_process():
            print(f"wrote {', '.join(map(str, write_predictions(args.output_dir, evaluator)))}")
    else:
        loader_train = build_loader(dataset_train, args, launch, train=True)
        with annotate("training_loop"):
            evaluator = train(
                args, launch, model, criterion, loader_train, evaluate_now, checkpoint, info.class_names, precision
            )
    if evaluator is not None and args.output_dir and is_main_process():
        draw_evaluation(Path(args.output_dir) / "detections.png", dataset_val, evaluator)


def train(
    args: argparse.Namespace,
    launch: Launch,
    model: nn.Module,
    criterion: nn.Module,
    loader: DataLoader,
    evaluate_now: Callable[[], tuple[dict, CocoEvaluator]],
    checkpoint: dict | None,
    class_names: dict[int, str],
    precision: Precision,
) -> CocoEvaluator | None:
    """The epoch loop: train, evaluate, log, save. Returns the last evaluation, None when nothing was left to do."""
    optimizer = build_optimizer(model, lr=args.lr, lr_backbone=args.lr_backbone, weight_decay=args.weight_decay)
    steps_per_epoch = windows_of(len(loader), args.accumulate)
    start = restore_training(checkpoint, optimizer, args, steps_per_epoch=steps_per_epoch)
    precision.restore(checkpoint)
    total_steps = min(args.epochs * steps_per_epoch, args.max_steps or sys.maxsize)
    if start.step >= total_steps:
        print_once(f"nothing to do: step {start.step} of {total_steps} is done; raise --epochs or --max_steps to go on")
        return None
    lr_scheduler = build_lr_scheduler(
        optimizer,
        done_steps=start.step,
        schedule=args.lr_schedule,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        lr_drop=args.lr_drop,
        warmup_steps=args.warmup_steps,
    )
    phases = build_phases(
        section=args.section,
        timing=args.timing,
        torch_profile=args.torch_profile,
        count_costs=args.count_costs,
        warmup=args.profile_warmup,
        steps=args.profile_steps,
        go_on=args.profile_continue,
        device=torch.device(args.device),
        total_steps=total_steps - start.step,
    )
    store = (
        RunFolder(args.output_dir, first_epoch=start.epoch)
        if args.output_dir and is_main_process() and not phases.stop_when_done
        else None
    )
    progress = Progress(total=total_steps, done=start.step)
    step, best_ap, began = start.step, start.best_ap, time.monotonic()
    for epoch in range(start.epoch, args.epochs):
        set_epoch(loader, epoch)
        seed_everything(args.seed, rank=launch.rank, epoch=epoch)
        steps = min(steps_per_epoch, total_steps - step)
        with annotate("training_epoch"):
            train_stats = train_one_epoch(
                model,
                criterion,
                loader,
                optimizer,
                torch.device(args.device),
                epoch,
                args.clip_max_norm,
                lr_scheduler=lr_scheduler,
                steps=steps,
                print_freq=args.print_freq,
                progress=progress,
                phases=phases,
                precision=precision,
                accumulate=args.accumulate,
            )
        step += steps
        if phases.finished:
            progress.close()
            report_timing(phases, args)
            report_costs(phases, args, CEILINGS)
            print_once("profiled; the run ends here, without a checkpoint (--profile_continue goes on)")
            return None
        if phases.stop_when_done:  # between two epochs: an evaluation would write over the files of an earlier run
            continue
        test_stats, evaluator = evaluate_now()
        # Of masks where they are trained: over a frozen detector, boxes are the same in every epoch.
        ap = test_stats.get("coco_eval_masks", test_stats["coco_eval_bbox"])[0]
        is_best, best_ap = ap > best_ap, max(best_ap, ap)
        if store is not None:
            store.log(log_row(train_stats, test_stats, epoch, count_trainable(model)))
            store.save(
                {
                    "model": without_wrapper(model).state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "lr_scheduler": lr_scheduler.state_dict(),
                    "scaler": precision.scaler.state_dict(),
                    "epoch": epoch,
                    "args": to_plain(vars(args)),
                    "step": step,
                    "steps_per_epoch": steps_per_epoch,
                    "best_ap": best_ap,
                    "class_names": class_names,
                },
                is_best=is_best,
                keep=(epoch + 1) % args.lr_drop == 0 or (epoch + 1) % 100 == 0,
            )
        if step >= total_steps:
            break
    progress.close()
    report_timing(phases, args)
    report_costs(phases, args, CEILINGS)
    print_once(f"Training time {datetime.timedelta(seconds=int(time.monotonic() - began))}")
    return evaluator


def fit_flags(args: argparse.Namespace, checkpoint: dict, path: str) -> None:
    """Bring flags and a checkpoint to resume together: it decides for an evaluation, training must have the same model."""
    if args.eval:
        values, lines = follow_checkpoint(args, checkpoint, path, given=given_flags(args))
        vars(args).update(values)
        for line in lines:
            print_once(line)
    else:
        refuse_other_architecture(checkpoint, path, flags=vars(args))


def build_split(image_set: str, args: argparse.Namespace) -> Dataset:
    """A split's dataset, or the part of it that --fast_dev_run asks for."""
    return datasets.subset(datasets.build_dataset(image_set, args), args.fast_dev_run, args.seed)


def build_loader(
    dataset: Dataset, args: argparse.Namespace, launch: Launch, *, train: bool, training_set: Dataset | None = None
) -> DataLoader:
    """Batches of a split: shuffled and whole in training, in order and complete in evaluation.

    `training_set` is where the lengths of padded object lists come from, by default the split itself.
    """
    sampler = make_sampler(
        dataset,
        batch_size=args.batch_size,
        shuffle=train,
        seed=args.seed,
        rank=launch.rank,
        world_size=launch.world_size,
        aspects=datasets.aspect_ratios(dataset) if train and args.aspect_grouping else None,
    )
    return make_loader(
        dataset,
        sampler,
        batch_size=args.batch_size,
        drop_last=train,
        num_workers=args.num_workers,
        collate=datasets.build_collate(dataset, args, training_set=training_set),
        pin_memory=torch.device(args.device).type == "cuda",
    )


def describe_data(train_set: Dataset | None, val_set: Dataset, info: Dataset, args: argparse.Namespace) -> None:
    """Say what was found: images, classes, and images with more objects than there are queries."""
    sizes = [
        f"{len(ds)} {name} images" for name, ds in (("training", train_set), ("validation", val_set)) if ds is not None
    ]
    print_once(
        f"{args.dataset_file}: {', '.join(sizes)}; {len(info.class_names)} classes: {', '.join(info.class_names.values())}"
    )
    counts = info.object_counts()
    crowded = int((counts > args.num_queries).sum())
    if crowded:
        print_once(
            f"warning: --num_queries {args.num_queries} is less than the objects of {crowded} of {len(counts)} images (up to "
            f"{counts.max()}); the objects beyond it are not learned"
        )


def describe_init(loaded: list[str], left: list[str], *, path: str) -> str:
    """One line on what --init_from took over and what it left as it was."""
    rest = f"; left as initialised: {', '.join(left)}" if left else ""
    return f"--init_from {path}: {len(loaded)} tensors loaded{rest}"


def wrap_model(model: nn.Module, launch: Launch) -> nn.Module:
    """DistributedDataParallel around the model when there are several processes."""
    if not launch.distributed:
        return model
    # A 1x1 convolution's gradient in channels-last order lies in memory as its weight does; only the strides of the
    # sides of length 1 differ, so nothing has to be rearranged for the exchange.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    gpus = None if launch.gpu is None else [launch.gpu]
    return DistributedDataParallel(model, device_ids=gpus, gradient_as_bucket_view=True)


def without_wrapper(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def count_trainable(model: nn.Module) -> int:
    """Parameters that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def build_optimizer(model: nn.Module, *, lr: float, lr_backbone: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over two groups, the backbone with its own learning rate; the order is that of DETR's checkpoints."""
    trainable = [(n, p) for n, p in without_wrapper(model).named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in trainable if "backbone" not in n]},
        {"params": [p for n, p in trainable if "backbone" in n], "lr": lr_backbone},
    ]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)


def log_row(train_stats: dict, test_stats: dict, epoch: int, n_parameters: int) -> dict:
    """An epoch's line of log.txt with DETR's keys."""
    train_part = {f"train_{name}": value for name, value in train_stats.items()}
    test_part = {f"test_{name}": value for name, value in test_stats.items()}
    return train_part | test_part | {"epoch": epoch, "n_parameters": n_parameters}


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line: 0 when all went well, else one line on stderr and the error's exit code."""
    parser = FlagParser(prog="main.py", description=__doc__.splitlines()[0], parents=[get_args_parser()])
    try:
        main(parser.parse_args(argv))
    except UserError as error:
        if is_main_process() or not error.on_every_rank:
            print(f"main.py: error: {error.line()}", file=sys.stderr, flush=True)
        if error.on_every_rank:
            let_rank_0_speak(os.environ)
        return error.exit_code
    except KeyboardInterrupt:
        print_once("stopped; --resume auto goes on from the last epoch that was saved")
        return 130
    finally:
        shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(cli())
