"""Train or evaluate a DETR detector.

    python main.py --dataset_file shapes --backbone resnet18 --backbone_weights none ...   no data needed
    python main.py --data_path DIR --output_dir runs/coco                                  COCO's layout
    python main.py --dataset_file custom --data_path DIR --output_dir runs/mine            your own data
    python main.py --data_path DIR --eval --resume runs/coco/best.pth                      evaluate, or a published file
    torchrun --nproc_per_node=8 main.py --data_path DIR --output_dir runs/coco             eight GPUs

`python main.py --help` lists the flags; names and defaults are those of the original DETR.
"""

import argparse
import os
import sys
from contextlib import ExitStack
from functools import partial
from typing import Any

# Before torch starts its threads: waiting ones spin for a moment, then sleep. Where a loader's worker or another
# program shares the cores, spinning without end makes a step on the CPU many times slower; sleeping at once costs an
# idle machine a fifth of its speed, for small models wait often and briefly.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "50000")

from flags import get_args_parser
from util.flags import FlagParser


def parse_flags(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a mistake in it is one line and exit code 2."""
    description = (__doc__ or "").splitlines()[0]
    return FlagParser(prog="main.py", description=description, parents=[get_args_parser()]).parse_args(argv)


#: Flags of the command line, parsed before torch is imported: --help and a misspelt flag are answered at once.
TYPED = parse_flags() if __name__ == "__main__" else None

from torch.utils.data import DataLoader

import building
import run_data
from building import Detector, Setup
from datasets.coco_eval import CocoEvaluator
from datasets.images import allow_pixels
from datasets.workers import describe_dead_worker
from engine import StepContext, evaluate
from flag_checks import check_flags
from flags.given import with_defaults
from reports import draw_last, evaluate_once
from settings import Place, find_weights, join, replace_flags, settle_classes, settle_flags
from training.attention_stats import report_attention
from training.cost_card import print_card
from training.loop import train
from training.lr_find import find_lr
from training.many_checkpoints import evaluate_checkpoints
from training.metrics import keep_metrics
from training.overfit import overfit
from training.preset import as_record
from training.prospects import warn_of_few_images
from training.record import keep_record
from training.start import choose_flags
from util.dist.distributed import is_main_process, only_rank_0, print_once, shutdown
from util.dist.host_memory import keep_freed_memory
from util.dist.launch import let_rank_0_speak
from util.dist.meeting import describe_lost
from util.errors import RunStopped, UserError
from util.profiling import annotate
from util.runs.atomic import remove_unfinished
from util.runs.class_names import label_order
from util.runs.lock import hold_folder
from util.runs.memory import memory_snapshot
from util.runs.other_run import refuse_other_run
from util.runs.record import Record
from util.runs.run_info import describe_git

#: Exit code of a process whose exchange with the others failed, for one of them ended or hangs.
LOST_RANK = 4


def main(args: argparse.Namespace) -> None:
    """Evaluate or train as the flags say; `args` is left as it is. Raises UserError for mistakes of the user."""
    args = with_defaults(args)
    # Before processes join and anything is read: a mistake is one line at once.
    check_flags(args)
    if args.print_shapes:
        return building.print_shapes(args)
    if args.describe:
        return building.describe_parameters(args)
    allow_pixels(args.max_pixels)
    if args.eval_checkpoints:
        return evaluate_checkpoints(args, main)
    place = join(args)
    with ExitStack() as held:
        if args.output_dir:
            # Held until the end: a second run here would overwrite the checkpoints, and is refused.
            only_rank_0(lambda: held.enter_context(hold_folder(args.output_dir)))
        held.enter_context(memory_snapshot(args.memory_snapshot, place.device))
        run_at(place, args, held.enter_context(Record()))


def run_at(place: Place, args: argparse.Namespace, record: Record) -> None:
    """Evaluate or train in a place; the run's folder, if it has one, is this run's alone."""
    weights = find_weights(args)
    wanted, choices, opened = choose_flags(args, weights, place)
    cfg = settle_flags(wanted, weights, place)
    print_once(f"git:\n  {describe_git()}\n\n{argparse.Namespace(**vars(cfg))}")  # DETR's lines
    # A checkpoint of --dense_labels knows the id of each label; the data must count them in the same order.
    labels = None if cfg.match_classes else label_order(weights.resume)
    data = run_data.build_data(cfg, labels, opened=opened)
    # Not before: what parsing a large annotation file frees goes back to the system.
    keep_freed_memory(place.device)
    if warning := warn_of_few_images(cfg, data, weights):
        print_once(warning)
    weights, num_classes = settle_classes(weights, cfg, data.classes(learned=not cfg.eval))
    run = Setup(args, replace_flags(cfg, num_classes=num_classes), place, data, as_record(choices))
    if run.folder:
        remove_unfinished(run.folder)
    only_rank_0(lambda: refuse_other_run(run.folder, run.cfg, resumed=weights.paths.get("resume")))
    keep_record(record, run)
    # After the data, which decides the number of classes.
    detector = building.build_detector(run, weights)
    loaders = run_data.build_loaders(data, run.cfg, place.launch)
    if run.cfg.cost_card and loaders.train is not None:
        return print_card(run, detector, loaders.train)
    if run.cfg.overfit:
        return overfit(run, detector, loaders.val, partial(evaluate_detector, run, detector))
    if run.cfg.lr_find and loaders.train is not None:
        return find_lr(run, detector, loaders.train)
    evaluate_now = partial(evaluate_detector, run, detector, loaders.val)

    if loaders.train is not None:
        with annotate("training_loop"):
            evaluator = train(run, detector, loaders.train, evaluate_now, weights)
        draw_last(run, evaluator)
    else:
        evaluate_once(run, evaluate_now, trained=bool(weights.paths))
        report_attention(run, detector, loaders.val)


def evaluate_detector(run: Setup, detector: Detector, loader: DataLoader) -> tuple[dict[str, Any], CocoEvaluator]:
    """Evaluate on a loader's images, and say how much --compile compiled meanwhile."""
    # Images without any annotation: no losses, and nothing to compare with.
    only_predict = run.cfg.eval and not run.data.truth.anns
    results = evaluate(
        detector.model,
        None if only_predict else detector.criterion,
        detector.postprocessors,
        loader,
        run.data.truth,
        run.place.device,
        run.cfg.output_dir,
        context=StepContext(
            run.place.precision,
            after_batch=run.place.memory.after_batch,
            print_freq=run.cfg.print_freq,
            max_dets=run.cfg.max_dets,
        ),
    )
    if run.cfg.eval:
        keep_metrics(run, detector, results[0], None)
    if detector.compiled is not None and (news := detector.compiled.news()):
        print_once(news)
    return results


def cli(argv: list[str] | None = None, *, typed: argparse.Namespace | None = None) -> int:
    """Run from the command line, or with flags that are parsed already.

    Returns 0 when all went well, else the error's exit code after one line on stderr.
    """
    try:
        main(parse_flags(argv) if typed is None else typed)
    except UserError as error:
        if is_main_process() or not error.on_every_rank:
            print(f"main.py: error: {error.line()}", file=sys.stderr, flush=True)
        if error.on_every_rank:
            let_rank_0_speak(os.environ)
        return error.exit_code
    except RunStopped as stopped:
        return stopped.exit_code
    except RuntimeError as error:
        if dead := describe_dead_worker(error):
            print(f"main.py: error: {dead}", file=sys.stderr, flush=True)
            return UserError.exit_code
        lost = describe_lost(error)
        if lost is None:
            raise
        if lost:
            print(f"main.py: error: {lost}", file=sys.stderr, flush=True)
        return LOST_RANK
    except KeyboardInterrupt:
        print_once("stopped; --resume auto goes on from what was saved last")
        return 130
    finally:
        shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(cli(typed=TYPED))
