"""Process-wide matters: signals, compiled code, memory, CPU kernels."""
