"""Where a step's time goes, module by module, from a trace of torch.profiler."""
