"""FLOPs of torch's operators that cost the same for every element, by their names, with the families of the charts.

One for each add, subtract, multiply, divide, root, exponential, logarithm or trigonometric function. Comparisons,
selections, conversions, random numbers, copies and all work on integers are none, as with a GPU's counters.
"""

#: Families as the charts name them, and in each, by FLOPs per element of the (first) result, the operators.
_PER_OUTPUT: dict[str, dict[int, str]] = {
    "elementwise": {
        0: "sgn sign relu threshold_backward clamp clamp_min clamp_max maximum minimum where nan_to_num isnan isfinite "
        "eq ne lt le gt ge logical_not logical_and logical_or bitwise_not bitwise_and bitwise_or masked_fill "
        "floor ceil round",
        1: "add sub rsub mul div neg abs sqrt reciprocal exp expm1 log log1p log2 sin cos pow square tanh remainder "
        "floor_divide erf atan",
        2: "rsqrt softplus",
        3: "addcmul addcdiv lerp sigmoid sigmoid_backward tanh_backward logit",
        4: "silu",
        5: "gelu",
        6: "silu_backward",
        10: "gelu_backward",
    },
    "dropout": {0: "bernoulli", 1: "native_dropout native_dropout_backward"},
    "normalization": {8: "native_layer_norm native_group_norm"},
    "softmax": {4: "_softmax _safe_softmax _log_softmax _softmax_backward_data _log_softmax_backward_data"},
    "loss": {2: "mse_loss", 3: "smooth_l1_loss", 7: "binary_cross_entropy_with_logits"},
    "resize": {0: "upsample_nearest2d", 7: "upsample_bilinear2d", 35: "upsample_bicubic2d"},
    "pooling": {0: "max_pool2d_with_indices max_pool2d_with_indices_backward"},
    "copy": {0: "_to_copy copy clone cat stack constant_pad_nd flip repeat contiguous _pin_memory _local_scalar_dense"},
    "index and sort": {0: "sort topk argmax argmin nonzero max min amax amin any all"},
}
#: The same by FLOPs per element of the first tensor argument.
_PER_INPUT: dict[str, dict[int, str]] = {
    "reduction": {1: "sum mean prod cumsum cumprod", 2: "linalg_vector_norm norm", 4: "var var_mean std"},
    "normalization": {13: "native_layer_norm_backward native_group_norm_backward"},
    "loss": {0: "nll_loss_forward nll_loss_backward nll_loss2d_forward nll_loss2d_backward"},
    "resize": {1: "upsample_nearest2d_backward", 8: "upsample_bilinear2d_backward"},
    "pooling": {1: "avg_pool2d _adaptive_avg_pool2d"},
    "copy": {0: "slice_backward select_backward"},
    "optimizer": {1: "_amp_foreach_non_finite_check_and_unscale"},
}
#: Family, FLOPs per element, and if those are the elements of the first argument.
WEIGHTS: dict[str, tuple[str, int, bool]] = {
    name: (family, weight, first_input)
    for table, first_input in ((_PER_OUTPUT, False), (_PER_INPUT, True))
    for family, weights in table.items()
    for weight, names in weights.items()
    for name in names.split()
}
