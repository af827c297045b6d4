"""Flags of other tools, each with the words that say the same here.

An unknown flag that is in the table is answered with them. `answer_to` knows which command it answers for: the words
may be several, parted by `|`, and the first whose flags that command has is meant.
"""

import re
from collections.abc import Collection, Mapping

#: The answer where leaving a flag out is all that there is to do.
_LEAVE = "leave it out"
#: Beginnings of answers that are commands.
COMMANDS = ("predict.py ", "torchrun ")

#: By tool: flag, in underscores, and answer. What this project has under the same name is not here.
TABLE: Mapping[str, Mapping[str, str]] = {
    "forks of DETR and Deformable DETR": {
        "num_class": "--num_classes",
        "n_classes": "--num_classes",
        "pretrained": "--init_from FILE",
        "pretrained_weights": "--init_from FILE",
        "pretrain_model_path": "--init_from FILE",
        "finetune": "--init_from FILE",
        "load": "--resume FILE",
        "test": "--eval",
        "eval_epoch": "--eval_every N",
        "eval_interval": "--eval_every N",
        "save_interval": "--checkpoint_every N",
        "accumulation_steps": "--accumulate N",
        "gradient_accumulation_steps": "--accumulate N",
        "fp16": "--amp fp16",
        "half": "--amp fp16",
        "use_amp": "--amp bf16",
        "amp_dtype": "--amp bf16",
        "use_ema": "--ema 0.999",
        "ema_decay": "--ema 0.999",
        "use_focal": "--focal",
        "dataset": "--dataset_file NAME",
        "dataset_path": "--data_path DIR",
        "data_dir": "--data_path DIR",
        "data_root": "--data_path DIR",
        "img_folder": "--train_images DIR|--input DIR",
        "ann_file": "--train_annotations FILE|--truth FILE",
        "train_json": "--train_annotations FILE",
        "val_json": "--val_annotations FILE",
        "pretrained_backbone": "--backbone_weights FILE",
        "lr_scheduler": "--lr_schedule NAME",
        "lr_drop_epochs": "--lr_drop N",
        "gpu": "--device cuda:0",
        "gpu_id": "--device cuda:0",
        "gpus": "torchrun --nproc_per_node=N main.py ... starts several processes",
        "num_gpus": "torchrun --nproc_per_node=N main.py ... starts several processes",
        "local_rank": f"{_LEAVE}: torchrun says it in the environment",
        "dist_backend": f"{_LEAVE}: NCCL on GPUs, gloo elsewhere",
        "cache_mode": f"{_LEAVE}: images are read from their files",
        "warmup": "--warmup_steps N",
        "debug": "--fast_dev_run 0.01",
        "section_name": "--section NAME",
        "visualize_attention": "predict.py --attention",
        "score_threshold": "--threshold X",
    },
    "CPPE-5's scripts": {
        "ckpt_store_path": "--output_dir DIR",
        "use_ckpt": "--init_from FILE trains from a checkpoint, --resume FILE --eval evaluates it|--resume FILE",
        "ckpt_path": "--init_from FILE trains from it, --resume FILE --eval evaluates it|--resume FILE",
        "dataset_dir": "--data_path DIR",
    },
    "sparse-detector": {
        "decoder_act": "--cross_attention NAME",
        "resume_from_checkpoint": "--resume FILE",
        "detr_config_file": "@FILE, with a flag a line",
        "detector_config_file": "@FILE, with a flag a line",
        "pre_alpha": "--cross_attention alpha_entmax learns them",
        "lr_alpha": "--alpha_lr_mult X",
        "exp_name": "--output_dir DIR",
        "wandb_log": "--logger jsonl,wandb",
    },
    "Detectron2": {
        "config_file": "@FILE, with a flag a line",
        "config": "@FILE, with a flag a line",
        "opts": f"{_LEAVE}: every setting is a flag",
        "output": "--output_dir DIR",
        "eval_only": "--eval",
        "confidence_threshold": "--threshold X",
        "webcam": "--input 0|predict.py --input 0",
        "video_input": "--input FILE|predict.py --input FILE",
        "weights": "--resume FILE",
        "num_machines": "torchrun --nnodes=N main.py ... starts several machines",
        "resume_latest": "--resume auto",
    },
    "Ultralytics": {
        "model": "--backbone NAME, or --resume FILE|--resume FILE",
        "data": "--data_path DIR|--input WHAT",
        "source": "--input WHAT|predict.py --input WHAT",
        "imgsz": "--image_size N",
        "img": "--image_size N",
        "img_size": "--image_size N",
        "batch": "--batch_size N",
        "workers": "--num_workers N",
        "lr0": "--lr X",
        "cos_lr": "--lr_schedule cosine",
        "patience": "--early_stop N",
        "save_period": "--checkpoint_every N",
        "project": "--output_dir DIR|--output DIR",
        "name": "--output_dir DIR|--output DIR",
        "save_dir": "--output_dir DIR|--output DIR",
        "exist_ok": "--overwrite",
        "freeze": "--freeze_layers N",
        "fraction": "--fast_dev_run FRACTION",
        "time": "--max_hours H",
        "optimizer": f"{_LEAVE}: it is AdamW, as in DETR",
        "momentum": f"{_LEAVE}: it is AdamW, as in DETR",
        "rect": "--aspect_grouping",
        "max_det": "--max_dets N|--top N",
        "conf": "--threshold X",
        "iou": "--nms IOU",
        "fliplr": "--no_flip",
        "flipud": "--vertical_flip",
        "degrees": "--rotate90",
        "hsv_h": "--color_jitter S",
        "hsv_s": "--color_jitter S",
        "hsv_v": "--color_jitter S",
        "scale": "--scale_jitter LO HI",
        "save_txt": "--yolo",
        "save_json": "--json",
        "save_crop": "--save_crops",
        "vid_stride": "--every N",
        "plots": f"{_LEAVE}: curves.png is always drawn",
        "val": "--eval",
    },
}

_WORDS = {word: answer for words in TABLE.values() for word, answer in words.items()}


def answer_to(flag: str, known: Collection[str]) -> str | None:
    """Return what to say to an unknown flag that another tool has; None where none of them has it.

    Args:
        flag: as it was typed; `--no-wandb-log` is answered as `--wandb_log` where the table has only that.
        known: the flags of the command. An answer with others is not given.
    """
    word = flag.lstrip("-").replace("-", "_").lower()
    # A word that this command knows gets no answer for its opposite.
    answers = _WORDS.get(word) or ("" if f"--{word}" in known else _without(word))
    for answer in answers.split("|") if answers else ():
        if answer.startswith(_LEAVE):
            return answer
        # A command that is named in the answer has flags of its own.
        if answer.startswith(COMMANDS) or flags_in(answer) <= set(known):
            return f"here it is {answer}"
    return None


def flags_in(answer: str) -> set[str]:
    """Return the flags that an answer names."""
    return set(re.findall(r"--\w+", answer))


def _without(word: str) -> str:
    """Return the answer to `--no_X` where the table has X, which is off unless a flag of ours is given."""
    positive = _WORDS.get(word[3:], "").split("|")[0] if word.startswith("no_") else ""
    return f"{_LEAVE}: it is off unless {positive} is given" if positive.startswith("--") else ""
