"""Names that flags take, kept apart from their meaning: this file needs no torch, and so `--help` needs none."""

#: --amp: each name with torch's name of the type that products are computed in; `util/dist/precision.py` uses them.
AMP_TYPES = {"off": None, "bf16": "bfloat16", "fp16": "float16"}

#: --encoder_attention, --decoder_self_attention, --cross_attention; `models/variants/sparse_attention.py` has them.
ATTENTIONS = ("softmax", "sparsemax", "entmax15", "alpha_entmax", "topk")

#: --lr_schedule; `util/runs/schedule.py` has the formulas.
SCHEDULES = ("step", "onecycle", "cosine")

#: --print_completion: the shells for which `util/completion.py` makes a script.
SHELLS = ("bash", "zsh")
