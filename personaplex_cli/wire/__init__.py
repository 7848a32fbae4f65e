"""The PersonaPlex wire protocol without I/O: values in, values out, time as an argument."""
