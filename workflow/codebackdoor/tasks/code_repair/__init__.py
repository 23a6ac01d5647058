"""Code repair: turn a defective function into the correct one."""
