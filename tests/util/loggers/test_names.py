"""Names in dashboards: the groups of the sparse-attention fork."""

from util.loggers.names import epoch_values, step_values

ATTENTION = "module.detr.transformer"


def test_numbers_of_steps_are_in_three_groups() -> None:
    means = {"loss": 3.0, "loss_ce_0": 1.0, "cardinality_error_unscaled": 2.0, "lr": 0.1, "step_time": 0.5}
    assert step_values(means | {"max_memory": 7.0, "grad_norm": 4.0}, step=20) == {
        "train-main-metrics/loss": 3.0,
        "train-metrics/loss_ce_0": 1.0,
        "train-main-metrics/cardinality_error_unscaled": 2.0,
        "train-extra-metrics/lr": 0.1,
        "train-extra-metrics/iter_time": 0.5,
        "train-extra-metrics/memory": 7.0,
        "train-extra-metrics/grad_norm": 4.0,
        "train-extra-metrics/global_step": 20,
    }


def test_numbers_of_an_epoch_are_in_groups_with_named_aps_and_alphas() -> None:
    row = {
        "train_loss": 2.0,
        "train_alpha": {
            f"{ATTENTION}.decoder.layers.1.multihead_attn": [1.5, 1.25],
            f"{ATTENTION}.encoder.layers.0.self_attn": [1.75],
        },
        "test_loss": 2.5,
        "test_coco_eval_bbox": [0.1 * k for k in range(12)],
        "test_PQ_all": {"pq": 0.5},
        "epoch": 3,
        "global_step": 40,
        "n_parameters": 9,
    }
    values = epoch_values(row)
    aps = {f"val-AP/{name}": 0.1 * k for k, name in enumerate(("mAP", "AP_50", "AP_75", "AP_S", "AP_M", "AP_L"))}
    alphas = {"alpha/layer_1-head_0": 1.5, "alpha/layer_1-head_1": 1.25, "alpha-encoder/layer_0-head_0": 1.75}
    others = {"train-epoch-main-metrics/loss": 2.0, "val-epoch-metrics/loss": 2.5, "val-PQ/PQ_all-pq": 0.5, "epoch": 3}
    assert values == aps | alphas | others
