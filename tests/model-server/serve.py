"""Serves a GGUF with llama.cpp's own HTTP server on a given port, until it is told to stop."""

import signal
import sys

import xllamacpp


def main(model, port):
    """Loads `model`, listens on 127.0.0.1:`port`, prints one line once it does, and waits."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"tiny"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 2048
    params.n_parallel = 2
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    # Blocked before any thread starts, so that every thread inherits the mask and sigwait gets the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main(sys.argv[1], int(sys.argv[2]))
