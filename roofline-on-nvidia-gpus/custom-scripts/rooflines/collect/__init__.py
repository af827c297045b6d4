"""Commands of Nsight Compute and Nsight Systems: what to count on which GPU, and what their messages mean."""
