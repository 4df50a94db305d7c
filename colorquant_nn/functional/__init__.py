"""Pure tensor functions: no state, no input or output. Points are channels-last ``(..., N, C)``."""
